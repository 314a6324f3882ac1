#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""PNGs of every colour type, depth and interlacing, with and without transparency, through the image decoder: crops that are
not resized must be the pixels that were written, as converted by the words of the manual; where Pillow converts in the same
way, also what Pillow reads. Cut, damaged, huge and broken ones are refused with a sentence.

    png.py IMAGEROW

Exit codes: 0, 1 something differs, 77 skipped, with the reason.
"""
import io
import os
import random
import struct
import subprocess
import sys
import tempfile
import zlib

sys.dont_write_bytecode = True
try:
    import numpy as np
    from PIL import Image
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
CHANNELS = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGBA: 4}
DEPTHS = {GREY: (1, 2, 4, 8, 16), RGB: (8, 16), PALETTE: (1, 2, 4, 8), GREY_ALPHA: (8, 16), RGBA: (8, 16)}
SIZES = ((1, 1), (3, 2), (7, 9), (33, 21), (5, 70))  # width, height; interlaced ones without some passes, too
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
BACKGROUNDS = {"": (255, 255, 255), "10/200/90": (10, 200, 90), "128": (128, 128, 128)}
EXIF = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"  # orientation 6

draw = random.Random(int(os.environ.get('PFEED_TEST_SEED', '1')))


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def packed(samples, depth):
    """(height, values in a row) -> rows of bytes"""
    if depth == 16:
        return [row.astype(">u2").tobytes() for row in samples]
    bits = np.unpackbits(samples.astype(np.uint8)[:, :, None], axis=2)[:, :, 8 - depth:]
    return [np.packbits(row.reshape(-1)).tobytes() for row in bits]


def paeth(a, b, c):
    pa, pb, pc = abs(b - c), abs(a - c), abs(a + b - 2 * c)
    return a if pa <= pb and pa <= pc else b if pb <= pc else c


def filtered(rows, step):
    out, above = b"", bytes(len(rows[0]) if rows else 0)
    for row in rows:
        kind = draw.randrange(5)
        left, corner = bytes(step) + row, bytes(step) + above
        guess = {0: lambda i: 0, 1: lambda i: left[i], 2: lambda i: above[i], 3: lambda i: (left[i] + above[i]) // 2,
                 4: lambda i: paeth(left[i], above[i], corner[i])}[kind]
        out += bytes([kind]) + bytes((row[i] - guess(i)) & 255 for i in range(len(row)))
        above = row
    return out


class Png:
    def __init__(self, kind, depth, interlaced, transparent, width, height):
        self.name = f"type {kind} depth {depth} interlaced {interlaced} transparent {transparent} {width}x{height}"
        self.kind, self.depth, self.transparent = kind, depth, transparent
        self.width, self.height = width, height
        numbers = np.random.default_rng(draw.randrange(1 << 30))
        self.palette = numbers.integers(0, 256, (draw.randrange(1, (1 << depth) + 1) if kind == PALETTE else 1, 3))
        top = len(self.palette) if kind == PALETTE else 1 << depth
        self.samples = numbers.integers(0, top, (height, width, CHANNELS[kind]))
        if draw.randrange(2) and kind in (GREY, RGB):
            self.samples[numbers.integers(0, 2, (height, width)) == 0] = self.samples[0, 0]
        self.key = self.samples[height // 2, width // 2].copy()
        if depth == 16 and width > 2:  # the same high byte is not yet the same colour
            self.samples[0, 1] = self.key ^ 1
        self.alphas = numbers.integers(0, 256, draw.randrange(1, len(self.palette) + 1))
        self.before = [chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, interlaced))]
        self.before += [chunk(b"gAMA", struct.pack(">I", 100000)), chunk(b"tEXt", b"x\0" + bytes(300000))][:draw.randrange(3)]
        if kind == PALETTE:
            self.before.append(chunk(b"PLTE", self.palette.astype(np.uint8).tobytes()))
        if transparent:
            self.before.append(chunk(b"tRNS", self.alphas.astype(np.uint8).tobytes() if kind == PALETTE else
                                     self.key.astype(">u2").tobytes()))
        passes = ADAM7 if interlaced else ((0, 0, 1, 1),)
        data = b""
        for x, y, dx, dy in passes:
            part = self.samples[y::dy, x::dx]
            if part.size:
                data += filtered(packed(part.reshape(len(part), -1), depth), max(1, depth * CHANNELS[kind] // 8))
        self.data = zlib.compress(data)
        cuts = sorted(draw.randrange(len(self.data)) for _ in range(draw.randrange(4)))
        self.parts = [self.data[a:b] for a, b in zip([0] + cuts, cuts + [len(self.data)])]

    def bytes(self, extra=()):
        return b"".join([b"\x89PNG\r\n\x1a\n", *self.before, *extra, *(chunk(b"IDAT", part) for part in self.parts),
                         chunk(b"IEND", b"")])

    def rgba(self):
        s, alpha = self.samples, np.full((self.height, self.width), 255)
        if self.kind == PALETTE:
            colour = self.palette[s[:, :, 0]]
            if self.transparent:
                alpha = np.concatenate((self.alphas, np.full(256, 255)))[s[:, :, 0]]
        else:
            if self.transparent:
                alpha = np.where((s == self.key).all(axis=2), 0, 255)
            eight = s >> 8 if self.depth == 16 else s * 255 // ((1 << self.depth) - 1)
            colour = np.repeat(eight[:, :, :1], 3, axis=2) if self.kind in (GREY, GREY_ALPHA) else eight[:, :, :3]
            if self.kind in (GREY_ALPHA, RGBA):
                alpha = eight[:, :, -1]
        return colour, alpha

    def over(self, background):
        colour, alpha = self.rgba()
        return (2 * (colour * alpha[:, :, None] + np.array(background) * (255 - alpha[:, :, None])) + 255) // 510

    def as_pillow_does(self, data, background):
        """None where Pillow means something else: 16 bits of grey, colours of 16 bits that are transparent, few bits of grey"""
        if self.kind in (GREY, GREY_ALPHA) and self.depth != 8 or self.transparent and self.depth == 16:
            return None
        with Image.open(io.BytesIO(data)) as picture:
            picture = picture.convert("RGBA")
        under = Image.new("RGB", picture.size, background)
        under.paste(picture, mask=picture.getchannel("A"))
        return np.asarray(under)


class Decoder:
    """imagerow, a picture a line"""

    def __init__(self, imagerow, folder):
        self.path = os.path.join(folder, "picture.png")
        self.process = subprocess.Popen([imagerow, "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def row(self, data, width, height, words="", decode="image"):
        """What comes out, and the crop that it is; or the sentence."""
        with open(self.path, "wb") as file:
            file.write(data)
        image = decode + "".join(f":{word}" for word in words.split())
        line = "\t".join((self.path, "1", "uint8", "hwc", image, f"center_crop:size={height}/{width}"))
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().decode().rstrip("\n")
        if not answer:
            sys.exit(f"imagerow ended with {self.process.wait()}")
        if answer.startswith("error "):
            return answer[6:], None
        fields = answer.split()
        pixels = np.frombuffer(self.process.stdout.read(int(fields[1])), np.uint8).reshape(height, width, -1)
        return pixels, [int(n) for n in fields[fields.index("crop") + 1:][:4]]


def compare(decoder, png, width, height, background):
    words = f"background={background}" if background else ""
    got, crop = decoder.row(png.bytes(), width, height, words)
    if crop is None:
        return f"{png.name}: {got}"
    x, y = crop[:2]
    for who, wanted in (("what was written", png.over(BACKGROUNDS[background])),
                        ("Pillow", png.as_pillow_does(png.bytes(), BACKGROUNDS[background]))):
        if wanted is not None and (got != wanted[y:y + height, x:x + width]).any():
            return f"{png.name}, {width}x{height} at {x},{y} over '{background}': not {who}"
    return None


def every_kind(decoder):
    count = 0
    for kind, depths in DEPTHS.items():
        for depth in depths:
            for interlaced in (0, 1):
                for transparent in (False, True) if kind in (GREY, RGB, PALETTE) else (False,):
                    for width, height in SIZES:
                        png = Png(kind, depth, interlaced, transparent, width, height)
                        for w, h in {(width, height), ((width + 1) // 2, (height + 2) // 3)}:
                            wrong = compare(decoder, png, w, h, draw.choice(list(BACKGROUNDS)))
                            if wrong:
                                return wrong
                            count += 1
    print(f"{count} crops of every kind")
    return None


def every_mask(decoder):
    """Classes as they are stored; one after the other, as what one leaves behind must not be seen in the next."""
    count = 0
    for kind, depth in [(kind, depth) for kind in (GREY, PALETTE) for depth in (1, 2, 4, 8)] * 2:
        for interlaced in (0, 1):
            for width, height in SIZES:
                png = Png(kind, depth, interlaced, False, width, height)
                got, crop = decoder.row(png.bytes(), width, height, decode="mask")
                if crop is None or (got != png.samples).any():
                    return f"{png.name} as a mask: {got if crop is None else 'other classes'}"
                count += 1
    print(f"{count} masks")
    return None


def refused(decoder, data, word, what, words="", width=8, height=8):
    got, crop = decoder.row(data, width, height, words)
    if crop is not None:
        return f"{what}: taken"
    return None if word in got else f"{what}: '{got}' has no '{word}'"


def broken_ones(decoder):
    """Each a reason to fail, or None."""
    count = taken = 0
    for kind, interlaced in ((RGB, 0), (RGBA, 1), (PALETTE, 0), (GREY, 1)):
        png = Png(kind, 8, interlaced, kind == PALETTE, 40, 30)
        whole = png.bytes()
        end = len(whole) - 12  # IEND, which nobody needs
        for cut in [9, 20, 33, 40] + [draw.randrange(8, end) for _ in range(60)]:
            got, crop = decoder.row(whole[:cut], 40, 30)  # all of it: what lies below a crop is not read
            if crop is None and "PNG: " not in got:
                yield f"{png.name} cut at {cut}: '{got}' has no 'PNG: '"
            # the last parts may be empty
            if crop is not None and (any(png.parts[-1:]) or (got != png.over((255, 255, 255))).any()):
                yield f"{png.name} cut at {cut}: taken"
            count += 1
        where = [i for part in png.before + [chunk(b"IDAT", part) for part in png.parts]
                 if part[4] & 32 == 0 or part[4:8] == b"tRNS" for i in range(whole.index(part), whole.index(part) + len(part))]
        for at in [draw.choice(where) for _ in range(150)]:
            data = bytearray(whole)
            data[at] ^= 1 << draw.randrange(8)
            got, crop = decoder.row(bytes(data), 40, 30)
            # what looks like another chunk that nobody needs is left out; never are there other pixels
            taken += crop is not None
            if crop is not None and (got != png.over((255, 255, 255))).any():
                yield f"{png.name} damaged at {at}: taken"
            count += 1
    yield f"{taken} damaged ones are taken" if taken > count // 20 else None
    head = struct.pack(">II", 65501, 1)
    yield refused(decoder, whole[:8] + chunk(b"IHDR", head + b"\x08\x02\0\0\0") + whole[33:], "65500", "a side too long")
    head = struct.pack(">II", 0x7fffffff, 0x7fffffff)
    yield refused(decoder, whole[:8] + chunk(b"IHDR", head + b"\x10\x06\0\0\1") + whole[33:], "PNG: ", "a huge head")
    yield refused(decoder, whole[:8] + chunk(b"IHDR", struct.pack(">II", 0, 5) + b"\x08\x02\0\0\0") + whole[33:], "PNG: ", "no width")
    yield refused(decoder, Png(RGB, 8, 0, False, 40, 30).bytes(), "max_pixels", "too many pixels", "max_pixels=1199")
    yield refused(decoder, Png(RGB, 8, 1, False, 40, 30).bytes(), "max_progressive", "interlaced", "max_progressive=1199")
    png = Png(PALETTE, 8, 0, False, 40, 30)
    png.before = [part for part in png.before if part[4:8] != b"PLTE"]
    yield refused(decoder, png.bytes(), "PNG: ", "no palette")
    png = Png(RGB, 8, 0, False, 40, 30)
    png.parts = [zlib.compress(zlib.decompress(png.data)[:-1])]
    yield refused(decoder, png.bytes(), "PNG: ", "a byte too few", width=40, height=30)
    print(f"{count} cut or damaged, and broken heads")


def other_things(decoder):
    # Below the crop nothing is read: of many parts the last is another one's.
    png = Png(RGB, 8, 0, False, 60, 60)
    png.parts = [png.data[i:i + 500] for i in range(0, len(png.data), 500)]
    data = bytearray(png.bytes())
    data[-30] ^= 255
    got, crop = decoder.row(bytes(data), 60, 20)
    yield "damage below the crop is seen" if crop is None else None
    yield refused(decoder, bytes(data), "PNG: cut or damaged", "damage in the crop", width=60, height=60)
    # Text, however much, and profiles that are no profiles.
    png = Png(RGB, 8, 0, False, 20, 20)
    extra = [chunk(b"zTXt", b"x\0\0" + zlib.compress(bytes(30 << 20))), chunk(b"iCCP", b"no profile"), chunk(b"abCd", bytes(9 << 20))]
    got, crop = decoder.row(png.bytes(extra), 20, 20)
    yield f"with much text: {got}" if crop is None else None
    # EXIF's orientation 6: the stored picture's left column, from below, is the first row.
    png = Png(RGB, 8, 0, False, 30, 20)
    for words, wanted in (("", png.over((0, 0, 0))), ("orientation=yes", np.rot90(png.over((0, 0, 0)), -1))):
        got, crop = decoder.row(png.bytes([chunk(b"eXIf", EXIF)]), wanted.shape[1], wanted.shape[0], words)
        yield f"orientation '{words}': {got}" if crop is None or (got != wanted).any() else None


def main():
    with tempfile.TemporaryDirectory() as folder:
        decoder = Decoder(sys.argv[1], folder)
        wrong = every_kind(decoder) or every_mask(decoder)
        wrongs = [wrong] if wrong else [wrong for test in (broken_ones, other_things) for wrong in test(decoder) if wrong]
        for wrong in wrongs:
            print(wrong, file=sys.stderr)
        decoder.process.stdin.close()
        if decoder.process.wait() != 0:
            wrongs.append("imagerow")
    return 1 if wrongs else 0


sys.exit(main())
