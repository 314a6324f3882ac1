#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Pictures through the image decoder against Pillow, with the bounds of DESIGN.md section 10.

    parity.py IMAGEROW [FOLDER]

FOLDER (or $PFEED_TEST_DATA, or ../shared/data/imagenet-sample beside the repository) holds JPEG photographs; without it only
made pictures are compared. Exit codes: 0 within the bounds, 1 not, 77 no Pillow, no numpy, or no photographs.
"""
import glob
import io
import os
import subprocess
import sys
import tempfile

try:
    import numpy as np
    from PIL import Image
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

FILTERS = {"bilinear": Image.BILINEAR, "bicubic": Image.BICUBIC}
failures = 0


def row(tool, path, shape, *words, seed=1):
    """The picture as float64 pixels 0..255, (H, W, 3), rounded; and the tool's words about its plan."""
    done = subprocess.run([tool, path, str(seed), "uint8", "hwc", *words], capture_output=True)
    if done.returncode:
        raise SystemExit(f"{path}: {done.stderr.decode()}")
    words = done.stderr.decode().split()
    return np.frombuffer(done.stdout, np.uint8).reshape(*shape, 3).astype(np.float64), words


def compare(what, ours, theirs, filter_name, photograph, totals):
    """Section 10: bilinear max 1, mean 0.25; bicubic mean 0.25 and at most 0.1 % of a photograph's pixels over 1.

    Made pictures may round the same way everywhere (stripes do), so that only their largest difference is bounded."""
    global failures
    gap = np.abs(ours - theirs)
    mean, largest, share = gap.mean(), gap.max(), (gap > 1).mean()
    bad = largest > (1 if filter_name == "bilinear" or not photograph else 255) or (photograph and (mean > 0.25 or share > 0.001))
    worst = totals.setdefault(filter_name, [0, 0.0, 0.0, 0.0, 0.0])
    worst[0] += 1
    worst[1] = max(worst[1], largest)
    worst[2] = max(worst[2], mean)
    worst[3] = max(worst[3], share if photograph else 0)
    worst[4] += mean
    if bad:
        failures += 1
        print(f"{what} {filter_name}: mean {mean:.3f} max {largest:.0f} over 1: {100 * share:.3f} %")


def one(tool, path, photograph, totals, seed):
    picture = Image.open(path).convert("RGB")
    width, height = picture.size
    for name, kind in FILTERS.items():
        # evaluation: short side 256, middle 224
        short = (256, 256 * height // width) if width <= height else (256 * width // height, 256)
        if min(width, height) >= 16:
            ours, words = row(tool, path, (224, 224), f"resize:size=256:interpolation={name}", "center_crop:size=224")
            plan = dict(zip(("x", "y"), map(int, words[12:14])))
            assert words[11] == "window", words
            theirs = np.asarray(picture.resize(short, kind), np.float64)[plan["y"] : plan["y"] + 224, plan["x"] : plan["x"] + 224]
            compare(f"{path} eval", ours, theirs, name, photograph, totals)
        # training: a random part
        ours, words = row(tool, path, (224, 192), f"random_resized_crop:size=224/192:interpolation={name}", "horizontal_flip", seed=seed)
        x, y, w, h = map(int, words[4:8])
        theirs = np.asarray(picture.crop((x, y, x + w, y + h)).resize((192, 224), kind), np.float64)
        if words[-1] == "1":
            theirs = theirs[:, ::-1]
        compare(f"{path} train {words}", ours, theirs, name, photograph, totals)
        # strong reduction
        ours, _ = row(tool, path, (17, 23), f"resize:size=17/23:interpolation={name}")
        compare(f"{path} small", ours, np.asarray(picture.resize((23, 17), kind), np.float64), name, photograph, totals)


def made(folder):
    """Pictures with what photographs lack: odd sizes, inks, noise, hard edges, one row, one column."""
    random = np.random.default_rng(1)
    for index, (width, height) in enumerate(((1, 1), (1, 300), (300, 1), (17, 33), (255, 257), (640, 481), (1500, 37))):
        for kind, mode in (("noise", "RGB"), ("smooth", "RGB"), ("edges", "L"), ("smooth", "CMYK")):
            bands = {"RGB": 3, "L": 1, "CMYK": 4}[mode]
            if kind == "noise":
                pixels = random.integers(0, 256, (height, width, bands))
            elif kind == "edges":
                pixels = ((np.arange(width)[None, :, None] // 5 + np.arange(height)[:, None, None] // 7) % 2 * 255).repeat(bands, 2)
            else:
                y, x, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(bands), indexing="ij")
                pixels = 127.5 + 127 * np.sin(x / 31 + c) * np.cos(y / 23 - c)
            pixels = pixels.astype(np.uint8)
            path = os.path.join(folder, f"{index}-{kind}-{mode}.jpg")
            Image.fromarray(pixels[:, :, 0] if mode == "L" else pixels, mode).save(
                path, quality=92, subsampling=index % 3, progressive=index % 2 == 1)
            yield path


def main():
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    tool = sys.argv[1]
    here = os.path.dirname(os.path.abspath(__file__))
    folder = sys.argv[2] if len(sys.argv) > 2 else os.environ.get("PFEED_TEST_DATA", os.path.join(here, "../../../shared/data/imagenet-sample"))
    photographs = sorted(p for p in glob.glob(os.path.join(folder, "*")) if p.lower().endswith((".jpg", ".jpeg")))
    totals = {}
    with tempfile.TemporaryDirectory() as place:
        for seed, path in enumerate(made(place)):
            one(tool, path, False, totals, seed)
    for name, (n, largest, mean, share, _) in totals.items():
        print(f"made {name}: {n} rows, largest difference {largest:.0f}, worst mean {mean:.3f}")
    totals = {}
    for seed, path in enumerate(photographs):
        one(tool, path, True, totals, seed)
    for name, (n, largest, mean, share, sums) in totals.items():
        print(f"photographs {name}: {n} rows, largest difference {largest:.0f}, mean {sums / n:.3f}, worst mean {mean:.3f}, "
              f"worst share over 1: {100 * share:.4f} %")
    if failures:
        return 1
    if not photographs:
        print(f"skipped: no photographs in {folder}")
        return 77
    return 0


sys.exit(main())
