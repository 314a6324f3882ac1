# SPDX-License-Identifier: MIT
"""DALI on the CPU: decoders.image_slice, resize (triangular, antialiased), crop_mirror_normalize; one thread, batches of 50,
nothing made ahead."""

import numpy as np
from common import MEAN, SIDE, STD, serve
from nvidia.dali import fn, pipeline_def, types

BATCH = 50  # at most


def dali(job):
    size = min(BATCH, len(job.crops))
    crops = job.crops[: len(job.crops) // size * size]
    batches = [crops[at : at + size] for at in range(0, len(crops), size)]

    def draws(_):
        """Asked for each batch, for ever."""
        while True:
            for batch in batches:
                yield (
                    [np.array(crop[:2], np.int32) for crop in batch],
                    [np.array(crop[2:4], np.int32) for crop in batch],
                    [np.int32(crop[4]) for crop in batch],
                )

    @pipeline_def(batch_size=size, num_threads=1, device_id=None, exec_async=False, exec_pipelined=False, prefetch_queue_depth=1)
    def pipeline():
        files, _ = fn.readers.file(files=[crop[-1] for crop in crops], prefetch_queue_depth=1, name="files")
        anchor, shape, flip = fn.external_source(source=draws(None), num_outputs=3)
        pixels = fn.decoders.image_slice(
            files,
            anchor,
            shape,
            normalized_anchor=False,
            normalized_shape=False,
            axis_names="WH",
            device="cpu",
            output_type=types.RGB,
            adjust_orientation=False,
        )
        pixels = fn.resize(pixels, size=(SIDE, SIDE), interp_type=types.INTERP_TRIANGULAR, antialias=True)
        return fn.crop_mirror_normalize(
            pixels,
            mirror=flip,
            dtype=types.FLOAT16,
            output_layout="CHW",
            mean=[255 * value for value in MEAN],
            std=[255 * value for value in STD],
        )

    made = pipeline()
    made.build()

    def one_pass():
        for _ in batches:
            made.run()
        return len(crops)

    return one_pass, ""


if __name__ == "__main__":
    serve({"DALI CPU": dali})
