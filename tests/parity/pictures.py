# SPDX-License-Identifier: MIT
"""The made pictures: every kind of JPEG that the photographs are not. Their pixels have slopes, waves, hard edges and noise,
and no symmetry, so that a wrong place, turn or colour shows; mkjpeg encodes them."""
import os
import struct
import subprocess

import numpy as np

SAMPLINGS = {
    "4:4:4": "1x1,1x1,1x1",
    "4:2:2": "2x1,1x1,1x1",
    "4:2:0": "2x2,1x1,1x1",
    "4:4:0": "1x2,1x1,1x1",
    "4:1:1": "4x1,1x1,1x1",
    "4:1:0": "4x2,1x1,1x1",
    "1x4": "1x4,1x1,1x1",
    "3x1": "3x1,1x1,1x1",
    "1x3": "1x3,1x1,1x1",
    "3x2": "3x2,1x1,1x1",
    "2x1 all": "2x1,2x1,2x1",
    "mixed": "2x2,2x1,1x2",
    "fine chroma": "1x1,2x2,2x2",
}
SIZES = [(1, 1), (1, 300), (300, 1), (1, 16), (16, 1), (2, 3), (7, 5), (17, 33), (255, 257), (4001, 3)]
FLAT = {"0": 0, "137": 137, "255": 255}


def scene(width, height, bands, seed):
    random = np.random.default_rng(seed)
    y, x, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(bands), indexing="ij")
    pixels = 40 + 90 * x / width + 60 * y / height + 30 * np.sin(x / 7 + c) * np.cos(y / 11 - 2 * c)
    pixels += np.where((x // 13 + y // 9 + c) % 3 == 0, 70, 0) + random.normal(0, 12, pixels.shape)
    return np.clip(pixels, 0, 255).astype(np.uint8)


def edges(width, height):
    """Black and white in cells of a few pixels: bicubic passes 0..255 at each."""
    y, x = np.mgrid[:height, :width]
    return ((x // 5 + y // 7) % 2 * 255).astype(np.uint8)[:, :, None].repeat(3, 2)


def exif(orientation, big):
    """A TIFF of one directory with other tags about the orientation."""
    order = ">" if big else "<"
    short = lambda value: struct.pack(order + "HH", value, 0)
    entries = [(0x10F, 2, 4, b"abc\0"), (0x112, 3, 1, short(orientation)), (0x128, 3, 1, short(2))]
    tiff = (b"MM" if big else b"II") + struct.pack(order + "HIH", 42, 8, len(entries))
    for tag, kind, count, value in entries:
        tiff += struct.pack(order + "HHI", tag, kind, count) + value
    return (tiff + bytes(4)).hex()


def recipes():
    """(set, name, pixels, words of mkjpeg)"""
    for name, sampling in SAMPLINGS.items():
        yield "made", name, scene(161, 123, 3, 1), [f"sampling={sampling}"]
    for name in ("4:4:4", "4:2:0", "4:4:0", "4:2:2"):
        yield "made", f"progressive {name}", scene(161, 123, 3, 2), [f"sampling={SAMPLINGS[name]}", "progressive"]
    half = "sampling=2x2,1x1,1x1"
    yield "made", "progressive, ends early", scene(161, 123, 3, 3), [half, "early"]
    yield "made", "a scan a component", scene(161, 123, 3, 3), [half, "apart"]
    yield "made", "optimised tables", scene(161, 123, 3, 4), [half, "optimise"]
    yield "made", "restart each row", scene(161, 123, 3, 5), [half, "restart_rows=1"]
    yield "made", "restart each 3 MCUs", scene(161, 123, 3, 5), [half, "restart_mcus=3"]
    yield "made", "progressive, restart each 3 MCUs", scene(161, 123, 3, 5), [half, "progressive", "restart_mcus=3"]
    for quality in (1, 100):
        yield "made", f"quality {quality}", scene(161, 123, 3, 6), [half, f"quality={quality}"]
    yield "made", "RGB stored", scene(161, 123, 3, 7), ["stored"]
    yield "made", "grey", scene(161, 123, 1, 8), []
    yield "made", "grey 2x2", scene(161, 123, 1, 8), ["sampling=2x2"]
    yield "made", "grey progressive", scene(161, 123, 1, 8), ["progressive"]
    yield "made", "CMYK", scene(161, 123, 4, 9), []
    yield "made", "YCCK", scene(161, 123, 4, 9), ["ycck"]
    yield "made", "YCCK 4:2:0", scene(161, 123, 4, 9), ["ycck", "sampling=2x2,1x1,1x1,2x2"]
    yield "made", "YCCK progressive", scene(161, 123, 4, 9), ["ycck", "progressive"]
    for width, height in SIZES:
        yield "made", f"{width}x{height} 4:4:4", scene(width, height, 3, 10), []
        yield "made", f"{width}x{height} 4:2:0", scene(width, height, 3, 11), [half]
    yield "made", "2400x1801", scene(2400, 1801, 3, 12), [half]
    yield "made", "hard edges", edges(161, 123), ["quality=100"]
    for name, value in FLAT.items():
        yield "flat", f"flat {name}", np.full((123, 161, 1), value, np.uint8), ["quality=100"]
    for orientation in range(1, 9):
        for big in (False, True):
            name = f"orientation {orientation}, {'big' if big else 'little'}-endian"
            yield "turned", name, scene(97, 66, 3, orientation), [half, "exif=" + exif(orientation, big)]


def encode(mkjpeg, path, pixels, *words):
    height, width, bands = pixels.shape
    kind = {1: "grey", 3: "rgb", 4: "cmyk"}[bands]
    subprocess.run([mkjpeg, path, str(width), str(height), kind, *words], input=pixels.tobytes(), check=True)


def make(mkjpeg, folder):
    """Writes them; (set, name, path) of each."""
    pictures = []
    for number, (group, name, pixels, words) in enumerate(recipes()):
        path = os.path.join(folder, f"{number:03}.jpg")
        encode(mkjpeg, path, pixels, *words)
        pictures.append((group, name, path))
    return pictures
