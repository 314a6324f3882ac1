#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Rows of the image decoder against Pillow and against a reference in double precision, within the bounds of the design.

    parity.py [--share N] IMAGEROW MKJPEG [FOLDER]

FOLDER (or $PFEED_TEST_DATA, or ../shared/data/imagenet-sample beside the repository) holds JPEG photographs; without it only
made pictures (pictures.py) are compared. --share N: every Nth photograph, and fewer geometries and types of made ones.
Prints a line per bound with its worst case. Exit codes: 0 all bounds hold, 1 not, 77 skipped, with the reason.
"""
import argparse
import glob
import multiprocessing
import os
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True  # the sources may be read-only, and stay clean
for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"  # a process a core, below
try:
    import numpy as np
    from PIL import Image, ImageOps
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

import pictures
import reference

FILTERS = ("bilinear", "bicubic")
DTYPES = {"uint8": np.uint8, "int64": np.int64, "float16": np.float16, "bfloat16": np.uint16, "float32": np.float32}
OUTPUTS = (("reduced", "bicubic"), ("part", "bilinear"), ("training", "bilinear"))  # made in every type and layout, too
PLAIN = ("reduced", "to 8x8", "part")  # of made pictures: also without antialias, which changes nothing where it enlarges
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
EXACT = 0.1  # of 255 steps, float32 against the reference
FEW = 100  # pixels
FLATTEST = 16  # width by height of a result: the kernel's memory, for a picture 65500 high, is 3 MB times this
FLAT = 0.0005  # weights that sum to one leave a flat picture flat, but for float's rounding: 255 * 2^-24 * taps / 2


class Table:
    """By check: the worst value, its case, how many cases, their sum; and the bound, None where there is only the number."""

    def __init__(self):
        self.rows = {}

    def add(self, check, bound, value, case, unit=""):
        row = self.rows.setdefault(check, [value, case, 0, 0.0, bound, unit])
        if value > row[0]:
            row[:2] = value, case
        row[2] += 1
        row[3] += value

    def merge(self, other):
        for check, (value, case, n, total, bound, unit) in other.rows.items():
            row = self.rows.setdefault(check, [value, case, 0, 0.0, bound, unit])
            if value > row[0]:
                row[:2] = value, case
            row[2] += n
            row[3] += total

    def show(self):
        """Whether all bounds hold."""
        print(f"{'check':58} {'cases':>6} {'average':>9} {'worst':>9} {'bound':>7}      worst case")
        good = True
        for check, (value, case, n, total, bound, unit) in sorted(self.rows.items()):
            kept = bound is None or value <= bound
            good = good and kept
            print(f"{check:58} {n:6} {total / n:9.5f} {value:9.5f} {'' if bound is None else format(bound, 'g') + unit:>7} "
                  f"{'    ' if kept else 'OVER'} {case if value else ''}")
        return good


class Tool:
    """An imagerow that answers one line after another."""

    def __init__(self, path):
        self.process = subprocess.Popen([path, "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def row(self, path, seed, dtype, layout, words):
        """The values as (height, width, 3), and what was drawn."""
        line = "\t".join((path, str(seed), dtype, layout, *words))
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()
        head = self.process.stdout.readline().decode().split()
        if not head:
            raise RuntimeError(f"imagerow ended with {self.process.wait()} after: {line}")
        if head[0] != "row":
            raise ValueError(" ".join(head))
        values = np.frombuffer(self.process.stdout.read(int(head[1])), DTYPES[dtype])
        plan = dict(zip(("crop", "window"), ([int(n) for n in head[at : at + 4]] for at in (6, 14))))
        plan["flip"] = head[19] == "1"
        width, height = plan["window"][2:]
        if values.size == width * height:
            return values.reshape(height, width), plan
        if layout == "chw":
            return values.reshape(3, height, width).transpose(1, 2, 0), plan
        return values.reshape(height, width, 3), plan


def geometries(group, width, height, thorough):
    """(name, steps) of one picture."""
    if group == "photographs":
        yield "evaluation", [("resize", 256), ("middle", 224)]
        yield "training", [("part", (224, 192), (0.08, 1)), ("flip", 0.5)]
        yield "enlarged part", [("part", (200, 231), (0.01, 0.06)), ("middle", (167, 224))]
        yield "identity", [("resize", (height, width))]
        yield "to 8x8", [("resize", (8, 8))]
        return
    sizes = {"reduced": (height * 5 // 9, width * 3 // 7)}
    if thorough:
        sizes["identity"] = (height, width)
        if width * height < 100000:
            sizes["enlarged"] = (height * 7 // 4 + 1, width * 9 // 4 + 1)
            sizes["wider, lower"] = (height // 2 + 1, width * 2)
    for name, (high, wide) in sizes.items():
        if wide <= FLATTEST * max(high, 1):
            yield name, [("resize", (max(high, 1), max(wide, 1)))]
    yield "to 8x8", [("resize", (8, 8))]
    yield "part", [("part", (41, 56), (0.2, 0.8)), ("flip", 0.5), ("middle", (32, 49))]
    if thorough:
        yield "flip, middle", [("flip", 1), ("middle", (max(1, height - 3), max(1, width * 2 // 3))), ("resize", (45, 38))]
        yield "small part enlarged", [("part", (90, 71), (0.02, 0.1)), ("middle", (84, 60))]


class Comparison:
    """All checks of one picture."""

    def __init__(self, tool, group, name, path):
        self.tool, self.name, self.path = tool, name, path
        self.group, self.flat = ("made", True) if group == "flat" else (group, False)
        self.table = Table()
        self.options = ["image:orientation=yes:max_pixels=10000"] if group == "turned" else []
        self.picture = Image.open(path)
        if group == "turned":
            self.picture = ImageOps.exif_transpose(self.picture)
        self.picture = self.picture.convert("RGB")

    def add(self, check, bound, value, unit="", group=None):
        self.table.add(f"{group or self.group}, {check}", bound, float(value), self.case, unit)

    def rows(self, dtype, steps, filter_name, layout="hwc", more=(), antialias=True):
        words = [*self.options, *reference.step_words(steps, filter_name, antialias), *more]
        return self.tool.row(self.path, self.seed, dtype, layout, words)

    def against_pillow(self, ours, theirs, filter_name):
        """Pillow's rounding between the passes moves its result by up to 1/2, or 5/8 where the bicubic weights down are
        negative in part; then both round: never more than 1 apart, whatever the design allows bicubic. A mean over few values
        says little: by chance, that rounding moves most of them to the same side. There the mean over all such pictures has
        the bound."""
        gap = np.abs(ours.astype(np.int16) - theirs)
        few = self.group != "photographs" and min(self.picture.width * self.picture.height, gap[:, :, 0].size) < FEW
        check = f"{filter_name}, uint8 against Pillow"
        self.add(f"{check}: largest", 1, gap.max())
        if few:
            self.add(f"{check}: mean of few pixels", None, gap.mean(), group="made")
        else:
            self.add(f"{check}: mean", 0.25, gap.mean())
        if filter_name == "bicubic":
            self.add(f"{check}: over 1", 0.1, 100 * (gap.max(axis=2) > 1).mean(), "%")

    def geometry(self, steps, filter_name):
        exact, drawn = self.rows("float32", steps, filter_name)
        wanted = reference.follow(reference.Exact(self.picture), steps, filter_name, drawn)
        exact = exact * np.float64(255)
        self.add(f"{filter_name}, float32 against double: largest", EXACT, np.abs(exact - wanted).max())
        ours, _ = self.rows("uint8", steps, filter_name)
        self.against_pillow(ours, reference.follow(reference.Pillow(self.picture), steps, filter_name, drawn), filter_name)
        self.add("uint8 against float32, in steps", 0.5001, np.abs(exact - ours).max(), group="outputs")
        if self.flat:
            colour = np.asarray(self.picture)[0, 0]
            self.add("flat picture, float32 against its colour", FLAT, np.abs(exact - colour).max(), group="outputs")

    def plain(self, steps, filter_name):
        """Without antialiasing, which Pillow does not have."""
        exact, drawn = self.rows("float32", steps, filter_name, antialias=False)
        wanted = reference.follow(reference.Exact(self.picture, antialias=False), steps, filter_name, drawn)
        self.add(f"{filter_name}, no antialias, float32 against double", EXACT, np.abs(exact * np.float64(255) - wanted).max())

    def outputs(self, steps, filter_name):
        """One geometry in every type and layout, flipped and normalised."""
        normalize = [f"normalize:mean={'/'.join(map(str, MEAN))}:std={'/'.join(map(str, STD))}"]
        kept = {}
        for more, label in (([], ""), (normalize, " normalised")):
            single, _ = kept[label] = self.rows("float32", steps, filter_name, more=more)
            half, _ = self.rows("float16", steps, filter_name, more=more)
            wrong = half != single.astype(np.float16)
            self.add("float16 not the nearest to float32", 0, wrong.sum(), group="outputs")
            brain, _ = self.rows("bfloat16", steps, filter_name, more=more)
            brain = (brain.astype(np.uint32) << 16).view(np.float32)
            wrong = brain != reference.nearest_bfloat16(single)
            self.add("bfloat16 not the nearest to float32", 0, wrong.sum(), group="outputs")
        exact, normalised = kept[""][0], kept[" normalised"][0]
        wanted = reference.follow(reference.Exact(self.picture), steps, filter_name, kept[""][1])
        undone = (normalised.astype(np.float64) * STD + MEAN) * 255
        self.add("float32 normalised against double: largest", EXACT, np.abs(undone - wanted).max(), group="outputs")
        for dtype in ("uint8", "float16", "bfloat16", "float32"):
            hwc, _ = self.rows(dtype, steps, filter_name)
            chw, _ = self.rows(dtype, steps, filter_name, layout="chw")
            self.add("chw not equal to hwc", 0, (hwc != chw).sum(), group="outputs")
            for layout in ("hwc", "chw"):
                flipped, plan = self.rows(dtype, [*steps, ("flip", 1)], filter_name, layout=layout)
                back = flipped if plan["flip"] == kept[""][1]["flip"] else flipped[:, ::-1]
                self.add("flipped not equal to mirrored", 0, (hwc != back).sum(), group="outputs")
                self.add("not flipped", 0, int(plan["flip"] == kept[""][1]["flip"]), group="outputs")

    def run(self, seed, thorough, outputs):
        self.seed = seed
        for label, steps in geometries(self.group, *self.picture.size, thorough):
            for filter_name in FILTERS:
                self.case = f"{self.name}: {label}, {filter_name}"
                try:
                    self.geometry(steps, filter_name)
                    if label in PLAIN and self.group != "photographs":
                        self.plain(steps, filter_name)
                    if outputs and (label, filter_name) in OUTPUTS:
                        self.outputs(steps, filter_name)
                    self.add("no row", 0, 0, group="outputs")
                except ValueError as error:
                    self.case += f": {error}"
                    self.add("no row", 0, 1, group="outputs")
        return self.table


def compare(job):
    tool_path, job_words = job
    if not hasattr(compare, "tool"):
        compare.tool = Tool(tool_path)
    group, name, path, seed, thorough, outputs = job_words
    return Comparison(compare.tool, group, name, path).run(seed, thorough, outputs)


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--share", type=int, default=1)
    parser.add_argument("imagerow")
    parser.add_argument("mkjpeg")
    parser.add_argument("folder", nargs="?")
    options = parser.parse_args()
    here = os.path.dirname(os.path.abspath(__file__))
    folder = options.folder or os.environ.get("PFEED_TEST_DATA") or os.path.join(here, "../../../shared/data/imagenet-sample")
    photographs = sorted(path for path in glob.glob(os.path.join(folder, "*")) if path.lower().endswith((".jpg", ".jpeg")))
    table = Table()
    with tempfile.TemporaryDirectory() as place:
        made = pictures.make(options.mkjpeg, place)
        jobs = [(*one, seed, options.share == 1, options.share == 1 or seed % 4 == 0) for seed, one in enumerate(made)]
        jobs += [("photographs", os.path.basename(path), path, seed, True, seed % (10 * options.share) == 0)
                 for seed, path in list(enumerate(photographs))[:: options.share]]
        with multiprocessing.Pool(min(4, len(os.sched_getaffinity(0)))) as pool:
            for part in pool.imap_unordered(compare, ((options.imagerow, job) for job in jobs)):
                table.merge(part)
    for filter_name in FILTERS:
        row = table.rows[f"made, {filter_name}, uint8 against Pillow: mean of few pixels"]
        check = f"made, {filter_name}, uint8 against Pillow: their average"
        table.add(check, 0.25, row[3] / row[2], f"all {row[2]} of few pixels")
    used = len(photographs[:: options.share])
    print(f"{len(made)} made pictures and {used} of {len(photographs)} photographs; differences in steps of 1/255")
    if not photographs:
        print(f"no photographs in {folder}: their lines are missing below")
    return 0 if table.show() else 1


if __name__ == "__main__":
    sys.exit(main())
