# SPDX-License-Identifier: MIT
"""A program that is asked for one pass after the other: a line to it, a line of JSON back. Used by images.py."""

import json
import os
import select
import subprocess
import time


class Failed(Exception):
    pass


def busy_s():
    """CPU time of all processes so far."""
    with open("/proc/stat", encoding="ascii") as file:
        user, nice, system, _, _, irq, softirq, steal = map(int, file.readline().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def group_s():
    """CPU time of the processes of this group."""
    ticks = 0
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
                words = file.read().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(words[2]) == os.getpgrp():
            ticks += int(words[11]) + int(words[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def others_start():
    """A function that says how much of a core processes of other groups have used since."""
    wall, busy, own = time.monotonic(), busy_s(), group_s()
    return lambda: max(0.0, (busy_s() - busy - group_s() + own) / (time.monotonic() - wall))


class Program:
    def __init__(self, words, env, work, cpu=None):
        self.words, self.rest = words, b""
        path = os.path.join(work, f"stderr.{time.monotonic_ns()}")
        self.errors = open(path, "w+b")  # noqa: SIM115
        if cpu is not None:
            words = ["taskset", "-c", str(cpu), *words]
        try:
            self.process = subprocess.Popen(words, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors)
        except OSError as error:
            raise Failed(f"{words[0]}: {error}") from None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.errors.close()

    def reason(self):
        self.errors.seek(0)
        lines = [line.strip() for line in self.errors.read().decode(errors="replace").splitlines() if line.strip()]
        return lines[-1][:300] if lines else f"it ended without a word, status {self.process.poll()}"

    def line(self, limit_s):
        """The next one."""
        end = time.monotonic() + limit_s
        while b"\n" not in self.rest:
            ready, _, _ = select.select([self.process.stdout], [], [], max(0, end - time.monotonic()))
            if not ready:
                self.process.kill()
                raise Failed(f"no answer within {limit_s} s")
            more = os.read(self.process.stdout.fileno(), 1 << 16)
            if not more:
                self.process.wait()
                raise Failed(self.reason())
            self.rest += more
        line, self.rest = self.rest.split(b"\n", 1)
        return line.decode()

    def wait_ready(self, limit_s):
        """What it says of itself."""
        while True:
            line = self.line(limit_s)
            if line.startswith("{") and "ready" in line:
                return json.loads(line)

    def one_pass(self, limit_s):
        """Its answer, and how much of a core others used meanwhile."""
        wall, busy = time.monotonic(), busy_s()
        try:
            os.write(self.process.stdin.fileno(), b"\n")
        except OSError:
            self.process.wait()
            raise Failed(self.reason()) from None
        answer = json.loads(self.line(limit_s))
        own = answer.get("cpu_s", 0)
        return answer, answer.get("others", max(0.0, (busy_s() - busy - own) / (time.monotonic() - wall)))
