# SPDX-License-Identifier: MIT
"""torchvision v2, Pillow with torchvision's first transforms, and OpenCV with numpy: whole rows from files, and the resize and
the normalising alone from crops that are in memory. One thread; the crops are given, so that nothing is spent on drawing
them. Each row is what the daemon's is: float16, planar."""

import cv2
import numpy as np
import torch
from common import MEAN, SIDE, STD, serve
from PIL import Image
from torchvision import transforms as v1
from torchvision.io import ImageReadMode, decode_jpeg, read_file
from torchvision.transforms import v2

SCALE = (1 / (255 * np.array(STD))).astype(np.float32)
SHIFT = (255 * np.array(MEAN)).astype(np.float32)
FLAGS = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION


class Given:
    """Stands for the draw of a random transform."""

    def __init__(self):
        self.crop = None

    def rectangle(self):
        x, y, width, height = self.crop[:4]
        return {"top": y, "left": x, "height": height, "width": width}


class Crop2(v2.RandomResizedCrop):
    def __init__(self, given):
        super().__init__(SIDE, antialias=True)
        self.given = given

    def make_params(self, flat_inputs):  # pylint: disable=unused-argument
        return self.given.rectangle()


class Flip2(v2.RandomHorizontalFlip):
    def __init__(self, given):
        super().__init__()
        self.given = given

    def forward(self, *inputs):
        return v2.functional.horizontal_flip(inputs[0]) if self.given.crop[4] else inputs[0]


class Crop1(v1.RandomResizedCrop):
    def __init__(self, given):
        super().__init__(SIDE)
        self.given = given

    def forward(self, img):
        x, y, width, height = self.given.crop[:4]
        return v1.functional.resized_crop(img, y, x, height, width, self.size, self.interpolation)


class Flip1(v1.RandomHorizontalFlip):
    def __init__(self, given):
        super().__init__()
        self.given = given

    def forward(self, img):
        return v1.functional.hflip(img) if self.given.crop[4] else img


def each(crops, make):
    def one_pass():
        for crop in crops:
            make(crop)
        return len(crops)

    return one_pass


# ---- whole rows --------------------------------------------------------------------------------------------------------------


def torchvision_v2(job):
    given = Given()
    transforms = v2.Compose([Crop2(given), Flip2(given), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)])

    def make(crop):
        given.crop = crop
        return transforms(decode_jpeg(read_file(crop[-1]), mode=ImageReadMode.RGB)).to(torch.float16).contiguous()

    return each(job.crops, make), ""


def pillow(job):
    given = Given()
    transforms = v1.Compose([Crop1(given), Flip1(given), v1.ToTensor(), v1.Normalize(MEAN, STD)])

    def make(crop):
        given.crop = crop
        return transforms(Image.open(crop[-1]).convert("RGB")).to(torch.float16)

    return each(job.crops, make), ""


def usual(pixels):
    """As it is mostly written."""
    values = pixels.astype(np.float32)
    values -= SHIFT
    values *= SCALE
    return np.ascontiguousarray(values.transpose(2, 0, 1)).astype(np.float16)


def planar(pixels):
    """As numpy is quickest at it: in planes from the beginning."""
    values = np.ascontiguousarray(pixels.transpose(2, 0, 1)).astype(np.float32)
    values -= SHIFT[:, None, None]
    values *= SCALE[:, None, None]
    return values.astype(np.float16)


def opencv(interpolation, about):
    def program(job):
        def make(crop):
            x, y, width, height, flip, path = crop
            pixels = cv2.imdecode(np.fromfile(path, np.uint8), FLAGS)[y : y + height, x : x + width]
            pixels = cv2.resize(pixels, (SIDE, SIDE), interpolation=interpolation)
            return usual(cv2.flip(pixels, 1) if flip else pixels)

        return each(job.crops, make), about

    return program


# ---- the kernel alone: the crop's pixels are there, nothing is flipped ---------------------------------------------------------


def decoded(job):
    for x, y, width, height, _, path in job.crops:
        yield Image.open(path).convert("RGB").crop((x, y, x + width, y + height))


def kernel_torchvision_v2(job):
    # As decode_jpeg has them: three values a pixel, one after the other, seen as planes.
    pictures = [torch.from_numpy(np.array(crop)).permute(2, 0, 1) for crop in decoded(job)]
    transforms = v2.Compose(
        [v2.Resize((SIDE, SIDE), antialias=True), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
    )
    return each(pictures, lambda picture: transforms(picture).to(torch.float16).contiguous()), ""


def kernel_pillow(job):
    pictures = list(decoded(job))
    transforms = v1.Compose([v1.Resize((SIDE, SIDE)), v1.ToTensor(), v1.Normalize(MEAN, STD)])
    return each(pictures, lambda picture: transforms(picture).to(torch.float16)), ""


def kernel_opencv(normalize, about):
    def program(job):
        pictures = [np.array(crop) for crop in decoded(job)]
        return each(pictures, lambda pixels: normalize(cv2.resize(pixels, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR))), about

    return program


if __name__ == "__main__":
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    PLAIN = "linear, without antialiasing"
    with torch.inference_mode():
        serve(
            {
                "torchvision v2": torchvision_v2,
                "Pillow + torchvision": pillow,
                "OpenCV + numpy": opencv(cv2.INTER_LINEAR, PLAIN),
                "OpenCV + numpy, area": opencv(cv2.INTER_AREA, "each pixel the mean of an area, as an antialiasing"),
                "kernel: torchvision v2": kernel_torchvision_v2,
                "kernel: Pillow": kernel_pillow,
                "kernel: OpenCV + numpy": kernel_opencv(usual, PLAIN),
                "kernel: OpenCV + numpy, planes": kernel_opencv(
                    planar, PLAIN + ", normalised in planes, as numpy is quickest at it"
                ),
            }
        )
