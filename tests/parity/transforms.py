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


def main():
    if len(sys.argv) != 3:
        print(__doc__)
        return 1
    checks = Checks()
    tool = parity.Tool(sys.argv[1])
    with tempfile.TemporaryDirectory() as place:
        for width, height in SIZES:
            path = os.path.join(place, f"{width}x{height}.jpg")
            pictures.encode(sys.argv[2], path, pictures.scene(width, height, 3, width), "sampling=" + pictures.SAMPLINGS["4:2:0"])
            picture = Picture(tool, path)
            for seed in range(SEEDS):
                case = f"{width}x{height}, seed {seed}"
                for check in (check_flips, check_crops, check_resizes):
                    check(checks, picture, seed, case)
    return 0 if checks.show() else 1


if __name__ == "__main__":
    sys.exit(main())
