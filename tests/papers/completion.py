#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What bash offers behind pfeedctl and pfeedd, with a daemon and without.

completion.py PFEEDD PFEEDCTL COMPLETION-OF-PFEEDD COMPLETION-OF-PFEEDCTL"""
import re
import shutil
import subprocess
import sys
from pathlib import Path

from common import Daemon, Suite, run, temporary

pfeedd, pfeedctl, of_pfeedd, of_pfeedctl = (Path(argument).absolute() for argument in sys.argv[1:])
suite = Suite()
SCRIPT = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(( $# - 1 )); COMPREPLY=()
"_$(basename "$1")"
printf '%s\\n' "${COMPREPLY[@]}"
"""
CONFIG = """version: 1
daemon: { workers: 1, memory: 64MiB }
feeds:
  images-train: &feed
    source: { type: synthetic, rows: 64 }
    batch: 8
    slots: 4
    fields: { x: { dtype: float32, shape: [16] } }
  images-val:
    source: { type: synthetic, rows: 64 }
    batch: 8
    slots: 4
    fields: { x: { dtype: float32, shape: [16] } }
""".replace(" &feed", "")


def offers(script, *words):
    if not shutil.which("bash"):
        suite.skip("bash is not installed")
    result = subprocess.run(["bash", "--norc", "-c", SCRIPT, "bash", script, *words], capture_output=True, text=True, check=False)
    assert result.returncode == 0 and not result.stderr, f"{words}: {result.stderr}"
    return result.stdout.split()


def ctl(*words):
    return offers(of_pfeedctl, pfeedctl, *words)


def helped(program, *words):
    return re.findall(r"^  ((?:--)?[a-z-]+)", run(program, *words).split("\nColumns")[0], re.MULTILINE)


@suite.test
def verbs_and_options():
    every = helped(pfeedctl, "--help")
    verbs = [word for word in every if not word.startswith("-")]
    assert len(verbs) >= 10 and set(verbs) <= set(ctl("")), ctl("")
    assert ctl("st") == [verb for verb in verbs if verb.startswith("st")]
    for verb in verbs:
        wanted = [option for option in helped(pfeedctl, "help", verb) if option.startswith("--")]
        assert sorted(ctl(verb, "--")) == sorted(wanted), f"{verb}: {ctl(verb, '--')}"
    assert ctl("help", "pe") == ["peek"]
    assert ctl("completion", "") == ["--help", "bash", "zsh", "fish"]
    assert ctl("--socket", "/nonexistent", "pe") == ["peek"]
    assert ctl("--socket", "=", "/nonexistent", "pe") == ["peek"]
    assert ctl("feeds", "--watch", "=", "2", "--js") == ["--json"]
    assert ctl("nonsense", "") == []


@suite.test
def files():
    with temporary() as folder:
        (folder / "a.ppm").touch()
        for words in (("peek", "--out"), ("peek", "--out", "=")):
            assert ctl(*words, f"{folder}/a") == [f"{folder}/a.ppm"]
        assert offers(of_pfeedd, pfeedd, "--config", f"{folder}/a") == [f"{folder}/a.ppm"]


@suite.test
def daemon_options():
    assert offers(of_pfeedd, pfeedd, "--") == [option for option in helped(pfeedd, "--help") if option.startswith("--")]
    assert offers(of_pfeedd, pfeedd, "--log-level", "de") == ["debug"]


@suite.test
def feeds():
    with Daemon(pfeedd, CONFIG) as daemon:
        at = ("--socket", str(daemon.socket))
        for words in (("feeds", *at, ""), ("peek", "--socket", "=", str(daemon.socket), "")):
            assert [word for word in ctl(*words) if not word.startswith("-")] == ["images-train", "images-val"], ctl(*words)
        assert ctl("peek", *at, "images-v") == ["images-val"]
        assert ctl("slots", *at, "--feed", "images-t") == ["images-train"]
        assert ctl("slots", *at, "images-train", "i") == [], "a second feed is offered"
    assert [word for word in ctl("feeds", "--socket", "/nonexistent", "") if not word.startswith("-")] == []


suite.run()
