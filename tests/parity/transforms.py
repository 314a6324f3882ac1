#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Each transform against Pillow, and torchvision where that is installed, with the draws computed anew from the manual.

    transforms.py IMAGEROW MKJPEG

Prints a line per check with its worst case. Exit codes: 0 all bounds hold, 1 not, 77 skipped, with the reason.
"""
import os
import random
import sys
import tempfile

sys.dont_write_bytecode = True  # the sources may be read-only, and stay clean
try:
    import numpy as np
    from PIL import Image, ImageOps
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

import colours
import draws
import parity
import pictures

SIZES = ((33, 21), (64, 48), (40, 90), (128, 128), (7, 150))
SEEDS = 12


class Checks(parity.Table):
    def same(self, check, ours, theirs, case):
        ours, theirs = np.asarray(ours), np.asarray(theirs)
        if ours.shape != theirs.shape:
            raise ValueError(f"{check}, {case}: {ours.shape} where {theirs.shape} was expected")
        self.add(f"{check}: values that differ", 0, int((ours != theirs).sum()), case)

    def near(self, check, ours, theirs, case, most):
        gap = np.abs(np.asarray(ours, np.float64) - np.asarray(theirs, np.float64))
        self.add(f"{check}: largest difference", most, float(gap.max()), case)


def word(name, **settings):
    """A transform in imagerow's words."""
    text = name
    for key, value in settings.items():
        if isinstance(value, bool):
            value = "yes" if value else "no"
        text += f":{key}={'/'.join(map(str, value)) if isinstance(value, (tuple, list)) else value}"
    return text


class Picture:
    def __init__(self, tool, path):
        self.tool, self.path, self.image = tool, path, Image.open(path).convert("RGB")

    def row(self, seed, *words, dtype="uint8", layout="hwc"):
        return self.tool.row(self.path, seed, dtype, layout, words)[0]


# --- places ---------------------------------------------------------------------------------------------------------------------


def check_flips(checks, picture, seed, case):
    width, height = picture.image.size
    for name, turned in (("horizontal_flip", Image.FLIP_LEFT_RIGHT), ("vertical_flip", Image.FLIP_TOP_BOTTOM)):
        expected = picture.image.transpose(turned) if draws.Draw(name, seed).unit() < 0.5 else picture.image
        ours = picture.row(seed, word("resize", size=(height, width)), word(name))
        checks.same(f"{name} against Pillow's transpose", ours, expected, case)


def crop_expected(image, seed, size, padding, pad_if_needed, fill):
    """torchvision's RandomCrop by Pillow."""
    image = ImageOps.expand(image, padding, fill)
    width, height = image.size
    if pad_if_needed:
        lacks = (max(0, size[1] - width), max(0, size[0] - height))
        image = ImageOps.expand(image, (*lacks, *lacks), fill)
    draw = draws.Draw("random_crop", seed)
    y = draw.below(image.height - size[0] + 1)
    x = draw.below(image.width - size[1] + 1)
    return image.crop((x, y, x + size[1], y + size[0]))


def check_crops(checks, picture, seed, case):
    width, height = picture.image.size
    fill = (12, 200, 77)
    cases = (
        ((height // 2 + 1, width // 2 + 1), (0, 0, 0, 0), False),
        ((height, width), (4, 4, 4, 4), False),
        ((height + 2, width + 5), (1, 2, 4, 3), False),
        ((height + 30, width + 17), (0, 0, 0, 0), True),
        ((height + 3, width), (3, 0, 2, 1), True),
    )
    for size, padding, pad_if_needed in cases:
        if any(padding) and not pad_if_needed and (size[0] > height + padding[1] + padding[3] or size[1] > width + padding[0] + padding[2]):
            continue
        expected = crop_expected(picture.image, seed, size, padding, pad_if_needed, fill)
        ours = picture.row(seed, word("random_crop", size=size, padding=padding, pad_if_needed=pad_if_needed, fill=fill))
        checks.same("random_crop against Pillow's expand and crop", ours, expected, f"{case} {size} {padding}")
    # after a flip, the padded picture is the flipped one
    flipped = picture.image.transpose(Image.FLIP_TOP_BOTTOM)
    expected = crop_expected(flipped, seed, (height, width), (5, 1, 0, 9), False, fill)
    ours = picture.row(seed, word("vertical_flip", p=1), word("random_crop", size=(height, width), padding=(5, 1, 0, 9), fill=fill))
    checks.same("random_crop of a flipped picture", ours, expected, case)


def check_resizes(checks, picture, seed, case):
    chooser = random.Random(seed)
    size = chooser.randint(5, 120), chooser.randint(5, 120)
    for name, method in (("bilinear", Image.BILINEAR), ("bicubic", Image.BICUBIC), ("nearest", Image.NEAREST)):
        expected = ImageOps.pad(picture.image, size[::-1], method, (9, 90, 250))
        ours = picture.row(seed, word("resize", size=size, pad=True, fill=(9, 90, 250), interpolation=name))
        what = f"resize with pad, {name}, against Pillow's ImageOps.pad"
        if name == "nearest":
            checks.same(what, ours, expected, f"{case} {size}")
        else:
            checks.near(what, ours, expected, f"{case} {size}", 1)
    ours = picture.row(seed, word("resize", size=size, interpolation="nearest"))
    checks.same("resize, nearest, against Pillow", ours, picture.image.resize(size[::-1], Image.NEAREST), f"{case} {size}")
    x, y, wide, high = draws.part(draws.Draw("random_resized_crop", seed), *picture.image.size, (0.08, 1), (0.75, 1.3333333333333333))
    expected = picture.image.crop((x, y, x + wide, y + high)).resize(size[::-1], Image.NEAREST)
    ours = picture.row(seed, word("random_resized_crop", size=size, interpolation="nearest"))
    checks.same("random_resized_crop, nearest, draw and all, against Pillow", ours, expected, f"{case} {size}")


# --- colours --------------------------------------------------------------------------------------------------------------------

JITTERS = (
    {"brightness": 0.4},
    {"contrast": 0.4},
    {"saturation": 0.4},
    {"hue": 0.1},
    {"hue": (0.2, 0.5)},
    {"brightness": (0.5, 3), "contrast": (1.5, 2), "saturation": 2.5, "hue": 0.5},
    {"brightness": 0.8, "contrast": 0.8, "saturation": 0.8, "hue": 0.2, "p": 0.8},
)


def check_vision(checks, name, ours, theirs, case):
    """torch fuses some products and sums, and its grey falls short of whole numbers: a value is one step off now and then."""
    gap = np.abs(ours.astype(int) - theirs)
    checks.add(f"{name} against torchvision: largest difference", 1, int(gap.max()), case)
    checks.add(f"{name} against torchvision: share that differs", 0.5, 100 * (gap > 0).mean(), case, "%")


def check_jitter(checks, picture, seed, case):
    height, width = picture.image.height - 3, picture.image.width - 3
    crop = word("random_crop", size=(height, width))
    pixels = picture.row(seed, crop)
    for settings in JITTERS:
        changes = colours.jitter(draws.Draw("color_jitter", seed), settings)
        expected = theirs = pixels
        for name, factor in changes:
            expected = colours.CHANGES[name](expected, factor)
        ours = picture.row(seed, crop, word("color_jitter", **settings))
        what = f"{case} {settings}"
        checks.same("color_jitter, draw and all, against its formulas", ours, expected, what)
        if colours.vision and len(changes) == 1:  # of one alone: the next would see what differs
            checks_name = changes[0][0]
            check_vision(checks, checks_name, ours, colours.by_vision(checks_name, theirs, changes[0][1]), what)
        whole = picture.row(seed, crop, word("color_jitter", **settings), layout="chw", dtype="float32")
        checks.near("color_jitter, float32", whole * np.float64(255), ours, what, 1e-4)
        checks.same("color_jitter, chw against hwc", picture.row(seed, crop, word("color_jitter", **settings), layout="chw"), ours, what)


def check_grayscale(checks, picture, seed, case):
    size = word("resize", size=(30, 40))
    pixels = picture.row(seed, size)
    for p in (1, 0.5, 0):
        expected = colours.grayscale(pixels) if draws.Draw("grayscale", seed).unit() < p else pixels
        ours = picture.row(seed, size, word("grayscale", p=p))
        checks.same("grayscale, draw and all, against its formula", ours, expected, f"{case} p {p}")
    if colours.vision:
        ours = picture.row(seed, size, word("grayscale"))
        check_vision(checks, "grayscale", ours, colours.by_vision("grayscale", pixels), case)


def check_both(checks, picture, seed, case):
    """The list's order, and flips behind colours, which change no colour."""
    jitter = word("color_jitter", contrast=(1.5, 2))
    size = word("resize", size=(30, 40))
    changes = colours.jitter(draws.Draw("color_jitter", seed), {"contrast": (1.5, 2)})
    pixels = picture.row(seed, size)
    for words, first in (((jitter, word("grayscale")), True), ((word("grayscale"), jitter), False)):
        expected = pixels
        for name, factor in changes if first else ():
            expected = colours.CHANGES[name](expected, factor)
        expected = colours.grayscale(expected)
        for name, factor in () if first else changes:
            expected = colours.CHANGES[name](expected, factor)
        checks.same("color_jitter and grayscale in the list's order", picture.row(seed, size, *words), expected, case)
        flipped = picture.row(seed, size, *words, word("horizontal_flip", p=1))
        checks.same("colours, then a flip", flipped, expected[:, ::-1], case)


# --- finished rows --------------------------------------------------------------------------------------------------------------

NORMALIZE = word("normalize", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def check_erasing(checks, picture, seed, case):
    size, channels = word("resize", size=(30, 40)), (0.5, -2.25, 100)
    plain = {dtype: picture.row(seed, size, NORMALIZE, dtype=dtype) for dtype in ("float32", "float16")}
    plain["uint8"] = picture.row(seed, size)
    recipes = (
        ({"value": 0}, "float16"),
        ({"p": 0.9, "value": channels, "scale": (0.3, 0.9), "ratio": (0.1, 10)}, "float32"),
        ({"p": 1, "value": (1, 254.5, 3), "scale": (0.1, 0.1)}, "uint8"),
        ({"p": 1, "value": "random"}, "float32"),
        ({"p": 1, "value": "random"}, "float16"),
    )
    for settings, dtype in recipes:
        draw = draws.Draw("random_erasing", seed)
        place = draws.erased(draw, 40, 30, settings.get("p", 0.5), settings.get("scale", (0.02, 0.33)), settings.get("ratio", (0.3, 3.3)))
        expected = plain[dtype].copy()
        if place:
            x, y, wide, high = place
            part = expected[y : y + high, x : x + wide]
            if settings["value"] == "random":
                part[:] = np.reshape(draws.noise(draw, 3 * high * wide), (3, high, wide)).transpose(1, 2, 0)
            else:
                part[:] = np.floor(np.add(settings["value"], 0.5)) if dtype == "uint8" else settings["value"]
        words = [size, word("random_erasing", **settings)] if dtype == "uint8" else [size, NORMALIZE, word("random_erasing", **settings)]
        for layout in ("hwc", "chw"):
            ours = picture.row(seed, *words, dtype=dtype, layout=layout)
            what = f"{case} {settings} {dtype} {layout}"
            if settings["value"] == "random":  # the last bit of a float is not the definition's
                checks.near(f"random_erasing, noise against Python's quantile, {dtype}", ours, expected, what, 5e-7 if dtype == "float32" else 4e-3)
                outside = np.ones(ours.shape[:2], bool)
                outside[y : y + high, x : x + wide] = False
                checks.same("random_erasing, beside its noise", ours[outside], expected[outside], what)
            else:
                checks.same("random_erasing, draw and all", ours, expected, what)


# --- masks ----------------------------------------------------------------------------------------------------------------------


def classes(width, height, most):
    """A map of classes without symmetry, whose edges lie anywhere."""
    y, x = np.mgrid[:height, :width]
    return ((x * x // 40 + y * 3 // 7 + (x * y) // 29) % (most + 1)).astype(np.uint8)


def mask_files(place, width, height):
    """(kind, path, classes): every kind of one channel that Pillow writes."""
    for most, kind in ((1, "1"), (3, "P2"), (15, "P4"), (250, "P"), (255, "L")):
        found = classes(width, height, most)
        path = os.path.join(place, f"{kind}.png")
        image = Image.fromarray(found * (255 if kind == "1" else 1), "L")
        if kind == "1":
            image.convert("1").save(path)
        elif kind == "L":
            image.save(path)
        else:
            image = Image.fromarray(found, "P")
            image.putpalette(bytes((i * 7 + 3 * c) % 256 for i in range(256) for c in range(3)))
            image.save(path, bits={3: 2, 15: 4, 250: 8}[most])
        yield kind, path, found


def check_masks(checks, picture, seed, case):
    """Numbers of classes as they are stored, moved as Pillow's nearest neighbours, and as the picture is."""
    width, height = picture.image.size
    size = (37, 29)
    recipe = (word("random_resized_crop", size=size), word("horizontal_flip"), word("vertical_flip"))
    x, y, wide, high = draws.part(draws.Draw("random_resized_crop", seed), width, height, (0.08, 1), (0.75, 1.3333333333333333))
    with tempfile.TemporaryDirectory() as place:
        for kind, path, found in mask_files(place, width, height):
            mask = Picture(picture.tool, path)
            expected = np.asarray(Image.fromarray(found).crop((x, y, x + wide, y + high)).resize(size[::-1], Image.NEAREST))
            expected = expected[:, ::-1] if draws.Draw("horizontal_flip", seed).unit() < 0.5 else expected
            expected = expected[::-1] if draws.Draw("vertical_flip", seed).unit() < 0.5 else expected
            for dtype in ("uint8", "int64"):
                ours = mask.row(seed, word("mask"), *recipe, dtype=dtype)
                checks.same(f"mask of kind {kind} against Pillow's nearest", ours, expected, f"{case} {dtype}")
            # a picture of the same numbers, by the same list
            if kind in ("P", "L"):
                path = os.path.join(place, "image.png")
                Image.fromarray(found).convert("RGB").save(path)
                beside = (word("random_resized_crop", size=size, interpolation="nearest"), *recipe[1:])
                image = Picture(picture.tool, path).row(seed, *beside)
                checks.same("a mask and its picture, pixel by pixel", image, expected[:, :, None].repeat(3, 2), case)
            # what is added has a class of its own, whatever colour the transform says
            ours = mask.row(seed, word("mask", fill=200), word("random_crop", size=(height, width), padding=5, fill=9))
            around = crop_expected(Image.fromarray(found), seed, (height, width), (5, 5, 5, 5), False, 200)
            checks.same("mask, padded", ours, around, case)


def reads_png(tool, place):
    path = os.path.join(place, "one.png")
    Image.new("L", (1, 1)).save(path)
    try:
        return Picture(tool, path).row(0, word("resize", size=(1, 1))) is not None
    except ValueError:
        return False


def main():
    if len(sys.argv) != 3:
        print(__doc__)
        return 1
    checks = Checks()
    tool = parity.Tool(sys.argv[1])
    done = [check_flips, check_crops, check_resizes, check_jitter, check_grayscale, check_both, check_erasing]
    with tempfile.TemporaryDirectory() as place:
        if reads_png(tool, place):
            done.append(check_masks)
        else:
            print("built without PNG: masks are missing below")
        for width, height in SIZES:
            path = os.path.join(place, f"{width}x{height}.jpg")
            pictures.encode(sys.argv[2], path, pictures.scene(width, height, 3, width), "sampling=" + pictures.SAMPLINGS["4:2:0"])
            picture = Picture(tool, path)
            for seed in range(SEEDS):
                case = f"{width}x{height}, seed {seed}"
                for check in done:
                    check(checks, picture, seed, case)
    if not colours.vision:
        print("torchvision is not installed: its lines are missing below")
    return 0 if checks.show() else 1


if __name__ == "__main__":
    sys.exit(main())
