#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Soak: the schedules of chaos.py, one after the other, against one daemon that is never killed and two trainers that stay all the time.
Each schedule brings feeds and jobs of its own by a reload and takes them away again; trainers are killed, stopped, parked and taken
over, the daemon is stopped and reloads. After each, the daemon must have as many descriptors and threads as after the first one, and
at the end the memory of the daemon and of the two trainers must have stayed flat. What the two got is compared with oracle.py, too.

    soak.py --pfeedd P --pfeedctl P --trainer P [--seed N] [--schedules K] [--hours H] [--figures FILE]

FILE gets a line of figures per schedule: seconds, then resident KiB, anonymous KiB, descriptors and threads of the daemon, then of each
of the two trainers."""
import argparse
import os
import random
import shutil
import signal
import statistics
import sys
import tempfile
import time
import traceback
from pathlib import Path

sys.dont_write_bytecode = True  # before there is something to write
from chaos import Schedule
from system import Failure, Feed, Job, System

WARM = 10          # schedules; the memory of all later ones is compared
SLACK_KIB = 512    # that the last tenth may have more than the first: malloc's own pages
PACE_US = 20000    # of the two that stay


class Guest(System):
    """A schedule's feeds, jobs and folder on a daemon that belongs to another system."""

    def __init__(self, host, folder, feeds):
        super().__init__(folder, (host.pfeedd, host.pfeedctl, host.trainer), feeds, host.workers, host.shm)
        self.host, self.socket, self.config = host, host.socket, host.config
        self.daemon, self.lives = host.daemon, host.lives

    def configured(self):
        return self.host.feeds + self.feeds

    def begin(self):
        self.write_config()
        self.reload()

    def finish(self):
        self.feeds = []
        self.begin()

    def watch(self):
        super().watch()
        self.host.watch()

    def close(self):
        self.daemon = None
        super().close()

    def said(self):
        return self.host.said()


def status(pid):
    """Resident and anonymous KiB, descriptors, threads."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return (int(lines["VmRSS"].split()[0]), int(lines["RssAnon"].split()[0]), len(os.listdir(f"/proc/{pid}/fd")), int(lines["Threads"]))


class Soak:
    def __init__(self, programs, seed, folder):
        draw = random.Random(f"soak/{seed}")
        feed = Feed("steady", draw, jobs=1)
        feed.tail, feed.each, feed.batch, feed.rows = "drop", False, 8, 1000
        feed.oracle.rows = feed.rows
        self.system = System(folder, programs, [feed], 2, "auto")
        self.system.begin()
        job = Job(self.system.folder, "steady", feed, draw, epochs=0)
        job.world_batch, job.together, job.pace_us = 8, True, PACE_US
        self.system.jobs.append(job)
        self.run = job.next_run(2, None)
        for rank in self.run.ranks:
            self.system.start_rank(rank, None, [0], draw)
        self.goes_on()
        self.figures = []
        self.batches = 0

    def goes_on(self):
        for rank in self.run.ranks:
            goal = rank.steps() + 3
            self.system.until(lambda rank=rank, goal=goal: rank.steps() >= goal, f"{rank} goes on to step {goal}")

    def measure(self):
        """Once nothing of a schedule is left; the ends of descriptors and threads come when they come."""
        pids = [self.system.daemon.pid, *(rank.process.pid for rank in self.run.ranks)]
        if self.figures:
            wanted = [process[2:] for process in self.figures[0]]
            self.system.until(lambda: [status(pid)[2:] for pid in pids] == wanted,
                              f"descriptors and threads are {wanted} again, they were {[status(pid)[2:] for pid in pids]}")
        self.figures.append([status(pid) for pid in pids])
        return " ".join(str(number) for process in self.figures[-1] for number in process)

    def schedule(self, seed):
        folder = tempfile.mkdtemp(prefix="pfeed-soak-")
        schedule = Schedule(seed, lambda feeds, workers, shm: Guest(self.system, folder, feeds))
        schedule.kinds = {kind: n for kind, n in Schedule.KINDS.items() if kind not in (Schedule.event_daemon, Schedule.event_first)}
        try:
            schedule.run()
            self.goes_on()
        except Exception as reason:
            why = str(reason) if isinstance(reason, Failure) else traceback.format_exc()
            raise Failure("\n".join([f"seed {seed}:", *schedule.system.events, f"FAILED: {why}", schedule.system.last_words()])) from reason
        finally:
            schedule.system.close()
            shutil.rmtree(folder)
        self.batches += schedule.system.batches

    def end(self):
        """What the two got, and a daemon that ends well."""
        for rank in self.run.ranks:
            self.system.end_soon(rank, signal.SIGTERM)
        for rank in self.run.ranks:
            self.system.await_end(rank, signal.SIGTERM)
        self.batches += self.system.batches
        self.system.finish()

    def verdict(self):
        """Of the memory; too few schedules say nothing."""
        after = self.figures[WARM:]
        tenth = len(after) // 10
        if tenth == 0:
            return True
        flat = True
        for which, name in enumerate(("daemon", "trainer 0", "trainer 1")):
            for column, what in enumerate(("resident", "anonymous")):
                first, last = (statistics.median(f[which][column] for f in part) for part in (after[:tenth], after[-tenth:]))
                flat &= last <= first + SLACK_KIB
                print(f"{name}: {what} {first:.0f} KiB in the first tenth, {last:.0f} KiB in the last, at most "
                      f"{max(f[which][column] for f in after)} KiB")
            print(f"{name}: {after[-1][which][2]} descriptors, {after[-1][which][3]} threads, after each schedule")
        return flat


def play(options, soak, figures):
    begin, seed = time.monotonic(), options.seed
    while time.monotonic() - begin < options.hours * 3600 if options.hours else seed < options.seed + options.schedules:
        soak.schedule(seed)
        line = soak.measure()
        if figures:
            print(f"{time.monotonic() - begin:.0f} {line}", file=figures, flush=True)
        seed += 1
    soak.end()
    print(f"{seed - options.seed} schedules from seed {options.seed}, {soak.batches} batches as computed, in {time.monotonic() - begin:.0f} s")
    if not soak.verdict():
        print("FAILED: memory grows")
        return 1
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("pfeedd", "pfeedctl", "trainer"):
        parser.add_argument(f"--{name}", required=True, metavar="P")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of the first schedule")
    parser.add_argument("--schedules", type=int, default=1, metavar="K", help="seeds N, N + 1, ...")
    parser.add_argument("--hours", type=float, default=0, metavar="H", help="for so long, however many schedules that are")
    parser.add_argument("--figures", metavar="FILE", help="a line per schedule is written here")
    options = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="pfeed-soak-host-")
    soak = None
    try:
        soak = Soak([os.path.abspath(program) for program in (options.pfeedd, options.pfeedctl, options.trainer)], options.seed, folder)
        with open(options.figures or os.devnull, "w", encoding="ascii") as figures:
            return play(options, soak, figures)
    except Failure as why:
        print(why)
        return 1
    finally:
        if soak:
            soak.system.close()
        shutil.rmtree(folder)


if __name__ == "__main__":
    sys.exit(main())
