#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The manual pages: sound roff, nothing missing, every error code in the table, examples that run, all of it installed.

pages.py SOURCE BUILD PFEEDD PFEEDCTL EXAMPLE..."""
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from common import Daemon, Suite, run, temporary

source, build, pfeedd, pfeedctl = (Path(argument) for argument in sys.argv[1:5])
examples = [Path(argument) for argument in sys.argv[5:]]
folder = build / "deploy/man"
suite = Suite()


def page(name):
    """A page's text as a reader has it, without roff's escapes."""
    text = (folder / name).read_text()
    if text.startswith(".so "):
        return page(text.split("/")[-1].strip())
    text = re.sub(r"\\f[BIR]|\\&", "", text)
    for escape, plain in (("\\-", "-"), ("\\(aq", "'"), ("\\(ga", "`"), ("\\(ti", "~"), ("\\(ha", "^"), ("\\e", "\\")):
        text = text.replace(escape, plain)
    return text


def terms(text):
    """What stands as a term of a list, first word."""
    return set(re.findall(r"^\.TP\n(?:\.BR? )?([^\s\[=]+)", text, re.MULTILINE))


def calls():
    return re.findall(r"^PFEED_API [^;]*?(pfeed_\w+)\(", (source / "client/pfeed.h").read_text(), re.MULTILINE)


def table():
    rows = re.findall(r"^PFEED_ERROR\((\w+), (E\w+),", (source / "client/errors.tbl").read_text(), re.MULTILINE)
    assert len(rows) == len(set(rows)) > 20, "errors.tbl has a row twice, or too few"
    return {call: {code for who, code in rows if who == call} for call, _ in rows}


@suite.test
def lint():
    pages = sorted(folder.glob("*.[1-8]"))
    assert len(pages) == 5 + len(calls()), f"{len(pages)} pages"
    with temporary() as root:  # .so goes by the folders of an installed tree
        for path in pages:
            (root / f"man{path.suffix[1:]}").mkdir(exist_ok=True)
            shutil.copy(path, root / f"man{path.suffix[1:]}")
        tools = [tool for tool in (["groff", "-man", "-ww", "-z", "-Tutf8"], ["mandoc", "-T", "lint", "-W", "error"])
                 if shutil.which(tool[0])]
        if not tools:
            suite.skip("neither groff nor mandoc is installed")
        for tool in tools:
            for path in sorted(root.glob("man*/*")):
                result = subprocess.run([*tool, path.relative_to(root)], cwd=root, capture_output=True, text=True, check=False)
                said = result.stdout + result.stderr
                assert result.returncode == 0 and not said, f"{tool[0]}: {path.name}: {said}"


@suite.test
def shown_by_man():
    if not shutil.which("man"):
        suite.skip("man is not installed")
    for path in sorted(folder.glob("*.[1-8]")):
        if path.read_text().startswith(".so "):
            continue
        result = subprocess.run(["man", "--warnings", "-E", "UTF-8", "-l", path], capture_output=True, text=True,
                                check=False, env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "MANWIDTH": "80"})
        assert result.returncode == 0 and "@" not in result.stdout.split("SETTINGS")[0], f"{path.name}: {result.stderr}"
        # Code is as wide as it is in the header.
        said = [line for line in result.stderr.splitlines() if "can't break line" not in line and "cannot adjust" not in line]
        assert not said, f"{path.name}: {said}"
        assert "SEE ALSO" in result.stdout, f"{path.name} is cut"


@suite.test
def options():
    for program, name in ((pfeedd, "pfeedd.8"), (pfeedctl, "pfeedctl.1")):
        wanted = set(re.findall(r"^  (--[a-z-]+)", run(program, "--help"), re.MULTILINE))
        assert len(wanted) >= 8 and wanted <= terms(page(name)), f"{name} lacks {wanted - terms(page(name))}"


@suite.test
def verbs():
    code = (source / "client/ctl/verbs.c").read_text()
    wanted = re.findall(r'^        \.name = "([a-z]+)"', code, re.MULTILINE)
    text = page("pfeedctl.1")
    assert len(wanted) >= 10, "verbs.c looks otherwise than this test thinks"
    for verb in wanted:
        assert re.search(rf"^\.SS {verb}( |$)", text, re.MULTILINE), f"pfeedctl.1 lacks {verb}"
        _, _, part = text.partition(f"\n.SS {verb}")
        part = part.split("\n.S")[0]
        for option in re.findall(r"^  (--[a-z-]+)", run(pfeedctl, "help", verb), re.MULTILINE):
            assert option in part, f"pfeedctl.1 lacks {option} of {verb}"
        for column in re.findall(r"^  (?:\*| ) ([a-z_]+) ", run(pfeedctl, "help", verb), re.MULTILINE):
            assert column in terms(part), f"pfeedctl.1 lacks column {column} of {verb}"


@suite.test
def counters():
    wanted = re.findall(r"^PF_COUNTER\(\w+, (\w+)", (source / "proto/counters.tbl").read_text(), re.MULTILINE)
    listed = terms(page("pfeedctl.1").split(".SH COUNTERS")[1])
    assert len(wanted) >= 20 and set(wanted) <= listed, f"pfeedctl.1 lacks {set(wanted) - listed}"


@suite.test
def settings():
    """By the tables themselves, so that one which --help forgets is missed here."""
    text, n = page("pfeed.yaml.5"), 0
    for path in sorted(source.glob("daemon/**/*.c")):
        for name, kind in re.findall(r'\{ "(\w+)", SETTING_(\w+),', path.read_text()):
            n += 1
            assert kind == "LATER" or name in terms(text), f"pfeed.yaml.5 lacks {name} of {path.name}"
    assert n > 50, "the tables look otherwise than this test thinks"
    words = re.findall(r"^(?:sources|decoders|transforms|deliveries) = \[(.*)\]", (source / "daemon/meson.build").read_text(),
                       re.MULTILINE)
    for word in re.findall(r"'(\w+)'", " ".join(words)):
        assert re.search(rf"^\.SS \w+ '{word}'$", text, re.MULTILINE), f"pfeed.yaml.5 lacks {word}"


@suite.test
def a_page_per_call():
    exported = re.findall(r"^    (pfeed_\w+);", (source / "client/libpfeed.map").read_text(), re.MULTILINE)
    assert sorted(exported) == sorted(calls()), "pfeed.h and libpfeed.map differ"
    overview = page("libpfeed.3")
    for call in calls():
        text = page(f"{call}.3")
        sections = re.findall(r"^\.SH (.*)$", text, re.MULTILINE)
        for section in ("NAME", "SYNOPSIS", "DESCRIPTION", "RETURN VALUE", "ERRORS", "EXAMPLE", "SEE ALSO"):
            assert section in sections, f"{call}.3 lacks {section}"
        assert f"{call}(" in text.split(".SH DESCRIPTION")[0], f"{call}.3 has no prototype"
        assert call in terms(overview), f"libpfeed.3 lacks {call}"
    for call, codes in table().items():
        listed = terms(page(f"{call}.3").split(".SH ERRORS")[1])
        assert {"-" + code for code in codes} == {term for term in listed if term[0] == "-"}
    assert {"-" + code for codes in table().values() for code in codes} <= terms(overview)


@suite.test
def codes_of_the_header():
    """pfeed.h names the codes of each call, errors.tbl explains them."""
    header = (source / "client/pfeed.h").read_text()
    for call, codes in table().items():
        comment = re.search(rf"/\*((?:(?!\*/).)*)\*/\nPFEED_API [^;]*\b{call}\(", header, re.DOTALL)[1]
        assert set(re.findall(r"-(E[A-Z]+)", comment)) == codes, f"{call}: pfeed.h and errors.tbl differ"


def functions(paths):
    """Bodies by name, as this tree formats its C."""
    return {name: body for path in paths
            for name, body in re.findall(r"^(?:[\w*]+[ *]+)+(\w+)\([^;{]*\)\n\{\n(.*?)^\}", path.read_text(),
                                         re.MULTILINE | re.DOTALL)}


@suite.test
def codes_of_the_library():
    """Whatever a call may reach: codes that it swallows are found too, and must be in the table or said here."""
    bodies = functions(path for path in sorted((source / "client").glob("*.c")) if path.name != "stat.c")
    bodies["begin_attempt"] = bodies["end_attempt"] = bodies["passes"] = ""  # a failed attempt to attach again ends as -EPIPE or not at all
    known = table()
    for call in calls():
        assert call in bodies, f"{call} is not found in client/"
        reached, left = set(), [call]
        while left:
            name = left.pop()
            if name not in reached:
                reached.add(name)
                left += [other for other in bodies if re.search(rf"\b{other}\(", bodies[name])]
        codes = {code for name in reached for code in re.findall(r"(?:return|,|\?|:|=) -(E[A-Z0-9]+)\b", bodies[name])}
        if call == "pfeed_close":  # tells nobody
            codes = set()
        assert codes <= known.get(call, set()), f"errors.tbl lacks {codes - known.get(call, set())} of {call}"
    assert "ENOBUFS" in known["pfeed_next"] and "ENOSYS" in known["pfeed_open"]


@suite.test
def codes_of_the_daemon():
    """What the daemon answers to an attach is what pfeed_open returns."""
    found = set()
    for path in [path for words in ("consumer*", "job*", "server*", "deliver/*") for path in source.glob(f"daemon/{words}.c")]:
        text = path.read_text()
        found |= set(re.findall(r"(?:problem_set\(\s*why|send_error\(connection), -(E[A-Z]+)\b", text))
    assert len(found) > 6, "the daemon's sources look otherwise than this test thinks"
    assert found <= table()["pfeed_open"], f"errors.tbl lacks {found - table()['pfeed_open']} of pfeed_open"


@suite.test
def examples_run():
    config = (source / "deploy/pfeed.yaml").read_text().replace("memory: auto", "memory: 64MiB")
    with Daemon(pfeedd, config) as daemon:
        for example in examples:
            said = run(example, env={"PFEED_SOCKET": str(daemon.socket)})
            assert said.strip(), f"{example.name} says nothing"
    assert {example.name for example in examples} == {path.stem for path in (source / "deploy/man").glob("*.c")}
    for path in (source / "deploy/man").glob("pfeed_*.3.in"):
        assert "@example " in path.read_text() or path.read_text().startswith(".so ")


def option(meson, name):
    options = json.loads(run(meson, "introspect", "--buildoptions", build))
    return next(str(entry["value"]) for entry in options if entry["name"] == name)


def use(root, libdir):
    """A program builds against the installed tree by what pkg-config says, and runs with what is installed."""
    tools = [shutil.which(tool) for tool in ("pkg-config", "cc")]
    if not all(tools):
        suite.skip("all is in place; pkg-config or cc is not installed, so nothing was built against it")
    flags = run(tools[0], "--cflags", "--libs", "pfeed", env={
        "PKG_CONFIG_LIBDIR": str(libdir / "pkgconfig"), "PKG_CONFIG_SYSROOT_DIR": str(root),
        "PKG_CONFIG_ALLOW_SYSTEM_CFLAGS": "1", "PKG_CONFIG_ALLOW_SYSTEM_LIBS": "1"}).split()
    assert "-lpfeed" in flags and all(flag[2:].startswith(str(root)) for flag in flags if flag[:2] in ("-I", "-L")), flags
    if os.environ.get("PFEED_TEST_SANITIZE", "none") != "none":
        return  # the library needs the sanitizer's runtime, which pfeed.pc rightly does not name
    (root / "use.c").write_text("#include <pfeed.h>\n#include <stdio.h>\nint main(void) { return puts(pfeed_version()) < 0; }\n")
    run(tools[1], "-o", root / "use", root / "use.c", *flags)
    assert run(root / "use", env={"LD_LIBRARY_PATH": str(libdir)}).strip(), "the version is empty"
    assert "libpfeed.so.0" in {path.name for path in libdir.iterdir()}, "what it was linked to is not there"


@suite.test
def installed():
    meson = shutil.which("meson")
    if not meson:
        suite.skip("meson is not on the PATH")
    with temporary() as root:
        run(meson, "install", "--no-rebuild", "-C", build, "--destdir", root)
        prefix = root / option(meson, "prefix").lstrip("/")
        at = {name: root / (Path(option(meson, "prefix")) / option(meson, name)).relative_to("/")
              for name in ("bindir", "sbindir", "libdir", "includedir", "datadir", "sysconfdir")}
        config = at["sysconfdir"] / "pfeed/pfeed.yaml"
        wanted = [at["sbindir"] / "pfeedd", at["bindir"] / "pfeedctl", at["libdir"] / "libpfeed.so", at["libdir"] / "libpfeed.so.0",
                  at["libdir"] / "libpfeed.a", at["includedir"] / "pfeed.h", at["libdir"] / "pkgconfig/pfeed.pc", config,
                  prefix / "lib/sysusers.d/pfeed.conf", prefix / "lib/tmpfiles.d/pfeed.conf", at["datadir"] / "doc/pfeed/pfeed.yaml"]
        if (build / "deploy/pfeedd.service").exists():  # only with libsystemd, see deploy/meson.build
            wanted += [prefix / "lib/systemd/system" / unit for unit in ("pfeedd.service", "pfeedd.socket")]
        wanted += [at["datadir"] / "bash-completion/completions" / name for name in ("pfeedctl", "pfeedd")]
        wanted += [at["datadir"] / f"man/man{path.suffix[1:]}" / path.name for path in folder.glob("*.[1-8]")]
        for path in wanted:
            assert path.is_file() and path.stat().st_size > 0, f"{path.relative_to(root)} is not installed"
        for program in (at["sbindir"] / "pfeedd", at["bindir"] / "pfeedctl"):
            assert run(program, "--version", env={"LD_LIBRARY_PATH": str(at["libdir"])}).strip()
        assert config.read_text() == (source / "deploy/pfeed.yaml").read_text()
        config.write_text("# mine\n")
        run(meson, "install", "--no-rebuild", "-C", build, "--destdir", root)
        assert config.read_text() == "# mine\n", "a second install has replaced the configuration"
        use(root, at["libdir"])


suite.run()
