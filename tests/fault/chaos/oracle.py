# SPDX-License-Identifier: MIT
"""What a job must see, computed without pfeed: from the formulas of pfeed-order(7) (orders) and pfeed.yaml(5) (synthetic rows, tails).
`Job.batch(epoch, step, rank)` gives the bytes that trainer.c logs for that batch."""
import functools
import struct

M64 = 2 ** 64 - 1
GOLDEN = 0x9e3779b97f4a7c15
DTYPES = {"uint8": (1, M64, 0), "int32": (4, 0x7fffffff7fffffff, 0), "int64": (8, 0x7fffffffffffffff, 0),
          "float16": (2, 0x03ff03ff03ff03ff, 0x3800380038003800), "float32": (4, 0x007fffff007fffff, 0x3f0000003f000000)}
OPEN, BATCH, EPOCH, END = range(4)
RECORD, ROW = struct.Struct("<IIQQQ"), struct.Struct("<QQQQ")
PADDED = 1


def philox(key, counter):
    """Philox4x64-10 (Salmon and others, SC11)."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        a, b = 0xD2E7470EE14C6C93 * c0, 0xCA5A826395121157 * c2
        c0, c1, c2, c3 = b >> 64 ^ c1 ^ k0, b & M64, a >> 64 ^ c3 ^ k1, a & M64
        k0, k1 = (k0 + GOLDEN) & M64, (k1 + 0xBB67AE8584CAA73B) & M64
    return c0, c1, c2, c3


def fnv(data, value=0xcbf29ce484222325):
    for byte in data:
        value = (value ^ byte) * 0x100000001b3 & M64
    return value


def mixed(z):
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9 & M64
    z = (z ^ z >> 27) * 0x94d049bb133111eb & M64
    return z ^ z >> 31


def stream(name, seed, epoch):
    block = 0
    while True:
        yield from philox((seed, fnv(name.encode())), (epoch, 0, 0, block))
        block += 1


def below(words, n):
    while True:
        product = next(words) * n
        if product & M64 >= 2 ** 64 % n:
            return product >> 64


@functools.lru_cache(64)
def permutation(n, seed, epoch):
    words, table = stream("order.table", seed, epoch), [0] * n
    for i in range(1, n):
        j = below(words, i + 1)
        table[i] = table[j]
        table[j] = i
    return table


class Feed:
    """fields: (name, dtype, elements); a `label` has no elements."""

    def __init__(self, rows, seed, classes, fields, shuffle):
        self.rows, self.seed, self.classes, self.fields, self.shuffle = rows, seed, classes, fields, shuffle
        self.hashes = {}

    def field(self, name, dtype, elements, sample):
        size, keep, bits = DTYPES[dtype]
        if name == "label" and not elements:
            return (sample % self.classes).to_bytes(8, "little")[:size]
        key = mixed((self.seed + GOLDEN) & M64)
        for byte in name.encode():
            key = mixed(key ^ byte)
        counter = mixed(key ^ mixed(sample))
        words = (mixed((counter + i * GOLDEN) & M64) & keep | bits for i in range(1, size * elements // 8 + 2))
        return b"".join(word.to_bytes(8, "little") for word in words)[:size * elements]

    def hash(self, sample):
        if sample not in self.hashes:
            self.hashes[sample] = fnv(b"".join(self.field(*field, sample) for field in self.fields))
        return self.hashes[sample]

    def order(self, seed, epoch):
        return permutation(self.rows, seed, epoch) if self.shuffle == "global" else range(self.rows)


class Job:
    def __init__(self, feed, seed, world, batch, tail, each):
        self.feed, self.seed, self.batch_rows, self.tail = feed, seed, batch, tail
        self.stride, self.offset = (batch, 0) if each else (world * batch, batch)
        self.steps = feed.rows // self.stride if tail == "drop" else -(-feed.rows // self.stride)

    def batch(self, epoch, step, rank):
        n, order = self.feed.rows, self.feed.order(self.seed, epoch)
        start = step * self.stride + rank * self.offset
        valid = min(max(n - start, 0), self.batch_rows)
        places = range(start, start + (valid if self.tail == "partial" else self.batch_rows))
        out = [RECORD.pack(BATCH, len(places), epoch, step, valid)]
        for place in places:
            sample = order[place % n]
            out.append(ROW.pack(sample, sample, self.feed.hash(sample), PADDED if place >= n else 0))
        return b"".join(out)
