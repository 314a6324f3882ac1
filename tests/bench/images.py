#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Photographs: what a row costs pfeed, and other loaders that PyPI has; in turn, on one core, and for the same crops.

  rows     CPU time a row, from files in the page cache: RandomResizedCrop(224), flip, normalise, to float16, planar. Of pfeed
           all threads of the daemon; also libjpeg-turbo decoding the same crops and nothing else.
  kernel   from crops in memory: resize, normalise, convert.
  workers  what a second worker gains, against what a second thread gains a bare decode loop (bench_sharing).
  jobs     images a second delivered to K = 1, 2, 4 trainers by one daemon, and by PyTorch DataLoaders of their own.

Each part takes less than 9 minutes, writes its figures into the results, and can be run alone; then the table is printed, and
the plot drawn. Figures are medians of the rounds after one that warms up. Ratios are the other's time over pfeed's. Targets
are for a machine that nobody else uses; where others did, the table says so. What could not be run is named, with the reason.
Exit status: 0 measured, whatever the figures, 1 a part could not be run, 77 no build.

The other loaders are installed into a folder of virtual environments at first: 4 GB to download, 9 GB on disk."""

import argparse
import contextlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "peers"))

# pylint: disable=wrong-import-position
import install
import report
from program import Failed, Program

ROUNDS = 5
PASS_S = 300  # a pass that takes longer has hung
VARIANTS = {"avx512": "AVX-512", "avx2": "AVX2"}
PEERS = {  # part: name: environment, its program
    "rows": {
        "torchvision v2": ("torch", "in_torch.py"),
        "OpenCV + numpy": ("torch", "in_torch.py"),
        "OpenCV + numpy, area": ("torch", "in_torch.py"),
        "Pillow + torchvision": ("torch", "in_torch.py"),
        "DALI CPU": ("dali", "in_dali.py"),
        "tf.data, antialias": ("tensorflow", "in_tensorflow.py"),
        "tf.data, no antialias": ("tensorflow", "in_tensorflow.py"),
        "FFCV, JPEG": ("ffcv", "in_ffcv.py"),
        "FFCV, RAW 256": ("ffcv", "in_ffcv.py"),
    },
    "kernel": {
        "kernel: Pillow": ("torch", "in_torch.py"),
        "kernel: OpenCV + numpy": ("torch", "in_torch.py"),
        "kernel: OpenCV + numpy, planes": ("torch", "in_torch.py"),
        "kernel: torchvision v2": ("torch", "in_torch.py"),
    },
}


class Bench:
    def __init__(self, options):
        self.options, self.failed = options, False
        self.results = json.loads(options.results.read_text()) if options.results.exists() else {}
        self.missing = {}  # by environment: None, or the reason
        self.place = contextlib.ExitStack()
        self.work = Path(self.place.enter_context(tempfile.TemporaryDirectory(prefix="pfeed-images-")))

    def keep(self, part, figures):
        self.results["machine"] = machine()
        self.results[part] = figures
        text = json.dumps(self.results, indent=1)
        self.options.results.parent.mkdir(parents=True, exist_ok=True)
        self.options.results.write_text(text + "\n")

    def program(self, name):
        return str(self.options.build / "tests/bench" / name)

    def env(self, **more):
        return dict(os.environ, PFEED_BENCH_DATA=str(self.pictures()), PYTHONDONTWRITEBYTECODE="1", **more)

    def pictures(self):
        """A folder of links to so many pictures, or all; an even number. Made ones where there are no photographs."""
        folder = self.work / "pictures"
        if not folder.exists():
            data = self.options.data
            if not data.is_dir():
                print(f"no photographs in {data}: with 500 made pictures, which decode more quickly", flush=True)
                data = self.work / "made"
                data.mkdir()
                subprocess.run(
                    [self.options.build / "tests/mkimages", "--out", data, "--count", "500", "--classes", "10"], check=True
                )
            paths = sorted(path for path in data.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
            paths = paths[: self.options.pictures]
            folder.mkdir()
            for number, path in enumerate(paths[: len(paths) // 2 * 2]):
                (folder / f"{number:06}.jpg").symlink_to(path.resolve())
        return folder

    def why_missing(self, place):
        if place not in self.missing:
            self.missing[place] = install.need(str(self.options.venv), place)
        return self.missing[place]

    # ---- rows and kernel ---------------------------------------------------------------------------------------------------

    def start_pfeed(self, stack, started, missing):
        """bench_images for each variant, and with the cache; by name, and whether it is the first, which writes the crops."""
        crops = self.work / "crops"
        room = 64 + len(os.listdir(self.pictures())) // 2  # MiB: pictures of 256 pixels take 0.2 to 0.4
        for variant, cache in [(variant, cache) for cache in ("", f"{{ decoded: {room}MiB }}") for variant in VARIANTS]:
            name = f"pfeed {variant}" + (", decoded cache" if cache else "")
            env = self.env(PFEED_CPU=variant, PFEED_BENCH_CACHE=cache)
            try:
                if not cpu_has(variant):
                    raise Failed(f"this processor has no {VARIANTS[variant]}")
                started[name] = stack.enter_context(Program([self.program("bench_images"), "turns", str(crops)], env, self.work))
                about = started[name].wait_ready(PASS_S)
                if about["kernel"].split()[0] != variant:
                    raise Failed(f"it takes the kernel {about['kernel']}")
            except Failed as error:
                missing[name] = str(error)
                started.pop(name, None)
        if not crops.exists():
            raise Failed(f"bench_images could not be run: {missing}")
        return [line.split("\t") for line in crops.read_text().splitlines()]

    def start_peers(self, stack, part, crops, started, missing):
        about = {}
        job = self.work / "job.json"
        words = {
            "folder": str(self.pictures()),
            "work": str(self.work),
            "crops": [[*map(int, crop[:5]), crop[5]] for crop in crops],
        }
        job.write_text(json.dumps(words))
        for name, (place, script) in PEERS[part].items():
            if self.options.peers and not any(word in name for word in self.options.peers.split(",")):
                continue
            try:
                reason = self.why_missing(place)
                if reason:
                    raise Failed(reason)
                python = install.python_of(str(self.options.venv), "torch" if place == "ffcv" else place)
                words = [python, str(HERE / "peers" / script), name, str(job)]
                started[name] = stack.enter_context(Program(words, self.env(), self.work, cpu=max(os.sched_getaffinity(0))))
                about[name] = started[name].wait_ready(PASS_S)["about"]
            except Failed as error:
                missing[name] = str(error)
                started.pop(name, None)
        return about

    def turns(self, part):
        """One round after the other, each of which asks all programs for a pass in turn."""
        figures, started = {"us": {}, "others": {}, "missing": {}}, {}
        with contextlib.ExitStack() as stack:
            crops = self.start_pfeed(stack, started, figures["missing"])
            figures["crops"] = len(crops)
            figures["about"] = self.start_peers(stack, part, crops, started, figures["missing"])
            for number in range(self.options.rounds + 1):
                for name in list(started):
                    try:
                        add(figures, name, *started[name].one_pass(PASS_S), warm=number > 0)
                    except Failed as error:
                        figures["missing"][name] = str(error)
                        del started[name]
                if number:
                    print(f"{part}: round {number} of {self.options.rounds}", flush=True)
                    self.keep(part, figures)

    # ---- clocks ------------------------------------------------------------------------------------------------------------

    def last_json(self, words, env, limit_s):
        """The members of a program's last line of JSON."""
        try:
            said = subprocess.run(words, env=env, capture_output=True, text=True, timeout=limit_s, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Failed(str(error)) from None
        if said.returncode:
            raise Failed((said.stderr.strip().splitlines() or said.stdout.strip().splitlines() or ["?"])[-1])
        lines = [line[line.index("{") :] for line in said.stdout.splitlines() if "{" in line]
        return json.loads(lines[-1])

    def workers(self):
        env = self.env(PFEED_BENCH_ROUNDS=str(self.options.rounds))
        figures = self.last_json([self.program("bench_sharing"), "workers"], env, 540)
        self.keep("workers", figures)

    def jobs(self):
        figures = {"pfeed": {}, "DataLoader": {}, "others": [], "missing": {}, "images": self.options.images}
        reason = self.why_missing("torch")
        python = install.python_of(str(self.options.venv), "torch")
        for number in range(self.options.job_rounds):
            for trainers in ("1", "2", "4"):
                sides = {"pfeed": [self.program("bench_trainers")], "DataLoader": [python, str(HERE / "peers/loaders.py")]}
                for side, words in sides.items():
                    if side == "DataLoader" and reason:
                        figures["missing"][side] = reason
                        continue
                    more = [] if side == "pfeed" else [str(self.pictures())]
                    try:
                        said = self.last_json([*words, trainers, str(self.options.images), *more], self.env(), 200)
                    except Failed as error:
                        figures["missing"][f"{side}, {trainers} trainers"] = str(error)
                        continue
                    figures[side].setdefault(trainers, []).append(said["images_s"])
                    figures["others"].append(said["others"])
            print(f"jobs: round {number + 1} of {self.options.job_rounds}", flush=True)
            self.keep("jobs", figures)

    def run(self, parts):
        runs = {
            "rows": lambda: self.turns("rows"),
            "kernel": lambda: self.turns("kernel"),
            "workers": self.workers,
            "jobs": self.jobs,
        }
        for part in parts:
            try:
                runs[part]()
            except Failed as error:
                print(f"{part}: could not be run: {error}", flush=True)
                self.failed = True


def add(figures, name, answer, others, warm):
    for key, value in costs(name, answer).items() if warm else ():
        figures["us"].setdefault(key, []).append(value)
        figures["others"].setdefault(key, []).append(others)


def costs(name, answer):
    """CPU us a row, by what it is of."""
    if "daemon" not in answer:
        return {name: answer["cpu_s"] * 1e6 / answer["rows"]}
    if "cache" in name:
        return {name: answer["daemon"]}
    return {name: answer["daemon"], f"{name}, libjpeg-turbo alone": answer["bare"], f"{name}, kernel alone": answer["kernel"]}


def cpuinfo(key):
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        return next((line.split(":", 1)[1].strip() for line in file if line.startswith(key)), "?")


def cpu_has(variant):
    return {"avx512": "avx512bw", "avx2": "avx2"}[variant] in cpuinfo("flags").split()


def machine():
    return {"cpu": cpuinfo("model name"), "cpus": len(os.sched_getaffinity(0)), "system": platform.platform()}


def build(options):
    """The programs of the bench, which are built only when they are asked for."""
    if not (options.build / "build.ninja").exists():
        print(f"{options.build} is no build folder: meson setup {options.build} --buildtype=release")
        sys.exit(77)
    targets = [f"tests/bench/bench_{name}" for name in ("images", "sharing", "trainers")]
    subprocess.run(
        [shutil.which("ninja") or "ninja", "-C", str(options.build), "daemon/pfeedd", "tests/mkimages", *targets],
        check=True,
        stdout=subprocess.DEVNULL,
    )


def main():
    source = HERE.parent.parent
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", default="kernel,rows,workers,jobs", help="parts, with commas; `none`: table and plot of what is there"
    )
    parser.add_argument("--build", type=Path, default=source / "build/release", help="of meson, as released")
    parser.add_argument("--venv", type=Path, default=source / "build/peers-venv", help="of the virtual environments")
    parser.add_argument("--data", type=Path, default=source.parent / "shared/data/imagenet-sample", help="folder of JPEGs")
    parser.add_argument("--results", type=Path, default=source / "build/images.json", help="where the figures are kept")
    parser.add_argument("--svg", type=Path, help="where the plot goes: tests/bench/images.svg")
    parser.add_argument("--readme", type=Path, help="whose table, between <!-- figures --> and <!-- end -->, is written anew")
    parser.add_argument("--pictures", type=int, help="how many of them; all")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"of the parts of CPU time; {ROUNDS}")
    parser.add_argument("--job-rounds", type=int, default=3, help="of the part jobs; 3")
    parser.add_argument("--images", type=int, default=20000, help="that a run of the part jobs delivers; 20000")
    parser.add_argument("--peers", help="only those whose names have one of these words, with commas")
    options = parser.parse_args()
    for name in ("build", "venv", "data", "results"):
        setattr(options, name, getattr(options, name).absolute())
    parts = [] if options.only == "none" else options.only.split(",")
    bench = Bench(options)
    with bench.place:
        if parts:
            build(options)
            bench.run(parts)
    print(report.table(bench.results))
    if options.svg:
        options.svg.write_text(report.plot(bench.results))
    if options.readme:
        picture = os.path.relpath(options.svg, options.readme.parent) if options.svg else None
        options.readme.write_text(report.fill(options.readme.read_text(), bench.results, picture))
    return 1 if bench.failed else 0


if __name__ == "__main__":
    sys.exit(main())
