# SPDX-License-Identifier: MIT
"""What a schedule runs: feeds, jobs with their ranks, a daemon; and the comparison of what was logged with the oracle."""
import ctypes
import mmap
import os
import signal
import struct
import subprocess
import time
from pathlib import Path

import oracle

SCALE = int(os.environ.get("PFEED_TEST_SCALE", "1"))
PATIENCE_S = 30 * SCALE
RANKS = 8  # trainer.c's
STALE, GONE = 3, 4  # its exit statuses for those whose place a newer run has taken
LIBC = ctypes.CDLL(None, use_errno=True)


class Failure(Exception):
    pass


def die_with_parent():
    LIBC.prctl(1, signal.SIGKILL)


class Feed:
    """A feed of the configuration; what a reload may change of it changes no history."""

    def __init__(self, name, random, jobs):
        self.name, self.jobs_max = name, jobs
        self.batch = random.choice((4, 8, 12))
        self.rows = random.randint(3 * self.batch, 14 * self.batch)
        self.shuffle = random.choice(("global", "global", "none"))
        self.tail = random.choice(("drop", "pad", "partial"))
        self.each = random.random() < 0.2
        self.slow = random.choice(("park", "park", "block"))
        self.park_after_ms = random.choice((0, 20, 60))
        self.seed, self.classes = random.getrandbits(63), random.randint(1, 12)
        self.delay_us = random.choice((0, 0, 0, 300))
        self.fields = random.choice(([("x", "float32", 16)], [("x", "uint8", 13), ("label", "int64", 0)],
                                     [("a", "float16", 5), ("b", "int32", 3), ("label", "int32", 0)]))
        self.more_slots = random.choice((0, 0, 1, 5))
        self.held = random.randint(1, 3)
        self.double = False
        self.oracle = oracle.Feed(self.rows, self.seed, self.classes, self.fields, self.shuffle)

    def steps_of(self, random):
        """Rows of a job's step over all ranks, and the worlds it can have with them."""
        if self.each:
            return random.choice([b for b in range(1, self.batch + 1) if self.batch % b == 0]), [1, 2, 4]
        g = random.choice((self.batch // 2, self.batch, 2 * self.batch))
        worlds = [w for w in (1, 2, 4) if g % w == 0 and self.batch % (g // w) == 0]
        if self.tail == "partial":
            g, worlds = min(g, self.batch), [1]
        return g, worlds

    def slots(self):
        """As many as all jobs need apart, where a step may be of two slots (pfeedd would refuse a job otherwise)."""
        return self.jobs_max * (self.held + 2) * 2 + self.more_slots

    def yaml(self):
        fields = ", ".join(f"{name}: {{ dtype: {dtype}{f', shape: [{n}]' if n else ''} }}" for name, dtype, n in self.fields)
        return (f"  {self.name}:\n    source: {{ type: synthetic, rows: {self.rows}, seed: {self.seed}, classes: {self.classes}, "
                f"delay_us: {self.delay_us} }}\n    shuffle: {self.shuffle}\n    batch: {self.batch * (1 + self.double)}\n"
                f"    tail: {self.tail}\n    deliver: {'each' if self.each else 'split'}\n    slots: {self.slots()}\n"
                f"    max_held: {self.held}\n    slow: {self.slow}\n    park_after: {self.park_after_ms}ms\n    fields: {{ {fields} }}\n")


class Rank:
    """A rank's processes, one after the other; `start` and `expected` are the next one's."""

    def __init__(self, run, number):
        self.run, self.number = run, number
        self.process, self.stopped, self.ended = None, False, False
        self.path = run.folder / f"{number}"
        self.token_path = self.path.with_suffix(".token")
        self.life = 0     # which process
        self.born = 0     # which daemon ran when it was started
        self.since = 0    # and when it died, where that one had known it; else 0
        self.seen = 0     # which daemon ran when it was stopped
        self.reconnects = False  # this process was attached to an older daemon
        self.alone = False  # it returned by itself, and not with all the others

    def __str__(self):
        return f"{self.run}/{self.number}"

    def alive(self):
        return self.process is not None

    def log_path(self):
        return self.path.with_suffix(f".{self.life}.log")

    def token(self):
        return self.token_path.read_text() if self.token_path.exists() else None

    def steps(self):
        return struct.unpack_from("<Q", self.run.page, 8 * (RANKS + self.number))[0]

    def signal(self, number):
        os.kill(self.process.pid, number)
        self.stopped = number == signal.SIGSTOP or self.stopped and number != signal.SIGCONT

    def opened(self):
        """This process was attached: from now on it finds a new daemon by itself."""
        return self.alive() and self.log_path().exists() and self.log_path().stat().st_size > 0

    def log(self):
        return self.log_path().read_bytes() if self.log_path().exists() else b""

    def words(self):
        path = self.path.with_suffix(".words")
        return path.read_text()[-1500:] if path.exists() else ""


class Run:
    """A job from its start, or its taking over, to its end: one world."""

    def __init__(self, job, number, world, start):
        self.job, self.number, self.world, self.start = job, number, world, start
        self.folder = job.folder / f"run{number}"
        self.folder.mkdir()
        self.page_path = self.folder / "page"
        self.page_path.write_bytes(bytes(16 * RANKS))
        with self.page_path.open("rb") as file:
            self.page = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        each = job.feed.each
        self.batch = job.world_batch if each else job.world_batch // world
        self.oracle = oracle.Job(job.feed.oracle, job.seed, world, self.batch, job.feed.tail, each)
        self.ranks = [Rank(self, r) for r in range(world)]

    def __str__(self):
        return f"{self.job.name}.{self.number}"

    def place(self, token):
        """Of a token, in steps of the job's life."""
        if token is None:
            return 0
        epoch, row = (int(word) for word in token.split(":")[3:5])
        return epoch * self.oracle.steps + row // self.oracle.stride

    def rearmost(self):
        """The token that all have behind them; None where there is none yet."""
        tokens = [rank.token() for rank in self.ranks]
        return self.start if None in tokens else min(tokens, key=self.place)

    def check(self, rank, allowed, killed):
        """The log of a process that began at one of these places."""
        data, at, steps = rank.log(), 0, self.oracle.steps
        place = None
        while at < len(data):
            if place is None:
                expected = [oracle.RECORD.pack(oracle.OPEN, 0, *divmod(p, steps), 0) for p in allowed]
            else:
                expected = [self.expected(place, told, rank.number)]
            match = next((e for e in expected if data.startswith(e, at)), None)
            if match is None:
                if killed and len(data) - at < max(len(e) for e in expected) and any(e.startswith(data[at:]) for e in expected):
                    break  # killed while it wrote
                raise Failure(f"{rank} life {rank.life}, byte {at} of {rank.log_path()}: expected "
                              f"{' or '.join(describe(e) for e in expected)}\n  got {describe(data[at:])}")
            kind = oracle.RECORD.unpack_from(match)[0]
            if kind == oracle.OPEN:
                place, told = allowed[expected.index(match)], True
            elif kind == oracle.BATCH:
                place, told = place + 1, (place + 1) % steps != 0
            else:
                told = True
            at += len(match)

    def expected(self, place, told, number):
        epoch, step = divmod(place, self.oracle.steps)
        if not told:
            return oracle.RECORD.pack(oracle.EPOCH, 0, 0, 0, 0)
        if self.job.epochs and epoch >= self.job.epochs:
            return oracle.RECORD.pack(oracle.END, 0, 0, 0, 0)
        return self.oracle.batch(epoch, step, number)


def describe(data):
    if len(data) < oracle.RECORD.size:
        return f"{len(data)} bytes of a record"
    kind, rows, epoch, step, valid = oracle.RECORD.unpack_from(data)
    name = ("begins at", "batch", "PFEED_EPOCH", "PFEED_END")[kind] if kind < 4 else f"kind {kind}"
    out = [f"{name} {epoch}/{step}, {rows} rows, {valid} valid"]
    for i in range(min(rows, 16, (len(data) - oracle.RECORD.size) // oracle.ROW.size)):
        sample, used, hashed, flags = oracle.ROW.unpack_from(data, oracle.RECORD.size + i * oracle.ROW.size)
        out.append(f"{sample}{'' if used == sample else f'->{used}'}:{hashed:016x}{f' flags {flags}' if flags else ''}")
    return "; ".join(out)


class Job:
    def __init__(self, folder, name, feed, random, epochs):
        self.folder, self.name, self.feed = folder / name, name, feed
        self.folder.mkdir()
        self.world_batch, self.worlds = feed.steps_of(random)
        self.seed = random.choice((7, 7, random.getrandbits(40)))
        self.together = random.random() < 0.5
        self.epochs = epochs
        self.pace_us = random.choice((300, 1000, 2500))
        self.run = None
        self.runs = []

    def next_run(self, world, token):
        self.run = Run(self, len(self.runs) + 1, world, token)
        self.runs.append(self.run)
        return self.run


class System:
    """The processes. Every wait is for a condition, and looks after all of them meanwhile."""

    def __init__(self, folder, programs, feeds, workers, shm):
        self.folder, self.feeds, self.jobs, self.events = Path(folder), feeds, [], []
        self.pfeedd, self.pfeedctl, self.trainer = programs
        self.workers, self.shm = workers, shm
        self.daemon, self.daemon_stopped, self.lives = None, False, 0
        self.socket, self.config = self.folder / "s", self.folder / "pfeed.yaml"
        self.pipe, self.pipe_end = os.pipe()
        self.begun, self.batches = time.monotonic(), 0
        self.ghosts = []  # ranks of runs whose place another has taken

    def tell(self, words):
        self.events.append(f"{time.monotonic() - self.begun:7.3f} {words}")

    def configured(self):
        return self.feeds

    def write_config(self):
        path = self.config.with_suffix(".new")
        path.write_text(f"version: 1\ndaemon: {{ workers: {self.workers}, memory: 64MiB, shm: {self.shm} }}\nfeeds:\n"
                        + "".join(feed.yaml() for feed in self.configured()))
        path.rename(self.config)

    def begin(self):
        self.write_config()
        self.start_daemon()

    def finish(self):
        """After all jobs have ended."""
        self.end_daemon(signal.SIGTERM)

    # ---- processes

    def start_daemon(self):
        if self.daemon:
            return
        (self.folder / "state").mkdir(exist_ok=True)
        env = dict(os.environ, STATE_DIRECTORY=str(self.folder / "state"))
        with (self.folder / "output").open("ab") as output:
            self.daemon = subprocess.Popen([self.pfeedd, "--config", self.config, "--socket", self.socket], stdin=subprocess.DEVNULL,
                                           stdout=output, stderr=output, env=env, preexec_fn=die_with_parent)
        self.lives += 1
        self.daemon_stopped = False

    def end_daemon(self, number):
        """A SIGTERM may come before it has a handler."""
        for rank in self.alive():
            rank.reconnects = rank.opened()
        self.daemon.send_signal(number)
        if self.daemon_stopped:
            self.daemon.send_signal(signal.SIGCONT)
        status = self.daemon.wait(PATIENCE_S)
        self.daemon, self.daemon_stopped = None, False
        if status not in (-number, 0 if number == signal.SIGTERM else -number):
            raise Failure(f"the daemon ended with {status} after signal {number}")

    def start_rank(self, rank, start, allowed, draw, alone=False):
        run, job = rank.run, rank.run.job
        rank.alone = alone
        rank.life += 1
        rank.born, rank.reconnects = self.lives, False
        rank.allowed, rank.stopped, rank.ended = allowed, False, False
        values = dict(socket=self.socket, feed=job.feed.name, job=job.name, start=start or "fresh", log=rank.log_path(),
                      token=rank.token_path, page=run.page_path, rank=rank.number, world=run.world, batch=run.batch, run=run.number,
                      seed=job.seed, epochs=job.epochs, max_held=job.feed.held, pace_us=job.pace_us, together=int(job.together),
                      fork_at=draw.choice((0, 0, 0, draw.randint(1, 9))), draw=draw.getrandbits(60), patience_s=PATIENCE_S)
        with rank.path.with_suffix(".words").open("wb") as words:
            rank.process = subprocess.Popen([self.trainer] + [f"{key}={value}" for key, value in values.items()], stdin=self.pipe,
                                            stdout=words, stderr=words)

    def end_rank(self, rank, number):
        self.end_soon(rank, number)
        self.await_end(rank, number)

    def end_soon(self, rank, number):
        """No SIGCONT to one that runs: it would be lost on LeakSanitizer, which stops a process that ends."""
        stopped = rank.stopped
        rank.signal(number)
        if stopped:
            rank.signal(signal.SIGCONT)

    def await_end(self, rank, number):
        """After SIGTERM it must end well."""
        status = rank.process.wait(PATIENCE_S)
        if status not in (0, -number, *((STALE, GONE) if rank in self.ghosts else ())):
            raise Failure(f"{rank} ended with {status} after signal {number}: {rank.words()}")
        self.account(rank, status)

    def account(self, rank, status):
        """A process has ended: its log is complete."""
        rank.process, rank.stopped = None, False
        rank.run.check(rank, rank.allowed, status != 0)
        rank.since = self.lives if rank.born == self.lives and len(rank.log()) > 0 else 0
        if not any(mate.opened() for mate in rank.run.ranks):  # nobody is left: the daemon forgets the job
            for mate in rank.run.ranks:
                mate.since = 0
        self.batches += rank.steps()

    def alive(self):
        return [rank for job in self.jobs for run in job.runs for rank in run.ranks if rank.alive()]

    def watch(self):
        if self.daemon and self.daemon.poll() is not None:
            raise Failure(f"the daemon has ended by itself: {self.daemon.returncode}")
        for rank in self.alive():
            status = rank.process.poll()
            if status is None:
                continue
            if rank in self.ghosts and status in (STALE, GONE) or status == 0 and rank.run.job.epochs:
                rank.ended = status == 0
                self.account(rank, status)
            else:
                raise Failure(f"{rank} has ended with {status}: {rank.words()}")

    def until(self, condition, what):
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            self.watch()
            if time.monotonic() > deadline:
                raise Failure(f"in vain for {PATIENCE_S} s: {what}")
            time.sleep(0.002)

    def reload(self):
        self.until(lambda: self.ctl("reload").returncode == 0, "pfeedctl reload says that it is done")

    def ctl(self, *words):
        return subprocess.run([self.pfeedctl, "--socket", self.socket, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, timeout=PATIENCE_S, check=False)

    # ---- the end

    def close(self):
        for rank in self.alive():
            rank.process.kill()
            rank.process.wait()
        if self.daemon:
            self.daemon.kill()
            self.daemon.wait()
        os.close(self.pipe)
        os.close(self.pipe_end)
        for job in self.jobs:
            for run in job.runs:
                run.page.close()

    def said(self):
        path = self.folder / "output"
        return path.read_text() if path.exists() else ""

    def last_words(self):
        out = []
        if self.daemon and not self.daemon_stopped and self.daemon.poll() is None:
            for verb in ("consumers", "jobs"):
                try:
                    out.append(self.ctl(verb).stdout)
                except subprocess.TimeoutExpired:
                    out.append("pfeedctl has no answer")
        for job in self.jobs:
            for rank in job.run.ranks:
                out.append(f"{rank}: {'stopped' if rank.stopped else 'alive' if rank.alive() else 'ended' if rank.ended else 'dead'}, "
                           f"{rank.steps()} steps, token {rank.token()}{' ' + rank.words() if rank.words() else ''}")
        out.append("the daemon's last words:\n" + self.said()[-4000:])
        return "\n".join(out)
