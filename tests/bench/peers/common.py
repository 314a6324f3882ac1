# SPDX-License-Identifier: MIT
"""What each loader's program shares: one process, pinned and asked by images.py, that makes the rows of all crops once for each
line that it reads, and says what CPU time that took.

A program is run as PROGRAM NAME JOB, where JOB is a file of JSON: {"folder": of the pictures, "crops": [[x, y, width, height,
flipped, file], ...], "work": a folder to write into}. It says {"ready": ..., "about": what it does otherwise than the others}
once, and {"rows": ..., "cpu_s": ..., "wall_s": ...} for each line. Whatever its libraries print goes to stderr."""

import json
import os
import sys
import time

SIDE = 224
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


class Job:
    def __init__(self, path):
        with open(path, encoding="utf-8") as file:
            job = json.load(file)
        self.folder, self.work = job["folder"], job["work"]
        self.crops = [
            (x, y, width, height, bool(flip), os.path.join(self.folder, name)) for x, y, width, height, flip, name in job["crops"]
        ]

    def paths(self):
        """Each picture once, in an order of its own."""
        return sorted({crop[-1] for crop in self.crops})


def cpu_s():
    """Of all threads of this process."""
    return time.clock_gettime(time.CLOCK_PROCESS_CPUTIME_ID)


def serve(programs):
    """programs: by name, a function that takes the job and gives (a pass, which returns its number of rows; a remark or "")."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    name, path = sys.argv[1:]
    one_pass, about = programs[name](Job(path))
    print(json.dumps({"ready": name, "about": about}), file=answers)
    for _ in sys.stdin:
        wall, cpu = time.monotonic(), cpu_s()
        rows = one_pass()
        print(json.dumps({"rows": rows, "cpu_s": cpu_s() - cpu, "wall_s": time.monotonic() - wall}), file=answers)
