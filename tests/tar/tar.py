#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Shards as others write them, read by the source `tar` and by Python's tarfile: the same samples, in the same order, of the same bytes.

    tar.py TARLIST [NAME...]

NAME: only these tests. Those of the webdataset package need it (and are skipped otherwise): set PFEED_WEBDATASET to a folder that
it may be installed in by pip, or where it is. bsdtar is used where there is one. Exit codes: 0 all hold, 1 not.
"""
import gzip
import io
import json
import os
import random
import re
import shutil
import struct
import subprocess
import sys
import tarfile
import tempfile
import time

sys.dont_write_bytecode = True
TARLIST = os.path.abspath(sys.argv[1])
BLOCK = 512
PAST = 1_000_000_000  # of files that a manifest may be kept of


class Failure(Exception):
    """A test's own."""


def check(holds, *what):
    if not holds:
        raise Failure(" ".join(str(w)[:400] for w in what))


# --- pfeed's side and the other ----------------------------------------------------------------------------------------------


class Listing:
    def __init__(self, wants, patterns, *options):
        words = [wants] if isinstance(wants, str) else list(wants)
        done = subprocess.run([TARLIST, *options, *words, "--", *patterns], capture_output=True, check=False)
        check(done.returncode in (0, 1), "tarlist ended with", done.returncode, done.stderr.decode())
        lines = done.stdout.decode().splitlines()
        self.log = done.stderr.decode().replace(" ./", " ")  # where relative paths start
        self.error, self.samples = None, []
        first = lines[0].split(" ")
        if first[0] == "error":
            self.error = lines[0].split(" ", 3)[3].replace("./", "")
            self.key = first[1]
            return
        self.count, self.kept, self.max_bytes, self.bytes = int(first[1]), first[2] == "kept", int(first[3]), int(first[4])
        for line in lines[1:]:
            number, where, path, *values = line.split("\t")
            self.samples.append((int(number), bytes.fromhex(where).decode(errors="surrogateescape").removeprefix("./"),
                                 bytes.fromhex(path).decode(errors="surrogateescape"),
                                 [bytes.fromhex(v[1:]) if v[0] == "=" else Failure(v[1:]) for v in values]))
        check(len(self.samples) == self.count, "samples", len(self.samples), self.count)

    def values(self, want=0):
        return [values[want] for _, _, _, values in self.samples]


def cut_name(name):
    """WebDataset's rule; its own regular expression also takes a folder's .hidden files, with keys that end in a slash."""
    match = re.match(r"^((?:.*/|)[^./][^./]*)[.]([^/]*)$", name)
    return (match.group(1), match.group(2).lower()) if match and not re.match(r"__[^/]*__($|/)", name) else (None, None)


def oracle(paths):
    """(shard, key, {extension: bytes}) of all samples, as webdataset groups what tarfile reads."""
    samples = []
    for path in paths:
        last = None
        with tarfile.open(path, "r:", errors="surrogateescape") as archive:
            for member in archive:
                key, extension = cut_name(member.name) if member.isreg() else (None, None)
                if key is None:
                    continue
                if key != last:
                    samples.append((path, key, {}))
                    last = key
                samples[-1][2][extension] = archive.extractfile(member).read()
    return samples


def compare(paths, extensions, patterns=None, *options):
    """All samples and all members of these extensions."""
    expected = oracle(paths)
    got = Listing(extensions, patterns or paths, *options)
    check(got.error is None, "it does not open:", got.error)
    check(got.count == len(expected), "there are", len(expected), "samples, not", got.count)
    for number, where, path, values in got.samples:
        shard, key, members = expected[number]
        check(where == f"{shard}!{key}", "where is", where, "not", f"{shard}!{key}")
        check(path == f"{os.path.basename(shard)}!{key}", "path is", path)
        for extension, value in zip(extensions, values):
            if extension in members:
                check(value == members[extension], where, extension, "has other bytes:", value)
            else:
                check(isinstance(value, Failure), where, "has no", extension)
    return got


def settle(*paths):
    for path in paths:
        os.utime(path, (PAST, PAST))


def names(random_):
    """Of samples: short and long, in folders, with spaces, dots in folders, bytes beyond ASCII."""
    made = ["a", "b b", "deep/er/c", "f.older/d", "é/ü–x", "日本語/写真", "tab\there", "q'uote\"s", "back\\slash", "-dash", "x{1}*?[a]",
            "n" * 90 + "/m", "n" * 95, "n" * 96, "n" * 97, "p" * 150 + "/" + "q" * 90, "r/" * 60 + "s", "t" * 240, "u/" * 150 + "v" * 200,
            "./w"]
    return made + [f"{random_.randrange(10**9):09d}" for _ in range(30)]


def contents(random_, key):
    def size():
        return random_.choice([0, 1, 511, 512, 513, 1024, 5000, random_.randrange(4000), random_.randrange(100)])
    members = {"bin": random_.randbytes(size()), "seg.bin": random_.randbytes(size()), "CLS": b"%d\n" % random_.randrange(-9, 10**6)}
    return members if key != "b b" else {"bin": b""}


def make_tree(folder, random_, keys):
    """Files below folder; their names in order, those of a sample together."""
    listed = []
    for key in keys:
        os.makedirs(os.path.dirname(os.path.join(folder, key)) or folder, exist_ok=True)
        for extension, data in contents(random_, key).items():
            with open(os.path.join(folder, f"{key}.{extension}"), "wb") as file:
                file.write(data)
            listed.append(f"{key}.{extension}")
    return listed


EXTENSIONS = ["bin", "seg.bin", "cls"]


def compare_all(paths):
    expected = oracle(paths)
    got = Listing(EXTENSIONS, paths)
    check(got.error is None, got.error)
    check(got.count == len(expected), len(expected), "samples, not", got.count)
    for number, where, _, values in got.samples:
        shard, key, members = expected[number]
        check(where == f"{shard}!{key}", where, "is not", key)
        if "cls" in members:
            members["cls"] = struct.pack("<q", int(members["cls"]))
        for extension, value in zip(EXTENSIONS, values):
            if extension in members:
                check(value == members[extension], where, extension, "differs:", value)
            else:
                check(f"there is no member '{extension}'; it has: " in str(value), where, value)


# --- tests -------------------------------------------------------------------------------------------------------------------


def test_gnu_tar(random_):
    keys = names(random_)
    tree = make_tree("tree", random_, keys)
    for kind in ("gnu", "oldgnu", "posix", "ustar", "v7"):
        def fits(name):
            encoded = len(name.encode())
            if kind == "v7":
                return encoded < 100
            if kind == "ustar":
                return len(name.encode()) <= 100 or any(
                    len(name[:i].encode()) <= 155 and 0 < len(name[i + 1:].encode()) <= 100 for i, c in enumerate(name) if c == "/")
            return True
        with open("listed", "w", encoding="utf-8") as file:
            for name in tree:
                if fits(name):
                    file.write(name + "\0")
        # ./w.bin is written so; without quoting of backslashes, without sorting
        subprocess.run(["tar", "-C", "tree", f"--format={kind}", "-cf", f"{kind}.tar", "--null", "--verbatim-files-from", "-T", "listed"],
                       check=True)
        check(os.path.getsize(f"{kind}.tar") > 10000, kind, "is empty")
        compare_all([f"{kind}.tar"])
    # whole folders, sorted: with folders' own headers and ./ in front
    subprocess.run(["tar", "-C", "tree", "--sort=name", "-cf", "whole.tar", "."], check=True)
    expected = oracle(["whole.tar"])
    check(Listing("bin", ["whole.tar"]).count == len(expected))
    # appended and joined archives
    subprocess.run(["tar", "-C", "tree", "-cf", "one.tar", "a.bin", "a.CLS", "a.seg.bin"], check=True)
    subprocess.run(["tar", "-C", "tree", "-rf", "one.tar", "--format=gnu", "t" * 240 + ".bin"], check=True)
    subprocess.run(["tar", "-Af", "one.tar", "gnu.tar"], check=True)
    check(Listing("bin", ["one.tar"]).count == len(oracle(["one.tar"])) > 50)


def test_tarfile(random_):
    keys = names(random_)
    for kind, form in (("pax", tarfile.PAX_FORMAT), ("gnu", tarfile.GNU_FORMAT), ("ustar", tarfile.USTAR_FORMAT)):
        with tarfile.open(f"{kind}.tar", "w", format=form) as archive:
            archive.addfile(tarfile.TarInfo("__meta__"))
            for key in keys:
                for extension, data in contents(random_, key).items():
                    info = tarfile.TarInfo(f"{key}.{extension}")
                    info.size, info.mtime = len(data), 1234567890.5
                    if kind == "pax":
                        info.pax_headers = {"comment": "x" * random_.randrange(2000), "SCHILY.xattr.user.é": "ü"}
                    try:
                        archive.addfile(info, io.BytesIO(data))
                    except ValueError:
                        check(kind == "ustar", "only ustar has no long names")
        compare_all([f"{kind}.tar"])
    # a global header, folders, hidden files, names without a dot, members of WebDataset's own
    with tarfile.open("odd.tar", "w", format=tarfile.PAX_FORMAT, pax_headers={"comment": "all of it"}) as archive:
        for name in ("x", "x/.hidden", ".top.jpg", "x/none", "x/1.bin", "__index__.bin", "x/1.cls", "__all__/2.bin", "x/3.", "x/4.bin"):
            info = tarfile.TarInfo(name)
            if name == "x":
                info.type = tarfile.DIRTYPE
            info.size = 0 if name == "x" else 3
            archive.addfile(info, io.BytesIO(b"1 \n"))
    got = compare(["odd.tar"], ["bin"])
    check([s[2] for s in got.samples] == [f"odd.tar!{k}" for k in ("x/1", "__index__", "x/1", "x/3", "x/4")], got.samples)


def test_bsdtar(random_):
    if not shutil.which("bsdtar"):
        return "no bsdtar"
    tree = make_tree("tree", random_, [k for k in names(random_) if not k.startswith(("-", "x{"))])
    with open("listed", "w", encoding="utf-8") as file:
        file.write("".join(name + "\0" for name in tree))
    for kind in ("gnutar", "pax", "ustar"):
        subprocess.run(["bsdtar", "-C", "tree", f"--format={kind}", "-cf", f"{kind}.tar", "--null", "-T", "listed"],
                       env={**os.environ, "LC_ALL": "C.UTF-8"}, check=False, stderr=subprocess.DEVNULL)
        compare_all([f"{kind}.tar"])
    return None


def header(name, size, kind=b"0", magic=b"ustar\x0000", prefix=b"", signed=False, size_field=None):
    """A block as we like it."""
    field = size_field if size_field is not None else b"%011o\0" % size
    block = bytearray(name.ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 + field + b"00000000000\0" + b" " * 8 + kind +
                      b"\0" * 100 + magic.ljust(8, b"\0") + b"\0" * 64 + b"\0" * 16 + prefix.ljust(155, b"\0") + b"\0" * 12)
    check(len(block) == BLOCK, "a header of", len(block))
    total = sum(b - 256 if signed and b > 127 else b for b in block)
    block[148:156] = b"%06o\0 " % total
    return bytes(block)


def padded(data):
    return data + b"\0" * (-len(data) % BLOCK)


END = b"\0" * 2 * BLOCK


def write(path, *parts):
    with open(path, "wb") as file:
        for part in parts:
            file.write(part)


def test_headers(random_):
    """What no tool here writes by itself."""
    base256 = (1 << 95 | 5).to_bytes(12, "big")
    write("odd.tar", header(b"v7.bin", 3, kind=b"\0", magic=b""), padded(b"abc"),
          header(b"folder.bin/", 3, kind=b"\0", magic=b""),  # of v7: has no bytes
          header(b"spaces.bin", 3, size_field=b"          3 "), padded(b"def"),
          header(b"big.bin", 5, size_field=base256), padded(b"12345"),
          header("ä.bin".encode("latin-1"), 1, signed=True), padded(b"s"),
          header(b"kind7.bin", 2, kind=b"7"), padded(b"77"),
          header(b"base.bin", 2, prefix=b"a/prefix"), padded(b"pp"),
          header(b"dump", 3, kind=b"D"), padded(b"dir"), header(b"volume", 0, kind=b"V"),
          header(b"last.bin", 0), END)
    got = compare(["odd.tar"], ["bin"])
    check([s[2].split("!")[1] for s in got.samples] ==
          ["v7", "spaces", "big", "\udce4", "kind7", "a/prefix/base", "last"], [s[2] for s in got.samples])
    # GNU tar has times where others have a prefix (tarfile takes them for one)
    write("gnu.tar", header(b"gnu.bin", 2, prefix=b"00000000000", magic=b"ustar  "), padded(b"gg"), END)
    check([s[2] for s in Listing("bin", ["gnu.tar"]).samples] == ["gnu.tar!gnu"])
    # two in a row about one member: the records of pax say more
    record = b"21 path=from pax.bin\n"
    write("both.tar", header(b"pax", len(record), kind=b"x"), padded(record), header(b"long", 12, kind=b"L"), padded(b"from gnu.bin"),
          header(b"short.bin", 1), padded(b"1"), header(b"long", 13, kind=b"L"), padded(b"from gnu2.bin"),
          header(b"link", 10, kind=b"K"), padded(b"0123456789"), header(b"short.bin", 1), padded(b"2"), END)
    check([s[2] for s in Listing("bin", ["both.tar"]).samples] == ["both.tar!from pax", "both.tar!from gnu2"])


def test_huge(random_):
    """Members of more than 8 GiB and 4 GiB, in files that are holes."""
    for form, kind in ((tarfile.GNU_FORMAT, "gnu"), (tarfile.PAX_FORMAT, "pax")):
        with open(f"{kind}.tar", "wb") as file:
            for name, size in (("before.bin", 5), ("huge.mov", 9 << 30), ("large.bin", 5 << 30), ("after.bin", 5)):
                info = tarfile.TarInfo(name)
                info.size = size
                file.write(info.tobuf(form))
                at = file.tell()
                file.write(b"01234")
                file.seek(at + (size + BLOCK - 1) // BLOCK * BLOCK)
            file.write(END)
        got = Listing("bin", [f"{kind}.tar"])
        check([s[2].split("!")[1] for s in got.samples] == ["before", "huge", "large", "after"], got.error)
        before, huge, large, after = got.values()
        check(before == after == b"01234", before, after)
        check("no member 'bin'; it has: mov" in str(huge) and "4 GiB or more" in str(large), huge, large)
        check(got.max_bytes < 4096, "a buffer of", got.max_bytes)


def test_links_and_sparse(random_):
    os.mkdir("tree")
    write("tree/a.bin", b"bytes")
    os.link("tree/a.bin", "tree/b.bin")
    os.symlink("a.bin", "tree/c.bin")
    with open("tree/d.bin", "wb") as file:
        file.truncate(1 << 20)
        for i in range(60):  # more than the header holds: the map goes on
            file.seek(i * 16384)
            file.write(b"data")
    write("tree/e.bin", b"last")
    for options in (["--format=gnu"], ["--format=oldgnu"], ["--format=posix", "--sparse-version=0.0"],
                    ["--format=posix", "--sparse-version=0.1"], ["--format=posix", "--sparse-version=1.0"]):
        subprocess.run(["tar", "-C", "tree", "--sort=name", "-S", *options, "-cf", "x.tar", "a.bin", "b.bin", "c.bin", "d.bin", "e.bin"],
                       check=True)
        got = Listing("bin", ["x.tar"])
        check([s[2] for s in got.samples] == [f"x.tar!{k}" for k in "abcde"], options, got.error or got.samples)
        a, b, c, d, e = got.values()
        check(a == b"bytes" and e == b"last", options, a, e)
        check("'bin' is a link" in str(b) and "'bin' is a link" in str(c) and "'bin' is a sparse file" in str(d), options, b, c, d)


def make_shards(random_, n=4, each=12, text="shard-%03d.tar"):
    paths = []
    for s in range(n):
        paths.append(text % s)
        with tarfile.open(paths[-1], "w", format=tarfile.GNU_FORMAT) as archive:
            for i in range(each):
                for extension, data in (("bin", random_.randbytes(random_.randrange(2000))), ("cls", b"%d" % i)):
                    info = tarfile.TarInfo(f"{s}-{i:04d}.{extension}")
                    info.size = len(data)
                    archive.addfile(info, io.BytesIO(data))
    settle(*paths)
    return paths


def test_order(random_):
    paths = make_shards(random_, 12)
    everything = compare(paths, ["bin"], ["shard-{000..011}.tar"])
    compare(paths, ["bin"], ["shard-*.tar"])
    compare(paths[::-1], ["bin"], ["shard-{011..000}.tar"])
    compare(paths[0:12:5], ["bin"], ["shard-{000..011..5}.tar"])
    compare([paths[7], paths[2], paths[3]], ["bin"], ["shard-{007,{002..003}}.tar"])
    compare(paths[10:] + paths[:10], ["bin"], ["shard-01[01].tar", "shard-{000..011}.tar"])  # twice counts once, where it is first
    # at random places the same, by one and by several at once, of more shards than are kept open
    other = compare(paths, ["bin"], ["shard-{000..011}.tar"], "--stride", "5", "--threads", "8")
    check(other.samples[1][0] == 5 and sorted(s[0] for s in other.samples) == list(range(144)), "the stride")
    check(everything.count == 144, everything.count)
    many = make_shards(random_, 150, 1, "many-%d.tar")
    compare(many, ["bin"], ["many-{0..149}.tar"], "--stride", "7", "--threads", "8")
    os.rename("shard-003.tar", "x{1}.tar")
    compare(["x{1}.tar"], ["bin"], ["x\\{1\\}.tar"])


def test_kept(random_):
    paths = make_shards(random_)
    os.mkdir("state", 0o700)
    state = ["--state", "state"]
    wants = ["bin", "cls"]

    def look(kept, *more):
        fresh = Listing(wants, ["shard-*.tar"])
        got = Listing(wants, ["shard-*.tar"], *state)
        check(got.kept == kept, "kept:", got.kept, got.log)
        check(repr(got.samples) == repr(fresh.samples), "the manifest has other samples", got.log)
        for text in more:
            check(text in got.log, repr(text), "is not in", got.log)
        again = Listing(wants, ["shard-*.tar"], *state)
        check(again.kept and repr(again.samples) == repr(fresh.samples), "the second time it is scanned", again.log)

    look(False)
    look(True)
    # one shard changes: only that is scanned, whatever it was
    shutil.copy(make_shards(random_, 1, 5, "new-%d.tar")[0], paths[1])
    settle(paths[1])
    look(False, "1 of 4 shards are new or have changed")
    with open(paths[2], "r+b") as file:  # damaged in place, its time set back
        file.seek(BLOCK * 10)
        file.write(b"\xff" * 4000)
    settle(paths[2])
    look(False, "1 of 4 shards", f"{paths[2]} is damaged at byte ")
    look(True, f"{paths[2]} is damaged at byte ")  # is said at each start
    os.rename(paths[0], "shard-900.tar")
    look(False, "1 of 4 shards")
    os.unlink("shard-900.tar")
    look(False, "0 of 3 shards")
    make_shards(random_, 6)
    look(False, "6 of 6 shards")
    # other fields: the same index
    other = Listing(["cls,dtype=float32"], ["shard-*.tar"], *state)
    check(other.kept, "another field scans anew")
    # a shard that has just been written may be written again
    with open(paths[0], "ab") as file:
        file.write(b"\0" * BLOCK)
    os.utime(paths[0], (time.time() + 3600,) * 2)  # however slow this machine is
    got = Listing(wants, ["shard-*.tar"], *state)
    check(not got.kept and "changed just before" in got.log, got.log)
    settle(paths[0])
    look(False)
    # damaged manifests
    manifest = os.path.join("state", [n for n in os.listdir("state") if n.endswith(".manifest")][0])
    whole = open(manifest, "rb").read()
    for i in range(0, len(whole), max(1, len(whole) // 40)):
        with open(manifest, "r+b") as file:
            file.seek(i)
            file.write(bytes([whole[i] ^ 0x55]))
        got = Listing(wants, ["shard-*.tar"], *state)
        check(not got.kept, "byte", i, "does not matter")


def test_cut(random_):
    """A shard cut at every block, and within some: what is before stays."""
    make_shards(random_, 1, 8, "good.tar%.0s")
    expected = oracle(["good.tar"])
    whole = open("good.tar", "rb").read()
    starts, ends = {}, {}  # where each sample's first header is; where its last byte is
    with tarfile.open("good.tar") as archive:
        for member in archive:
            key = cut_name(member.name)[0]
            starts.setdefault(key, member.offset)
            ends[key] = member.offset_data + member.size
        last = (max(ends.values()) + BLOCK - 1) // BLOCK * BLOCK
        headers = {m.offset for m in archive.getmembers()} | {last}
    cuts = sorted({*range(0, last + 3 * BLOCK, BLOCK), *(random_.randrange(last) for _ in range(60))})
    for cut in cuts:
        write("cut.tar", whole[:cut])
        got = Listing(["bin", "cls"], ["good.tar", "cut.tar"])
        check(got.error is None, cut, got.error)
        mine = got.samples[len(expected):]
        readable = [s for s in expected if ends[s[1]] <= cut]
        for (_, where, _, values), (_, key, members) in zip(mine, readable):
            check(where == f"cut.tar!{key}" and values[0] == members["bin"], cut, where, values)
            check(values[1] == struct.pack("<q", int(members["cls"])), cut, where, values)
        rest = mine[len(readable):]
        clean = cut in headers or cut >= last or any(e <= cut < (e + BLOCK - 1) // BLOCK * BLOCK for e in _member_ends("good.tar"))
        if not clean or cut == 0:
            check(rest and "(damaged at byte " in rest[-1][1], cut, "is not damaged:", rest)
            check(re.search(r"cut\.tar is damaged at byte \d+: ", got.log), cut, got.log)
            check(all(isinstance(v, Failure) for v in rest[-1][3]), rest)
            byte = int(re.search(r"damaged at byte (\d+)", rest[-1][1]).group(1))
            check(byte in headers and cut - byte < 4 * BLOCK + 2000, cut, byte)
        else:
            check(not any("damaged" in r[1] for r in rest), cut, rest)
            check(("no blocks of zeros at their end, first cut.tar" in got.log) == (cut < last + 2 * BLOCK), cut, got.log)
        for _, where, _, values in rest:
            check(any(isinstance(v, Failure) for v in values), cut, where, "is not whole")


def _member_ends(path):
    with tarfile.open(path) as archive:
        return [m.offset_data + m.size for m in archive]


def test_damaged(random_):
    make_shards(random_, 1, 8, "good.tar%.0s")
    expected = oracle(["good.tar"])
    whole = open("good.tar", "rb").read()
    with tarfile.open("good.tar") as archive:
        members = archive.getmembers()
    for number, member in enumerate(members):
        at = member.offset
        for change, reason in ((whole[at:at + 10] + b"x" + whole[at + 11:at + BLOCK], "the checksum of the header there is wrong"),
                               (header(b"bad.bin", 0, size_field=b"0000000zz00\0"), "the size of 'bad.bin' is not a number"),
                               (header(b"bad.bin", 0, size_field=b"\xff" * 12), "the size of 'bad.bin' is not a number"),
                               (header(b"bad.bin", 0, size_field=b"\x80" + b"\xff" * 11), "the size of 'bad.bin' is not a number"),
                               (header(b"bad.bin", 1 << 32), "'bad.bin' has 4294967296 bytes and ends at byte"),
                               (header(b"pax", 20, kind=b"x"), "the records of pax there make no sense"),
                               (header(b"pax", 2 << 20, kind=b"x"), "2097152 bytes about a member, more than 1048576"),
                               (header(b"long", 5000, kind=b"L"), "5000 bytes about a member, more than 4095")):
            write("damaged.tar", whole[:at], change, whole[at + BLOCK:])
            got = Listing(["bin", "cls"], ["damaged.tar", "good.tar"])
            if reason.startswith("the records") and whole[at + BLOCK] == 0:
                continue  # nothing is said there
            check(got.error is None, number, reason, got.error)
            check(f"damaged.tar is damaged at byte {at}: {reason}" in got.log, number, reason, got.log)
            n = number // 2
            for (_, where, _, values), (_, key, parts) in zip(got.samples[:n], expected):
                check(where == f"damaged.tar!{key}" and values[0] == parts["bin"], where)
            lost = [s for s in got.samples if s[1] == f"damaged.tar!(damaged at byte {at})"]
            check(len(lost) == 1 and all(reason.split(" byte")[0] in str(v) for v in lost[0][3]), reason, lost)
            check(len(got.samples) == len(expected) + n + 1 + number % 2 + ("and ends at" in reason), number, reason,
                  got.samples)
            check([s[3][0] for s in got.samples[-len(expected):]] == [s[2]["bin"] for s in expected], "the next shard")
    # behind what is about it, the header itself: that is where
    record = padded(b"22 path=some name.bin\n")
    write("damaged.tar", whole[:members[2].offset], header(b"pax", 22, kind=b"x"), record, b"x" * BLOCK, whole[members[2].offset:])
    got = Listing("bin", ["damaged.tar"])
    check(f"is damaged at byte {members[2].offset + 2 * BLOCK}: the checksum" in got.log, got.log)
    # a lone block of zeros ends it, as for others; one that is twice, and one that is missing
    write("lone.tar", whole[:members[4].offset], b"\0" * BLOCK, whole[members[4].offset:])
    got = Listing("bin", ["lone.tar"])
    check(got.count == 2 and "no blocks of zeros at their end, first lone.tar" in got.log, got.count, got.log)
    # nothing to read at all
    for name, data, text in (("empty.tar", b"", "the file is empty; is it a tar?"), ("text.tar", b"words" * 1000, "the checksum"),
                             ("zeros.tar", END, "no samples"), ("short.tar", b"x", "the header there is cut, 1 bytes are left of it")):
        write(name, data)
        got = Listing("bin", [name])
        check(got.error and text in got.error and name in got.error, got.error)
    for name, data, text in (("x.tar", gzip.compress(whole), "is compressed by gzip; pfeed reads samples in any order"),
                             ("x.tar", b"\x28\xb5\x2f\xfd" + whole, "unpack it: unzstd"), ("x.tar", b"PK\3\4" + whole, "a zip file")):
        write(name, data)
        got = Listing("bin", ["good.tar", name])
        check(got.error and text in got.error, got.error)
    got = Listing("bin", ["."])
    check("is not a file; let 'path' match tar files only" in got.error, got.error)


def test_twice(random_):
    with tarfile.open("x.tar", "w") as archive:
        for name in ("a.bin", "a.cls", "a.bin", "b.bin", "b.BIN", "c.bin", "d.png", "d.bin", "c.bin", "e.AZ"):
            info = tarfile.TarInfo(name)
            info.size = 1
            archive.addfile(info, io.BytesIO(b"8" if name == "d.png" else b"7"))
    a, b, c, d, again, _ = Listing("bin", ["x.tar"]).values()
    check("there are two members 'bin'" in str(a) and "there are two members 'bin'" in str(b), a, b)
    check(c == d == again == b"7", c, d, again)
    values = Listing("png;bin", ["x.tar"]).values()
    check(Listing("Az", ["x.tar"]).values()[5] == b"7", "letters of either case")
    check(values[3] == b"8" and values[2] == b"7", "the first alternative that is there")


def one_json(texts, want):
    with tarfile.open("json.tar", "w") as archive:
        for i, text in enumerate(texts):
            data = text if isinstance(text, bytes) else text.encode()
            info = tarfile.TarInfo(f"{i:06d}.json")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    got = Listing(want, ["json.tar"])
    check(got.error is None, got.error)
    return got.values()


def test_values(random_):
    def one(extension, want, *texts):
        with tarfile.open("values.tar", "w") as archive:
            for i, text in enumerate(texts):
                data = text if isinstance(text, bytes) else text.encode()
                info = tarfile.TarInfo(f"{i}.{extension}")
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
        got = Listing(want, ["values.tar"])
        check(got.error is None, got.error)
        return got.values()

    def whole(*numbers):
        return [struct.pack("<q", n) for n in numbers]

    check(one("cls", "cls", "7", " -3 \r\n", "9223372036854775807", "007") == whole(7, -3, 2**63 - 1, 7))
    for value, text in zip(one("cls", "cls", "", "1.5", "x", "1 2", "9223372036854775808", b"1\0", "1" * 65),
                           ("is '', not a whole number", "is '1.5'", "is 'x'", "is '1 2'", "is '92233", "is no text", "has 65 bytes")):
        check(text in str(value), value, text)
    check(one("txt", "txt,dtype=int32", "12\n") == whole(12))
    check(one("txt", "txt,dtype=float32", " 1.25\n", "-3") == [struct.pack("<d", 1.25), struct.pack("<d", -3)])
    check("not a number" in str(one("txt", "txt,dtype=float64", "one")[0]))
    check(one("txt", "txt,shape=8", "héllo", "", "12345678") == ["héllo".encode() + b"\0\0", b"\0" * 8, b"12345678"])
    check("has 9 bytes; the field's shape takes 8 at most" in str(one("txt", "txt,shape=8", "123456789")[0]))
    text = json.dumps({"a": {"b": [10, {"c": 11}], "d/e": 12, "": 13, "true": True}, "é": 14, "n": None, "f": 2.5, "s": "hé\n",
                       "m": [[1, 2, 3], [4, 5, 6]], "a.b": 15, "large": 2**53 + 1, "z": "a" * 3000})
    for key, value in (("a.b.0", 10), ("a.b.1.c", 11), ("/a/d~1e", 12), ("/a/", 13), ("a.true", 1), ("é", 14), ("/a.b", 15),
                       ("large", 2**53 + 1)):
        check(one_json([text], f"json,key={key},dtype=int64") == whole(value), key)
    for key, dtype, problem in (("a.x", "int64", "there is no 'a.x'"), ("a.b.2", "int64", "there is no 'a.b.2'"), ("a.b", "int64", "a list"),
                                ("a", "int64", "a map"), ("n", "int64", "null"), ("f", "int64", "not whole"), ("s", "int64", "a string"),
                                ("f.g", "int64", "there is no 'f.g'")):
        check(problem in str(one_json([text], f"json,key={key},dtype={dtype}")[0]), key, problem)
    check(one_json([text], "json,key=f,dtype=float32") == [struct.pack("<d", 2.5)])
    check(one_json([text], "json,key=m,dtype=int32,shape=2/3") == [struct.pack("<6q", 1, 2, 3, 4, 5, 6)])
    check(one_json([text], "json,key=m.1,dtype=uint8,shape=3") == [bytes([4, 5, 6])])
    check(one_json([text], "json,key=s,shape=6") == ["hé\n".encode() + b"\0\0"])
    for shape, problem in (("3/2", "a longer list"), ("2/4", "a shorter list"), ("6", "a list"), ("2/3/1", "a number"), ("3/3", "a shorter list")):
        check(problem in str(one_json([text], f"json,key=m,dtype=int64,shape={shape}")[0]), shape)
    check("a longer string" in str(one_json([text], "json,key=s,shape=3")[0]))
    for bad in ("", "{", text[:-1], text + "}", "{'a': 1}", "[1,]", '{"a": 01}', b'{"a": "\xff"}', "nul"):
        check(isinstance(one_json([bad], "json,key=a,dtype=int64")[0], Failure), bad)
    check("more than 100 lists" in str(one_json(["[" * 5000], "json,key=a,dtype=int64")[0]))
    check(one_json(['{"a": 1, "a": 2}'], "json,key=a,dtype=int64") == whole(2), "of two the last")


def test_json_like_python(random_):
    """Documents at random, and every way in them."""
    def make(depth):
        kind = random_.randrange(7 if depth < 4 else 5)
        if kind == 0:
            return random_.choice([True, False, None])
        if kind == 1:
            return random_.randrange(-10**random_.randrange(18), 10**18)
        if kind == 2:
            return random_.choice([random_.gauss(0, 1), random_.random() * 10**random_.randrange(-300, 300), -0.0])
        if kind in (3, 4):
            return "".join(random_.choice("ab\"\\/\n\t é日\U0001f600\u0001") for _ in range(random_.choice([0, 3, 30, 4000])))
        if kind == 5:
            return [make(depth + 1) for _ in range(random_.randrange(5))]
        return {random_.choice("abcdeé~/.") + str(i): make(depth + 1) for i in range(random_.randrange(5))}

    def ways(value, way):
        yield way, value
        for step, inner in enumerate(value) if isinstance(value, list) else value.items() if isinstance(value, dict) else ():
            yield from ways(inner, f"{way}/" + str(step).replace("~", "~0").replace("/", "~1"))

    tried = 0
    for _ in range(12):
        document = {"top": make(0), "x": [make(0), make(1)]}
        texts = [json.dumps(document), json.dumps(document, ensure_ascii=False, indent=3)]
        for way, value in list(ways(document, ""))[1:9]:
            if "," in way or len(way) > 100 or way.count("/") > 8:
                continue
            numbers = one_json(texts, f"json,key={way},dtype=float64")
            strings = one_json(texts, f"json,key={way},shape=20000")
            tried += 1
            if isinstance(value, (bool, int, float)):
                check(numbers == [struct.pack("<d", float(value))] * 2, way, value, numbers)
            else:
                check(all(isinstance(n, Failure) for n in numbers), way, value, numbers)
            if isinstance(value, str):
                check(strings == [value.encode().ljust(20000, b"\0")] * 2, way, value)
    check(tried > 40, tried)


def test_problems(random_):
    make_shards(random_, 2)
    for wants, patterns, key, text in (
            (["jpg"], ["shard-*.tar"], "from", "no sample of shard-*.tar has a member 'jpg'; there are: bin, cls"),
            (["bim"], ["shard-*.tar"], "from", "did you mean 'bin'? There are: bin, cls"),
            (["bin"], ["none-*.tar"], "-", "no file matches none-*.tar; check the path"),
            (["bin"], ["shard-{000..002}.tar"], "-", "no file matches shard-002.tar; check the path"),
            (["bin"], ["shard-{000-002}.tar"], "-", "'{000-002}' in shard-{000-002}.tar is neither a range nor a list"),
            (["bin"], ["shard-{000..002.tar"], "-", "'{' without '}' in shard-{000..002.tar"),
            (["bin"], ["shard-000..002}.tar"], "-", "'}' without '{' in shard-000..002}.tar"),
            (["bin"], ["shard-{0..9999999}.tar"], "-", "shard-{0..9999999}.tar give more than 1000000 names"),
            (["bin", "bin;cls"], ["shard-*.tar"], "from", "'bin' and 'cls' are of different kinds"),
            (["bin;;jpg"], ["shard-*.tar"], "from", "give extensions with ';' between them"),
            (["cls,shape=3"], ["shard-*.tar"], "shape", "'cls' is one number a sample; remove 'shape'"),
            (["txt"], ["shard-*.tar"], "dtype", "a field that reads 'txt' does not say what of"),
            (["txt,shape=3/4"], ["shard-*.tar"], "shape", "'txt' is a text; give one number as its 'shape'"),
            (["json,dtype=int64"], ["shard-*.tar"], "key", "a field that reads 'json' has no 'key'"),
            (["cls,key=a"], ["shard-*.tar"], "key", "'key' is for json, and 'cls' is none"),
            (["json,dtype=int64,key=" + "x" * 128], ["shard-*.tar"], "key", "'key' is longer than 127 bytes"),
            (["json,dtype=int64,key=1.2.3.4.5.6.7.8.9"], ["shard-*.tar"], "key", "'key' has more than 8 steps")):
        got = Listing(wants, patterns)
        check(got.error and text in got.error, wants, patterns, got.error, "is not", text)
        check(got.key == key, wants, patterns, "blames", got.key)
    # members of a sample that do not lie together
    with tarfile.open("apart.tar", "w") as archive:
        for extension in ("bin", "cls"):
            for i in range(5):
                info = tarfile.TarInfo(f"{i}.{extension}")
                info.size = 1
                archive.addfile(info, io.BytesIO(b"7"))
    got = Listing(["bin", "cls"], ["apart.tar"])
    check("5 of 10 samples have no member 'cls', first apart.tar!0; the members of a sample must lie one after the other" in got.log, got.log)


def test_memory(random_):
    """Bytes a sample, as tar_index.h has them: 16, 12 for each member, and the key."""
    with tarfile.open("many.tar", "w", format=tarfile.USTAR_FORMAT) as archive:
        for i in range(4000):
            for extension in ("bin", "cls"):
                archive.addfile(tarfile.TarInfo(f"{i:08d}.{extension}"))
    got = Listing("bin", ["many.tar"])
    check(4000 * 49 <= got.bytes < 4000 * 49 + 10000, got.bytes / 4000, "bytes a sample")


def webdataset():
    folder = os.environ.get("PFEED_WEBDATASET")
    if not folder:
        return "PFEED_WEBDATASET names no folder"
    sys.path.insert(0, folder)
    try:
        import webdataset as wds
    except ImportError:
        done = subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--target", folder, "webdataset"], check=False, capture_output=True)
        if done.returncode:
            return "pip cannot have webdataset"
        import webdataset as wds
    return wds


def test_webdataset(random_):
    """Written by its ShardWriter, and read by its pipeline in the same order."""
    wds = webdataset()
    if isinstance(wds, str):
        return wds
    with wds.ShardWriter("wds-%06d.tar", maxcount=20, verbose=0) as sink:
        for i in range(70):
            sink.write({"__key__": f"{random_.choice(['a', 'b é/c'])}/{i:05d}", "bin": random_.randbytes(random_.randrange(3000)), "cls": i,
                        "json": {"label": i, "box": [i, 1.5]}, "txt": f"text é {i}", "seg.bin": b"s" * i})
    paths = sorted(n for n in os.listdir(".") if n.startswith("wds-"))
    check(len(paths) == 4, paths)
    pattern = "wds-{000000..000003}.tar"
    got = Listing(["bin", "cls", "json,key=label,dtype=int64", "txt,shape=32", "seg.bin"], [pattern])
    check(got.count == 70, got.error)
    read = list(wds.WebDataset(pattern, shardshuffle=False, empty_check=False))
    check(len(read) == 70)
    for (number, where, _, values), sample in zip(got.samples, read):
        check(where == f"{sample['__url__']}!{sample['__key__']}", where, sample["__url__"], sample["__key__"])
        check(values[0] == sample["bin"] and values[4] == sample["seg.bin"], where)
        check(values[1] == values[2] == struct.pack("<q", int(sample["cls"])), where)
        check(values[3] == sample["txt"].ljust(32, b"\0"), where)
    # and what the others wrote
    make_tree("tree", random_, names(random_))
    subprocess.run(["tar", "-C", "tree", "--sort=name", "--format=posix", "-cf", "gnu.tar", "."], check=True)
    mine = Listing("bin", ["gnu.tar"])
    theirs = list(wds.WebDataset("gnu.tar", shardshuffle=False, empty_check=False))
    check([s[1] for s in mine.samples] == [f"gnu.tar!{s['__key__']}" for s in theirs], "keys")
    check([v for v in mine.values() if isinstance(v, bytes)] == [s["bin"] for s in theirs if "bin" in s], "bytes")
    return None


def main():
    tests = {name[5:]: function for name, function in globals().items() if name.startswith("test_")}
    bad = 0
    for name in sys.argv[2:] or tests:
        before, folder = time.monotonic(), tempfile.mkdtemp(prefix="pfeed-tar-")
        os.chdir(folder)
        try:
            skipped = tests[name](random.Random(name))
            print(f"{name}: {'skipped: ' + skipped if skipped else 'holds'}, {time.monotonic() - before:.1f} s")
        except Failure as failure:
            bad += 1
            print(f"{name}: FAILS: {failure}")
        os.chdir("/")
        shutil.rmtree(folder)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
