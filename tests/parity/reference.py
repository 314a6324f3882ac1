# SPDX-License-Identifier: MIT
"""What a recipe should give, step by step and in double precision, written from the filters' definitions: nothing here is
taken from daemon/transform. The same steps are carried out by Pillow.

A recipe is a list of steps; their words are imagerow's:
    ("resize", size)     the whole picture; one number is the shorter side, the other truncated; or (height, width)
    ("part", size, ...)  a drawn part of the picture, resized; where it lies is taken from what the daemon drew
    ("middle", size)     torchvision's CenterCrop
    ("flip", p)          left and right exchanged; with p of 0 or 1 for certain, otherwise as the daemon drew
"""
import functools

import numpy as np
from PIL import Image

PILLOW = {"bilinear": Image.BILINEAR, "bicubic": Image.BICUBIC}
BLOCK = 12  # results computed by one product of matrices


def filter_value(name, x):
    x = np.abs(x)
    if name == "bilinear":
        return np.maximum(0, 1 - x)
    # R. Keys, Cubic convolution interpolation, 1981, with a = -1/2
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0))


@functools.lru_cache(maxsize=256)
def weights(inputs, results, name, antialias):
    """For blocks of results: (first result, first input, end of the inputs, matrix inputs x results).

    Result i lies over (i + 1/2) * inputs / results, input k over k + 1/2. When reducing, the filter is stretched by the ratio;
    inputs beyond the edge have no weight, and the others sum to one."""
    ratio = inputs / results
    stretch = max(ratio, 1.0) if antialias else 1.0
    reach = (1 if name == "bilinear" else 2) * stretch
    blocks = []
    for first in range(0, results, BLOCK):
        centres = (np.arange(first, min(first + BLOCK, results)) + 0.5) * ratio
        low, high = max(0, int(centres[0] - reach) - 1), min(inputs, int(centres[-1] + reach) + 2)
        matrix = filter_value(name, (np.arange(low, high)[:, None] + 0.5 - centres) / stretch)
        blocks.append((first, low, high, matrix / matrix.sum(0)))
    return blocks


def across(planes, results, name, antialias):
    out = np.empty((*planes.shape[:2], results))
    for first, low, high, matrix in weights(planes.shape[2], results, name, antialias):
        out[:, :, first : first + matrix.shape[1]] = planes[:, :, low:high] @ matrix
    return out


def down(planes, results, name, antialias):
    out = np.empty((planes.shape[0], results, planes.shape[2]))
    for first, low, high, matrix in weights(planes.shape[1], results, name, antialias):
        np.matmul(matrix.T, planes[:, low:high], out=out[:, first : first + matrix.shape[1]])
    return out


class Exact:
    """Planes of 0..255 in float64, (3, height, width)."""

    def __init__(self, picture, antialias=True):
        self.planes = np.ascontiguousarray(np.asarray(picture).transpose(2, 0, 1), np.float64)
        self.antialias = antialias

    def size(self):
        return self.planes.shape[1:]

    def crop(self, y, x, height, width):
        self.planes = self.planes[:, y : y + height, x : x + width]

    def flip(self):
        self.planes = self.planes[:, :, ::-1]

    def resize(self, height, width, name):
        """Across, then down. Bicubic passes 0..255 at hard edges, and where that is cut off changes the result by many steps.
        Pillow's and torchvision's picture between the passes is one of bytes, cut to 0..255, and again in the end: the contract
        (daemon/transform/kernel.h) cuts at the same two places, so the reference does. It differs from theirs only in
        that nothing is rounded. Bilinear never passes the bounds."""
        between = across(self.planes, width, name, self.antialias)
        np.clip(between, 0, 255, out=between)
        self.planes = down(between, height, name, self.antialias)
        np.clip(self.planes, 0, 255, out=self.planes)

    def pixels(self):
        return self.planes.transpose(1, 2, 0)


class Pillow:
    def __init__(self, picture):
        self.picture = picture

    def size(self):
        return self.picture.height, self.picture.width

    def crop(self, y, x, height, width):
        self.picture = self.picture.crop((x, y, x + width, y + height))

    def flip(self):
        self.picture = self.picture.transpose(Image.FLIP_LEFT_RIGHT)

    def resize(self, height, width, name):
        self.picture = self.picture.resize((width, height), PILLOW[name])

    def pixels(self):
        return np.asarray(self.picture)


def pair(size):
    return size if isinstance(size, tuple) else (size, size)


def follow(image, steps, name, drawn):
    """The steps carried out literally, one after another; drawn: the part as (x, y, width, height), and the flip."""
    for word, *settings in steps:
        if word == "resize":
            height, width = image.size()
            size = settings[0]
            if not isinstance(size, tuple):
                size = (size, size * width // height) if height <= width else (size * height // width, size)
            image.resize(*size, name)
        elif word == "part":
            x, y, width, height = drawn["crop"]
            image.crop(y, x, height, width)
            image.resize(*pair(settings[0]), name)
        elif word == "middle":
            high, wide = pair(settings[0])
            height, width = image.size()
            # Python rounds to even, and so torchvision
            image.crop(round((height - high) / 2), round((width - wide) / 2), high, wide)
        elif settings[0] == 1 or (settings[0] and drawn["flip"]):
            image.flip()
    return image.pixels()


def step_words(steps, name, antialias=True):
    """The steps in imagerow's words."""
    how = f":interpolation={name}" + ("" if antialias else ":antialias=no")
    words = []
    for word, *settings in steps:
        size = "/".join(map(str, settings[0])) if isinstance(settings[0], tuple) else settings[0]
        if word == "resize":
            words.append(f"resize:size={size}{how}")
        elif word == "part":
            low, high = settings[1]
            words.append(f"random_resized_crop:size={size}:scale={low}/{high}{how}")
        else:
            words.append(f"center_crop:size={size}" if word == "middle" else f"horizontal_flip:p={size}")
    return words


def nearest_bfloat16(values):
    """float32 to eight significant bits, to nearest, ties to even; in float64, which holds both. For normal numbers and 0."""
    part, power = np.frexp(values.astype(np.float64))
    return np.ldexp(np.rint(part * 256), power - 8)
