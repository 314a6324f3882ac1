# SPDX-License-Identifier: MIT
"""What rows draw, from pfeed-order(7) and pfeed.yaml(5) alone: nothing here is taken from daemon/."""
import math
import statistics

MASK = (1 << 64) - 1


def philox(key, counter):
    """Philox4x64-10."""
    (k0, k1), (c0, c1, c2, c3) = key, counter
    for _ in range(10):
        p0, p1 = c0 * 0xD2E7470EE14C6C93, c2 * 0xCA5A826395121157
        c0, c1, c2, c3 = (p1 >> 64) ^ c1 ^ k0, p1 & MASK, (p0 >> 64) ^ c3 ^ k1, p0 & MASK
        k0, k1 = (k0 + 0x9E3779B97F4A7C15) & MASK, (k1 + 0xBB67AE8584CAA73B) & MASK
    return c0, c1, c2, c3


assert philox((0, 0), (0, 0, 0, 0))[0] == 0x16554D9ECA36314C  # Random123's kat_vectors


def fnv(name):
    value = 0xCBF29CE484222325
    for byte in name.encode():
        value = (value ^ byte) * 0x100000001B3 & MASK
    return value


class Draw:
    """The stream of one transform of one row."""

    def __init__(self, kind, seed, ordinal=0, epoch=0, sample=0, occurrence=0, view=0):
        self.key, self.counter = (seed, fnv(kind)), (epoch, sample, occurrence << 32 | view)
        self.block, self.words = ordinal << 32, []

    def word(self):
        if not self.words:
            self.words = list(philox(self.key, (*self.counter, self.block)))
            self.block += 1
        return self.words.pop(0)

    def unit(self):
        return (self.word() >> 11) / 2**53

    def between(self, low, high):
        return low + (high - low) * self.unit()

    def below(self, k):
        product = self.word() * k
        while (product & MASK) < 2**64 % k:
            product = self.word() * k
        return product >> 64


def part(draw, width, height, scale, ratio):
    """random_resized_crop: (x, y, width, height)."""
    for _ in range(10):
        area = width * height * draw.between(*scale)
        shape = math.exp(draw.between(math.log(ratio[0]), math.log(ratio[1])))
        wide, high = round(math.sqrt(area * shape)), round(math.sqrt(area / shape))
        if 1 <= wide <= width and 1 <= high <= height:
            y = draw.below(height - high + 1)
            return draw.below(width - wide + 1), y, wide, high
    wide, high = width, height
    if width / height < ratio[0]:
        high = round(width / ratio[0])
    elif width / height > ratio[1]:
        wide = round(height * ratio[1])
    wide, high = max(1, wide), max(1, high)
    return (width - wide) // 2, (height - high) // 2, wide, high


def erased(draw, width, height, p, scale, ratio):
    """random_erasing: (x, y, width, height), or None."""
    if draw.unit() >= p:
        return None
    for _ in range(10):
        area = width * height * draw.between(*scale)
        shape = math.exp(draw.between(math.log(ratio[0]), math.log(ratio[1])))
        high, wide = round(math.sqrt(area * shape)), round(math.sqrt(area / shape))
        if high < height and wide < width:
            y = draw.below(height - high + 1)
            return draw.below(width - wide + 1), y, wide, high
    return None


def noise(draw, n):
    """Normal numbers, a word each."""
    normal = statistics.NormalDist()
    return [normal.inv_cdf(((draw.word() >> 12) + 0.5) / 2**52) for _ in range(n)]
