# SPDX-License-Identifier: MIT
"""K trainers, each a process with a PyTorch DataLoader of its own (2 persistent workers, torchvision v2's recipe), all of them
together: images delivered per second, by the clock from the moment when each has had its first batch. The trainers look at
nothing.

loaders.py K IMAGES FOLDER: until so many have been delivered; a line of JSON."""

import ctypes
import json
import multiprocessing
import os
import sys
import time

import torch
from common import MEAN, SIDE, STD
from program import others_start
from torch.utils.data import DataLoader, Dataset
from torchvision.io import ImageReadMode, decode_jpeg, read_file
from torchvision.transforms import v2

BATCH = 128
WORKERS = 2
EPOCH = 1 << 22  # images: the pictures again and again, so that no epoch ends within the measurement


class Pictures(Dataset):
    def __init__(self, folder):
        self.paths = [os.path.join(folder, name) for name in sorted(os.listdir(folder))]
        self.transforms = v2.Compose(
            [
                v2.RandomResizedCrop(SIDE, antialias=True),
                v2.RandomHorizontalFlip(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(MEAN, STD),
            ]
        )

    def __len__(self):
        return EPOCH

    def __getitem__(self, at):
        picture = decode_jpeg(read_file(self.paths[at * 1000003 % len(self.paths)]), mode=ImageReadMode.RGB)
        return self.transforms(picture).to(torch.float16).contiguous()


def trainer(folder, images, stop):
    """images, stop: shared; images is this trainer's own."""
    loader = DataLoader(Pictures(folder), batch_size=BATCH, num_workers=WORKERS, persistent_workers=True)
    for batch in loader:
        images.value += len(batch)
        if stop.value:
            break


def main():
    n, wanted, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    os.setpgid(0, 0)
    torch.set_num_threads(1)
    counts = [multiprocessing.Value(ctypes.c_uint64, lock=False) for _ in range(n)]
    stop = multiprocessing.Value(ctypes.c_bool, False, lock=False)
    trainers = [multiprocessing.Process(target=trainer, args=(folder, count, stop)) for count in counts]
    for process in trainers:
        process.start()
    while any(count.value == 0 for count in counts):
        assert all(process.is_alive() for process in trainers), "a trainer has ended"
        time.sleep(0.01)
    others, start, before = others_start(), time.monotonic(), sum(count.value for count in counts)
    while (images := sum(count.value for count in counts) - before) < wanted:
        assert all(process.is_alive() for process in trainers), "a trainer has ended"
        time.sleep(0.01)
    took = time.monotonic() - start
    print(json.dumps({"trainers": n, "images": images, "images_s": images / took, "others": others()}), flush=True)
    stop.value = True


if __name__ == "__main__":
    main()
