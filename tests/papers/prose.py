#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""README.md and CONTRIBUTING.md: each block of code is run, compared with the file that it is from, or says why not.

The line above a block is <!-- test: NAME --> (a function of this file, below), <!-- from: FILE --> (its lines stand in FILE in
this order; ... is what is left out) or <!-- no test: REASON -->. Links and names of files must lead somewhere.

prose.py SOURCE BUILD PFEEDD PFEEDCTL MKIMAGES"""
import contextlib
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

from common import SCALE, Daemon, Suite, listens, run, temporary, until

source, build, pfeedd, pfeedctl, mkimages = (Path(argument).absolute() for argument in sys.argv[1:])
suite = Suite()
PAPERS = ("README.md", "CONTRIBUTING.md")
SANITIZED = os.environ.get("PFEED_TEST_SANITIZE", "none") != "none"


def blocks(text):
    """Triples: the line above, the language, the code."""
    lines, found, at = text.split("\n"), [], 0
    while at < len(lines):
        if lines[at].startswith("```"):
            end = lines.index("```", at + 1)
            found.append((lines[at - 1], lines[at][3:], "\n".join(lines[at + 1:end]) + "\n"))
            at = end
        at += 1
    return found


def shown(name):
    """The block of a test, in either paper."""
    found = [code for paper in PAPERS for above, _, code in blocks((source / paper).read_text())
             if above == f"<!-- test: {name} -->"]
    assert len(found) == 1, f"{len(found)} blocks are marked with test: {name}"
    return found[0]


def small(text):
    """A configuration for this machine."""
    return re.sub(r"memory: *\w+", "memory: 256MiB", re.sub(r"workers: *\w+", "workers: 1", text))


def pictures(folder):
    folder.mkdir(parents=True)
    run(mkimages, "--out", folder, "--count", "300", "--classes", "2")


def shards(folder):
    """Two of WebDataset's."""
    folder.mkdir(parents=True)
    for shard in range(2):
        with tarfile.open(folder / f"{shard:06d}.tar", "w") as archive:
            for sample in range(200):
                for extension, data in ("jpg", b"\xff\xd8\xff"), ("json", b'{"width": 7}'), ("txt", b"a caption"):
                    member = tarfile.TarInfo(f"{shard}{sample:05d}.{extension}")
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))


@suite.test
def marked():
    """Every block, and every mark is of a test that is here."""
    names = {name.replace("_", " ").replace(" dot ", ".") for name, function in globals().items() if function in suite.tests}
    for paper in PAPERS:
        for above, _, code in blocks((source / paper).read_text()):
            mark = re.fullmatch(r"<!-- (test|from|no test): (.+) -->", above)
            assert mark, f"{paper}: nothing above says how this block is tested: {code}"
            assert mark[1] != "test" or mark[2] in names, f"{paper}: there is no test '{mark[2]}'"


def as_pattern(lines):
    """Lines of a file, one after the other but for what ... leaves out."""
    def one(line):
        return "(?:.*\n)*?" if line.strip() == "..." else ".*".join(re.escape(part) for part in line.split("...")) + "\n"
    return "^" + "".join(one(line) for line in lines)


@suite.test
def quoted():
    """Lines that are said to stand in a file."""
    n = 0
    for paper in PAPERS:
        for above, _, code in blocks((source / paper).read_text()):
            mark = re.fullmatch(r"<!-- from: (.+) -->", above)
            if not mark:
                continue
            text, lines = (source / mark[1]).read_text(), code.rstrip("\n").split("\n")
            for end in range(1, len(lines) + 1):
                found = re.search(as_pattern(lines[:end]), text, re.MULTILINE)
                assert found, f"{paper}: {mark[1]} has not (here) '{lines[end - 1]}'"
            n += len(lines)
    assert n > 30


@suite.test
def links():
    for paper in PAPERS:
        text = (source / paper).read_text()
        targets = re.findall(r"\]\(([^)#:]+)\)", text) + re.findall(r"`((?:client|daemon|deploy|proto|tests)/[\w./-]+)`", text)
        assert len(targets) > 10
        for target in targets:
            if "NAME" not in target and "CALL" not in target:
                assert (source / target).exists(), f"{paper}: there is no {target}"


@suite.test
def trainer_dot_c():
    """The trainer of the README, compiled by the command that stands below it, on the feed that it names."""
    if SANITIZED:
        suite.skip("a sanitized library wants a sanitized program")
    if not shutil.which("pkg-config") or not shutil.which("cc"):
        suite.skip("no cc or pkg-config")
    config = """version: 1
daemon: { workers: 1, memory: 256MiB }
feeds:
  imagenet-train:
    source: { type: synthetic, rows: 64 }
    batch: 16
    slots: 4
    fields:
      image: { dtype: float16, shape: [3, 224, 224] }
      label: { dtype: int64 }
"""
    with temporary() as folder, Daemon(pfeedd, config) as daemon:
        (folder / "trainer.c").write_text(shown("trainer.c"))
        (folder / "train_step.c").write_text("""#include <stdint.h>
#include <stdio.h>
void train_step(const _Float16 *pixels, const int64_t *labels, uint32_t rows);
void train_step(const _Float16 *pixels, const int64_t *labels, uint32_t rows)
{
    for (uint32_t row = 0; row < rows; row++)
        printf("%d %lld\\n", (float)pixels[(row + 1) * 3 * 224 * 224 - 1] >= 0.5f, (long long)labels[row]);
}
""")
        env = {"PKG_CONFIG_PATH": str(build / "meson-uninstalled"), "LD_LIBRARY_PATH": str(build / "client")}
        run("sh", "-ec", shown("compile"), cwd=folder, env=env)
        said = run(folder / "trainer", env={**env, "PFEED_SOCKET": str(daemon.socket)}).split("\n")[:-1]
        assert len(said) == 3 * 64 and all(re.fullmatch(r"1 \d", line) for line in said), said[:5]


@suite.test
def compile():  # pylint: disable=redefined-builtin
    """trainer_dot_c runs it; here: the warnings that this tree asks for."""
    if not shutil.which("cc"):
        suite.skip("no cc")
    with temporary() as folder:
        (folder / "trainer.c").write_text(shown("trainer.c"))
        run("cc", "-Wall", "-Wextra", "-Werror", "-c", "-I", source / "client", "trainer.c", cwd=folder)


@suite.test
def configuration():
    """As it stands, but for where the data are and whose group is on this machine."""
    with temporary() as folder:
        text = small(shown("configuration")).replace("/data/", f"{folder}/data/").replace("[ml]", "[root]")
        (folder / "pfeed.yaml").write_text(text)
        pictures(folder / "data/imagenet/train")
        (folder / "data/train-0.bin").write_bytes(bytes(2 * 40000))
        shards(folder / "data/laion")
        said = run(pfeedd, "--check", folder / "pfeed.yaml")
        assert "fine" in said, said
        (folder / "pfeed.yaml").write_text(text.replace("shuffle:", "shufle:", 1))
        assert "shuffle" in run(pfeedd, "--check", folder / "pfeed.yaml", status=78)


def started(folder, code, **env):
    """The block as a process of its own, in a folder that looks like the tree."""
    (folder / "build").mkdir()
    for name in ("daemon", "client"):
        (folder / "build" / name).symlink_to(build / name)
    (folder / "build/dev").symlink_to(build)
    (folder / "deploy").mkdir()
    (folder / "deploy/pfeed.yaml").write_text(small((source / "deploy/pfeed.yaml").read_text()))
    (folder / "my.yaml").write_text(small((source / "deploy/pfeed.yaml").read_text()))
    return subprocess.Popen(["sh", "-ec", code], cwd=folder, env={**os.environ, **env}, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True, start_new_session=True)


@suite.test
def by_hand():
    with temporary() as folder:
        at = folder / "pfeed/pfeedd.sock"
        process = started(folder, "exec " + shown("by hand"), XDG_RUNTIME_DIR=str(folder),
                          XDG_STATE_HOME=str(folder / "state"))
        try:
            until(lambda: listens(at) or process.poll() is not None, "the daemon listens")
            env = {"XDG_RUNTIME_DIR": str(folder)}
            until(lambda: "try" in run(pfeedctl, "feeds", env=env), "its feeds are open")
            run(pfeedctl, "stop", env=env)
            said, _ = process.communicate(timeout=60 * SCALE)
            assert process.returncode == 0, said
        finally:
            process.kill()
            process.wait()


@suite.test
def play():
    with temporary() as folder:
        process = started(folder, shown("play").replace("/tmp/play.sock", str(folder / "play.sock")))
        try:
            said, _ = process.communicate(timeout=120 * SCALE)
            assert process.returncode == 0 and " epochs=1 " in said and "has stopped" in said, said
        finally:
            with contextlib.suppress(ProcessLookupError):  # the daemon too, where the block did not come to its end
                os.killpg(process.pid, signal.SIGKILL)


@suite.test
def folders():
    for line in shown("folders").splitlines():
        folder, text = line.split(None, 1)
        assert (source / folder).is_dir(), f"there is no {folder}"
        for name in re.findall(r"(\w+)/", text):
            assert (source / folder / name).is_dir(), f"there is no {folder}{name}"


@suite.test
def tables_of_the_readme():
    """Whatever verbs and plug-ins it names are there; it need not name all."""
    text = (source / "README.md").read_text()
    verbs = re.findall(r"^\| `pfeedctl (\w+)", text, re.MULTILINE)
    assert len(verbs) > 5
    for verb in verbs:
        run(pfeedctl, "help", verb)
    helped = run(pfeedd, "--help")
    for words, stage in (("sources", "source"), ("decoders", "decode"), ("transforms", "transform"), ("delivery", "deliver")):
        line = re.search(rf"^\| {words} \| (.*) \|$", text, re.MULTILINE)[1]
        named = set(re.findall(r"`(\w+)`", line))
        assert named and named <= set(re.findall(rf"^{stage} '(\w+)'", helped, re.MULTILINE)), words


suite.run()
