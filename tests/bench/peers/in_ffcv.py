# SPDX-License-Identifier: MIT
"""FFCV: its own files, made of the pictures once before the measurement; its own crops, of the same distribution; one thread."""

import os

import cv2
import numpy as np
from common import MEAN, SIDE, STD, serve
from ffcv.fields import RGBImageField
from ffcv.fields.rgb_image import RandomResizedCropRGBImageDecoder
from ffcv.loader import Loader, OrderOption
from ffcv.transforms import NormalizeImage, RandomHorizontalFlip, ToTensor, ToTorchImage
from ffcv.writer import DatasetWriter
from PIL import Image

BATCH = 50
EPOCHS = 2  # in a pass, as the crops given to the others are of two


class Pictures:
    def __init__(self, paths):
        self.paths = paths

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, at):
        return (Image.open(self.paths[at]).convert("RGB"),)


def ffcv(name, about, **field):
    def program(job):
        path = os.path.join(job.work, name + ".beton")
        pictures = Pictures(job.paths())
        DatasetWriter(path, {"image": RGBImageField(**field)}, num_workers=1).from_indexed_dataset(pictures)
        mean, std = (255 * np.array(values) for values in (MEAN, STD))
        steps = [
            RandomResizedCropRGBImageDecoder((SIDE, SIDE)),
            RandomHorizontalFlip(),
            NormalizeImage(mean, std, np.float16),
            ToTensor(),
            ToTorchImage(channels_last=False),
        ]
        loader = Loader(
            path,
            batch_size=BATCH,
            num_workers=1,
            order=OrderOption.RANDOM,
            drop_last=False,
            pipelines={"image": steps},
            os_cache=True,
        )

        def one_pass():
            return sum(len(batch) for _ in range(EPOCHS) for (batch,) in loader)

        return one_pass, about

    return program


if __name__ == "__main__":
    cv2.setNumThreads(0)
    serve(
        {
            "FFCV, JPEG": ffcv(
                "jpeg", "decodes its own re-encoding, of quality 95; crops of its own", write_mode="jpg", jpeg_quality=95
            ),
            "FFCV, RAW 256": ffcv(
                "raw",
                "pictures of at most 256 pixels on the longer side, not encoded; crops of its own",
                write_mode="raw",
                max_resolution=256,
            ),
        }
    )
