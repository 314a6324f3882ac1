# SPDX-License-Identifier: MIT
"""tf.data: decode_and_crop_jpeg, resize, flip, normalise, to planes and float16; one thread, batches of 50."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
import tensorflow as tf  # pylint: disable=wrong-import-position
from common import MEAN, SIDE, STD, serve  # pylint: disable=wrong-import-position

BATCH = 50


def tf_data(antialias):
    def program(job):
        mean, std = (255 * tf.constant(values, tf.float32) for values in (MEAN, STD))

        def make(path, window, flip):
            pixels = tf.image.decode_and_crop_jpeg(tf.io.read_file(path), window, channels=3)
            pixels = tf.image.resize(pixels, (SIDE, SIDE), antialias=antialias)
            pixels = tf.cond(flip, lambda: tf.reverse(pixels, [1]), lambda: pixels)
            return tf.cast(tf.transpose((pixels - mean) / std, (2, 0, 1)), tf.float16)

        paths = [crop[-1] for crop in job.crops]
        windows = [(y, x, height, width) for x, y, width, height, _, _ in job.crops]
        dataset = tf.data.Dataset.from_tensor_slices((paths, windows, [crop[4] for crop in job.crops])).map(make).batch(BATCH)
        options = tf.data.Options()
        options.threading.private_threadpool_size = 1
        options.threading.max_intra_op_parallelism = 1
        dataset = dataset.with_options(options)

        def one_pass():
            return sum(int(batch.shape[0]) for batch in dataset)

        return one_pass, "" if antialias else "without antialiasing"

    return program


if __name__ == "__main__":
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    serve({"tf.data, antialias": tf_data(True), "tf.data, no antialias": tf_data(False)})
