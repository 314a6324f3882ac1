#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""deploy/demo.sh keeps its word: it ends well within three minutes, its build included, and leaves nothing behind but that build.
Twice in a row, as the second run finds what the first one built. It would install packages where the build lacks some: a test must
not, and is skipped there.

demo.py SOURCE"""
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import Suite

source = Path(sys.argv[1])
suite = Suite()
LIMIT_S = 180


def lacking():
    """What demo.sh would install first."""
    text = (source / "deploy/common.sh").read_text()
    packages = re.search(r'^build_packages="([^"]*)"', text, re.MULTILINE)[1].split()
    assert len(packages) > 5, "common.sh looks otherwise than this test thinks"
    if not shutil.which("dpkg-query"):
        return [tool for tool in ("meson", "ninja", "pkg-config", "python3") if not shutil.which(tool)]
    said = subprocess.run(["dpkg-query", "-W", "-f=${binary:Package} ${db:Status-Status}\\n", *packages], capture_output=True,
                          text=True, check=False).stdout
    there = {line.split()[0].split(":")[0] for line in said.splitlines() if line.endswith(" installed")}
    return [package for package in packages if package not in there]


def traces(folder):
    """Whatever a run could leave: its folder, names in /dev/shm, processes that know the folder, files in the checkout."""
    def command(pid):
        try:
            return Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return b""

    built = {source / "build", source / f"build-{os.getuid()}"}
    files = {path for name in os.listdir(source) if source / name not in built and not name.startswith((".git", "build"))
             for path in [source / name, *(source / name).rglob("*")]}
    return {"temporary files": set(folder.iterdir()),
            "names in /dev/shm": {name for name in os.listdir("/dev/shm") if "pfeed" in name},
            "processes": {pid for pid in os.listdir("/proc") if pid.isdigit() and os.fsencode(folder) in command(pid)},
            "files in the checkout": {path for path in files if "__pycache__" not in path.parts}}


@suite.test
def twice():
    if os.environ.get("PFEED_TEST_SANITIZE", "none") != "none":
        suite.skip("it makes a build of its own, without the sanitizers")
    if lacking():
        suite.skip(f"it would install {' '.join(lacking())}")
    folder = Path(tempfile.mkdtemp(prefix="pfeed-demo-test-"))
    env = {name: value for name, value in os.environ.items() if name != "DATA"}
    before = traces(folder)
    for number in ("first", "second"):
        start = time.monotonic()
        result = subprocess.run(["sh", source / "deploy/demo.sh"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                stdin=subprocess.DEVNULL, timeout=2 * LIMIT_S, check=False, env=dict(env, TMPDIR=str(folder)))
        took_s = time.monotonic() - start
        assert result.returncode == 0, f"the {number} run ends with {result.returncode}: {result.stdout}"
        assert result.stdout.count("  holds:") >= 10 and "DOES NOT HOLD" not in result.stdout, result.stdout
        assert took_s <= LIMIT_S, f"the {number} run took {took_s:.0f} s"
        print(f"the {number} run took {took_s:.1f} s")
        after = traces(folder)
        for what, those in after.items():
            assert those <= before[what], f"the {number} run leaves {what}: {those - before[what]}"
    folder.rmdir()


suite.run()
