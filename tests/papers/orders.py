#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""pfeed-order(7) once more: every formula of the page, written from its text alone, against the ids that a trainer gets.

orders.py PAGE PFEEDD IDS MIXING"""
import bisect
import math
import os
import re
import subprocess
import sys
from pathlib import Path

from common import SCALE, Daemon, Suite, run, temporary

WORD = 2**64 - 1
suite = Suite()


# ---- drawing ---------------------------------------------------------------------------------------------------------

def philox(key, counter):
    (k0, k1), (c0, c1, c2, c3) = key, counter
    for turn in range(10):
        if turn:
            k0, k1 = (k0 + 0x9E3779B97F4A7C15) & WORD, (k1 + 0xBB67AE8584CAA73B) & WORD
        a, b = c0 * 0xD2E7470EE14C6C93, c2 * 0xCA5A826395121157
        c0, c1, c2, c3 = (b >> 64) ^ c1 ^ k0, b & WORD, (a >> 64) ^ c3 ^ k1, a & WORD
    return c0, c1, c2, c3


def fnv(name):
    value = 0xCBF29CE484222325
    for byte in name.encode():
        value = (value ^ byte) * 0x100000001B3 & WORD
    return value


def words(name, seed, epoch, number=0):
    """The endless words of a stream."""
    block = 0
    while True:
        yield from philox((seed, fnv(name)), (epoch, number, 0, block))
        block += 1


def below(stream, n):
    while True:
        product = next(stream) * n
        if product & WORD >= 2**64 % n:
            return product >> 64


# ---- permutations ----------------------------------------------------------------------------------------------------

def mixed(z):
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & WORD
    z = (z ^ z >> 27) * 0x94D049BB133111EB & WORD
    return z ^ z >> 31


def half_of(n):
    return ((n - 1).bit_length() + 1) // 2


def network(x, n, keys):
    half = half_of(n)
    while True:
        left, right = x >> half, x & (1 << half) - 1
        for key in keys:
            left, right = right, left ^ mixed(right ^ key) >> 64 - half
        x = left << half | right
        if x < n:
            return x


def permutation(n, seed, epoch):
    if n <= 65536:
        stream, table = words("order.table", seed, epoch), [0] * n
        for i in range(1, n):
            j = below(stream, i + 1)
            table[i] = table[j]
            table[j] = i
        return table.__getitem__
    stream = words("order.network", seed, epoch)
    keys = [next(stream) for _ in range(8)]
    return lambda x: network(x, n, keys)


# ---- orders: a list of (member, occurrence) --------------------------------------------------------------------------

def plain(n, seed, epoch):
    at = permutation(n, seed, epoch)
    return [(at(p), 0) for p in range(n)]


def in_blocks(n, seed, epoch, block=256, window=64):
    full, rest = divmod(n, block)
    at, stream = permutation(full, seed, epoch) if full else None, words("order.block", seed, epoch)
    keys = [next(stream) for _ in range(16)]
    blocks = [range(at(place) * block, at(place) * block + block) for place in range(full)]
    if rest:
        blocks.insert(below(stream, full + 1), range(full * block, n))
    out = []
    for number in range(0, -(-len(blocks) // window)):
        members = [member for one in blocks[number * window:(number + 1) * window] for member in one]
        own = [(key + number * 0x9E3779B97F4A7C15) & WORD for key in keys]
        out += [(members[network(i, len(members), own)] if len(members) > 1 else members[0], 0) for i in range(len(members))]
    return out


def weighted(weights, length, seed, epoch):
    n, most = len(weights), max(weights)
    bits = 62 - (n - 1).bit_length()
    whole = [0 if w <= 0 else max(1, math.floor(w / most * 2.0**bits + 0.5)) for w in weights]
    sums = [0]
    for one in whole:
        sums.append(sums[-1] + one)
    total, draws = sums[-1], []
    for i in range(length):
        point = (i * total + below(words("order.weighted", seed, epoch, i), total)) // length
        member = bisect.bisect_right(sums, point) - 1
        draws.append((member, i - sums[member] * length // total))
    at = permutation(length, seed, epoch)
    return [draws[at(p)] for p in range(length)]


def repeated(places, repeat):
    return [(member, occurrence * repeat + k) for member, occurrence in places for k in range(repeat)]


# ---- splits ----------------------------------------------------------------------------------------------------------

def siphash(key, text):
    v0, v1, v2, v3 = 0x736F6D6570736575 ^ key[0], 0x646F72616E646F6D ^ key[1], 0x6C7967656E657261 ^ key[0], 0x7465646279746573 ^ key[1]

    def turned(x, bits):
        return (x << bits | x >> 64 - bits) & WORD

    def turns(count):
        nonlocal v0, v1, v2, v3
        for _ in range(count):
            v0, v2 = (v0 + v1) & WORD, (v2 + v3) & WORD
            v1, v3 = turned(v1, 13) ^ v0, turned(v3, 16) ^ v2
            v0, v2 = (turned(v0, 32) + v3) & WORD, (v2 + v1) & WORD
            v1, v3 = turned(v1, 17) ^ v2, turned(v3, 21) ^ v0
            v2 = turned(v2, 32)

    text = text + bytes(-(len(text) + 1) % 8) + bytes([len(text) & 255])
    for at in range(0, len(text), 8):
        word = int.from_bytes(text[at:at + 8], "little")
        v3 ^= word
        turns(2)
        v0 ^= word
    v2 ^= 255
    turns(4)
    return v0 ^ v1 ^ v2 ^ v3


def part_of(text, shares, key):
    at, end = (siphash((key, 0), text.encode()) >> 11) * 2.0**-53, 0.0
    for name, share in shares.items():
        end += share
        if at < (1 if end > 1 - 1e-9 else end):
            return name
    return None


# ---- against the daemon ----------------------------------------------------------------------------------------------

EPOCHS = 2
FEED = """  {name}:
    source: {source}
    tail: partial
    slots: 4
    batch: {batch}
    {more}
    fields: {{ {field} }}
"""


def fed(daemon, name, epochs=EPOCHS):
    said = subprocess.run([ids, name, str(epochs)], check=True, stdout=subprocess.PIPE, text=True, timeout=300 * SCALE,
                          env={**os.environ, "PFEED_SOCKET": str(daemon.socket)}).stdout
    return [int(line.split()[0]) for line in said.splitlines()]


def feed(name, n, more, source=None, field="x: { dtype: uint8, shape: [1] }"):
    return FEED.format(name=name, source=source or f"{{ type: synthetic, rows: {n} }}", batch=min(n, 512), more=more, field=field)


def serve(feeds):
    return Daemon(pfeedd, "version: 1\ndaemon: { workers: 1, memory: 256MiB }\nfeeds:\n" + "".join(feeds))


def compare(daemon, name, want):
    """want(epoch): the ids of an epoch."""
    expected = [one for epoch in range(EPOCHS) for one in want(epoch)]
    got = fed(daemon, name)
    assert len(got) == len(expected), f"{name}: {len(got)} rows, not {len(expected)}"
    for place, pair in enumerate(zip(got, expected)):
        assert pair[0] == pair[1], f"{name}: row {place} of {len(got)} is {pair[0]}, not {pair[1]}"


def members(places):
    return [member for member, _ in places]


SIZES = (10, 1000, 70000)


@suite.test
def known():
    """The page's parts against what others have published of them."""
    assert philox((0, 0), (0, 0, 0, 0))[0] == 0x16554D9ECA36314C  # Random123's kat_vectors
    assert fnv("a") == 0xAF63DC4C8601EC8C
    assert mixed(0x9E3779B97F4A7C15) == 0xE220A8397B1DCDAF  # splitmix64's first number from 0
    assert siphash((0x0706050403020100, 0x0F0E0D0C0B0A0908), bytes(range(15))) == 0xA129CA6149BE45E5  # of the paper


@suite.test
def shuffles():
    feeds = [feed(f"global-{n}", n, "shuffle: { seed: 42 }") for n in SIZES]
    feeds += [feed(f"none-{n}", n, "shuffle: none") for n in SIZES]
    feeds += [feed(f"block-{n}", n, "shuffle: { mode: block, seed: 42 }") for n in SIZES]
    feeds += [feed(f"small-{n}", n, "shuffle: { mode: block, block: 7, window: 3, seed: 43 }") for n in SIZES]
    feeds += [feed("repeat", 1000, "shuffle: { repeat: 3, seed: 5 }")]
    with serve(feeds) as daemon:
        for n in SIZES:
            compare(daemon, f"global-{n}", lambda epoch: members(plain(n, 42, epoch)))
            compare(daemon, f"none-{n}", lambda epoch: range(n))
            compare(daemon, f"block-{n}", lambda epoch: members(in_blocks(n, 42, epoch)))
            compare(daemon, f"small-{n}", lambda epoch: members(in_blocks(n, 43, epoch, 7, 3)))
        compare(daemon, "repeat", lambda epoch: members(repeated(plain(1000, 5, epoch), 3)))


@suite.test
def weights_and_subsets():
    with temporary() as folder:
        feeds, weights = [], {}
        for n in SIZES:
            weights[n] = [(i * 7919 % 101) / 7 if i % 5 else 0.0 for i in range(n)]
            (folder / f"weights-{n}").write_text("".join(f"{weight!r}\n" for weight in weights[n]))
            feeds.append(feed(f"weighted-{n}", n, f"shuffle: {{ mode: weighted, weights: {folder}/weights-{n}, seed: 9 }}"))
        feeds.append(feed("longer", 1000, f"shuffle: {{ mode: weighted, weights: {folder}/weights-1000, length: 2345, repeat: 2 }}"))
        chosen = [i * 37 % 1000 for i in range(300)]
        (folder / "subset").write_text("".join(f"{one}\n" for one in chosen))
        feeds.append(feed("subset", 1000, f"subset: {folder}/subset\n    shuffle: none"))
        feeds.append(feed("subset-global", 1000, f"subset: {folder}/subset"))
        feeds.append(feed("subset-weighted", 1000, f"subset: {folder}/subset\n    shuffle: {{ mode: weighted, weights: "
                                                   f"{folder}/weights-1000 }}"))
        with serve(feeds) as daemon:
            for n in SIZES:
                compare(daemon, f"weighted-{n}", lambda epoch: members(weighted(weights[n], n, 9, epoch)))
            compare(daemon, "longer", lambda epoch: members(repeated(weighted(weights[1000], 2345, 0, epoch), 2)))
            compare(daemon, "subset", lambda epoch: chosen)
            compare(daemon, "subset-global", lambda epoch: [chosen[m] for m in members(plain(300, 0, epoch))])
            own = [weights[1000][one] for one in chosen]
            compare(daemon, "subset-weighted", lambda epoch: [chosen[m] for m in members(weighted(own, 300, 0, epoch))])


@suite.test
def splits():
    shares = {"train": 0.7, "val": 0.2, "test": 0.1}
    parts = "parts: { " + ", ".join(f"{name}: {share}" for name, share in shares.items()) + " }"
    paths = [f"{'ab'[i % 2]}/p{i // 8 % 40:02}-{i}.jpg" for i in range(1000)]
    classes = ["cat", "dog", "eel"]
    with temporary() as folder:
        (folder / "list.csv").write_text("path,label\n" + "".join(f"{path},{classes[i % 3]}\n" for i, path in enumerate(paths)))
        (folder / "a").mkdir()
        (folder / paths[0]).write_bytes(b"x")  # one of the files is there, so that the root is right
        source = f"{{ type: list, path: {folder}/list.csv }}"
        texts = {"plain": lambda i: paths[i], "group": lambda i: re.search("p[0-9]+", paths[i])[0],
                 "first": lambda i: re.search("p([0-9]+)", paths[i])[1], "class": lambda i: classes[i % 3] + "\0" + paths[i],
                 "synthetic": str}
        more = {"plain": "", "group": ", group: 'p[0-9]+'", "first": ", group: 'p([0-9]+)'", "class": ", stratify: class",
                "synthetic": ""}
        feeds = []
        for kind, extra in more.items():
            for name in shares:
                split = f"split: {{ part: {name}, {parts}, key: 17{extra} }}\n    shuffle: none"
                feeds.append(feed(f"{kind}-{name}", 100, split) if kind == "synthetic" else
                             feed(f"{kind}-{name}", 100, split, source, "label: {}"))
        with serve(feeds) as daemon:
            for kind, text in texts.items():
                n = 100 if kind == "synthetic" else len(paths)
                for name in shares:
                    want = [i for i in range(n) if part_of(text(i), shares, 17) == name]
                    assert want
                    compare(daemon, f"{kind}-{name}", lambda epoch: want)


@suite.test
def figures():
    """How well blocks mix is what the page says."""
    assert run(mixing) in Path(page).read_text()


if __name__ == "__main__":
    page, pfeedd, ids, mixing = sys.argv[1:]
    suite.run()
