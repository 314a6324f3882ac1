#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Chaos: seeded random schedules over a running system. Trainers and the daemon are killed, stopped, continued and started again; jobs
come, are parked, end, and go on from their tokens at other worlds; feeds change under them. Whatever happens, each process must have
been given exactly what oracle.py computes for its rank, step after step from where it began, and everybody must go on.

    chaos.py --pfeedd P --pfeedctl P --trainer P [--seed N] [--schedules K] [--hours H] [--jobs J] [--verbose]

A seed decides every event; when things happen differs from run to run. A failing seed prints the events, what was expected and what
came, and the command that repeats it."""
import argparse
import concurrent.futures
import os
import random
import shlex
import shutil
import signal
import sys
import tempfile
import time
import traceback

sys.dont_write_bytecode = True  # before there is something to write
from system import SCALE, Failure, Feed, Job, System


class Schedule:
    def __init__(self, seed, make_system):
        """make_system(feeds, workers, shm)"""
        draw = random.Random(f"{seed}")
        self.seed = seed
        self.feeds = [Feed(f"f{i}", draw, jobs=draw.choice((1, 2, 2, 3))) for i in range(draw.randint(1, 2))]
        self.spare = Feed("spare", draw, jobs=1)
        self.system = make_system(list(self.feeds), draw.randint(1, 3), draw.choice(("auto", "memfd", "posix")))
        self.events = draw.randint(10, 30)
        self.kinds = self.KINDS

    def draw(self, what):
        """A source of its own for each event, so that how much one draws says nothing about the next."""
        return random.Random(f"{self.seed}/{what}")

    # ---- who is there

    def ranks(self, condition):
        return [rank for job in self.system.jobs for rank in job.run.ranks if condition(rank)]

    def running(self):
        return self.ranks(lambda rank: rank.alive() and not rank.stopped)

    @staticmethod
    def over(job):
        return all(rank.ended for rank in job.run.ranks)

    def halted(self, job):
        """Ranks that others may wait for: not those that the daemon has not seen, where one that can take part has seen an older one
        (reconnecting waits for nobody, once the job has begun)."""
        gone = [r for r in job.run.ranks if not r.ended and (r.stopped or not r.alive())]
        begun = any(r.steps() > 0 for r in job.run.ranks)
        if job.together or not begun or not any(r.reconnects and r.alive() and not r.stopped for r in job.run.ranks):
            return gone
        return [r for r in gone if r.alive() and r.seen == self.system.lives]

    def must_go_on(self, job):
        """Nobody is stopped that it may wait for: by the policy `block`, or where slots do not suffice to park."""
        here = [other for other in self.system.jobs if other.feed is job.feed and other is not job]
        alike = [other for other in here if other.seed == job.seed and self.halted(other) and any(r.alive() for r in other.run.ranks)]
        parks = job.feed.slow == "park" and len(here) < 2
        return (self.system.daemon and not self.system.daemon_stopped and not self.halted(job) and not self.over(job)
                and (parks or not alike))

    def goes_on(self, jobs, steps):
        """Until each rank of these has given back so many more."""
        self.drop_ghosts()
        goals = [(rank, rank.steps() + steps) for job in jobs for rank in job.run.ranks if rank.alive() and not rank.stopped]
        for rank, goal in goals:
            self.system.until(lambda: rank.steps() >= goal or rank.ended, f"{rank} goes on, from {rank.steps()} steps to {goal}")

    # ---- starting

    def drop_ghosts(self):
        """Those that cannot hear that a newer run is there: they stand, or wait for one that has gone."""
        for rank in self.system.ghosts:
            if rank.alive() and (rank.stopped or rank.run.job.together):
                self.system.end_rank(rank, signal.SIGKILL)

    def start_run(self, job, draw):
        """All ranks, from the place that all of the run before had behind them, maybe at another world."""
        token = job.run.rearmost() if job.run else None
        run = job.next_run(draw.choice(job.worlds), token)
        self.system.tell(f"  {run}: world {run.world}, from {run.place(token)}, of {run.oracle.steps} steps of {run.oracle.stride} rows")
        for rank in draw.sample(run.ranks, run.world):
            self.system.start_rank(rank, token, [run.place(token)], draw)

    def return_rank(self, rank, draw):
        """Alone, to the job that is there: with its token, or "live" where the daemon knows better than we whether its last batch
        came back."""
        token = rank.token() or rank.run.start
        place = rank.run.place(token)
        live = (rank.since == self.system.lives and self.known(rank.run) and not self.system.daemon_stopped and rank.token()
                and draw.random() < 0.3)
        self.system.tell(f"  {rank} returns at {place}{', live' if live else ''}")
        self.system.start_rank(rank, "live" if live else token, [place - 1, place] if live and place else [place], draw, True)
        if live:  # the next daemon would not know
            self.system.until(rank.opened, f"{rank} is attached")

    def may_return(self, rank):
        """Otherwise all ranks of the job are started again."""
        job, run = rank.run.job, rank.run
        lives, dead = self.system.lives, [r for r in run.ranks if not r.alive()]
        if job.epochs or not rank.token() or not any(r.opened() and r.steps() > 0 for r in run.ranks):
            return False
        if self.known(run) and all(r.since == lives for r in dead):
            return True  # the daemon knows the job, and where these stood
        return not self.unknown_place(job, len(dead) + sum(r.opened() and r.alone and r.born == lives for r in run.ranks))

    def known(self, run):
        """To the daemon that is there, by a rank that is alive."""
        return self.system.daemon and any(r.opened() and r.born == self.system.lives for r in run.ranks)

    @staticmethod
    def unknown_place(job, more=0):
        """A daemon that has never seen the job can be told its place by one rank that comes alone; not by two that say different ones
        before any of the others has come back; and not where these stand in an all-reduce, so that they never come. Nor by one that
        was never there, after others that were have gone on without it."""
        if any(r.opened() for r in job.run.ranks) and any(not r.token() for r in job.run.ranks):
            return True
        return sum(r.alive() and r.alone and not r.opened() for r in job.run.ranks) + more > (0 if job.together else 1)

    # ---- events

    def event_steps(self, draw):
        jobs = [job for job in self.system.jobs if self.must_go_on(job)]
        if jobs:
            job = draw.choice(jobs)
            self.system.tell(f"  {job.run} goes on")
            self.goes_on([job], draw.choice((1, 2, 5, 12, 40)))

    def event_kill(self, draw):
        ranks = self.ranks(lambda rank: rank.alive())
        if not ranks:
            return
        some = draw.choice(ranks)
        victims = [some] if draw.random() < 0.6 else [r for r in some.run.ranks if r.alive()]
        for rank in victims:
            self.system.tell(f"  kill {rank}")
            self.system.end_rank(rank, signal.SIGKILL)

    def event_stop(self, draw):
        ranks = self.running()
        for rank in draw.sample(ranks, min(len(ranks), draw.randint(1, 2))):
            self.system.tell(f"  stop {rank}")
            self.stop(rank)

    def stop(self, rank):
        if rank.alive():
            rank.signal(signal.SIGSTOP)
            rank.seen = self.system.lives  # it may be attached to this daemon, and to none that comes later

    def event_park(self, draw):
        """A job stands still; another of its feed, through more slots than there are, does not."""
        jobs = [job for job in self.system.jobs if self.must_go_on(job)]
        pairs = [(job, other) for job in jobs for other in jobs if job is not other and job.feed is other.feed]
        if not pairs:
            return
        job, other = draw.choice(pairs)
        self.system.tell(f"  {job.run} stands still, {other.run} goes on")
        for rank in job.run.ranks:
            self.stop(rank)
        if self.must_go_on(other):
            self.goes_on([other], 2 * other.feed.slots())

    def event_continue(self, draw):
        for rank in self.ranks(lambda r: r.stopped):
            if draw.random() < 0.7:
                self.system.tell(f"  continue {rank}")
                rank.signal(signal.SIGCONT)
        if self.system.daemon_stopped:
            self.event_daemon_stops(draw)

    def event_return(self, draw):
        if not self.system.daemon and draw.random() < 0.5:
            self.event_daemon(draw)
        for job in self.system.jobs:
            dead = [rank for rank in job.run.ranks if not rank.alive()]
            if not dead or self.over(job):
                continue
            alone = all(self.may_return(rank) for rank in dead)
            if not alone:
                self.take_over(job, draw)
                continue
            for rank in dead:
                self.return_rank(rank, draw)

    def take_over(self, job, draw):
        """A newer run; of the old one some still live."""
        for rank in job.run.ranks:
            if rank.alive() and draw.random() < 0.5:
                self.system.end_rank(rank, signal.SIGKILL)
            elif rank.alive():
                self.system.ghosts.append(rank)
        self.drop_ghosts()
        self.start_run(job, draw)

    def event_run(self, draw):
        jobs = [job for job in self.system.jobs if not self.over(job)]
        if jobs:
            self.take_over(draw.choice(jobs), draw)

    def event_resume(self, draw):
        """Ended well, and on at another world."""
        jobs = [job for job in self.system.jobs if not self.over(job)]
        if jobs:
            job = draw.choice(jobs)
            self.system.tell(f"  {job.run} ends")
            self.end_job(job)
            if not self.over(job):
                self.start_run(job, draw)

    def end_job(self, job):
        for rank in job.run.ranks:  # pfeed_open may wait for a stopped daemon, and hears no signal
            if rank.alive() and not rank.opened():
                self.system.end_rank(rank, signal.SIGKILL)
        ranks = [rank for rank in job.run.ranks if rank.alive()]
        for rank in ranks:  # all before any is awaited
            self.system.end_soon(rank, signal.SIGTERM)
        for rank in ranks:
            self.system.await_end(rank, signal.SIGTERM)

    def event_job(self, draw):
        feed = draw.choice(self.system.feeds)
        if sum(job.feed is feed for job in self.system.jobs) >= feed.jobs_max:
            return
        job = Job(self.system.folder, f"j{len(self.system.jobs)}", feed, draw, epochs=draw.choice((0, 0, 0, draw.randint(1, 9))))
        self.system.tell(f"  {job.name} on {feed.name}, seed {job.seed}, epochs {job.epochs}, together {job.together}, slow {feed.slow}")
        self.system.jobs.append(job)
        self.start_run(job, draw)

    def event_daemon(self, draw):
        if not self.system.daemon:
            self.system.tell("  the daemon starts")
            self.system.start_daemon()
            return
        number = draw.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM))
        again = draw.random() < 0.6
        self.end_daemon(number, draw)
        if again:
            self.event_daemon(draw)

    def end_daemon(self, number, draw):
        self.system.tell(f"  the daemon: {number.name}")
        self.system.end_daemon(number)
        for job in self.system.jobs:
            if self.unknown_place(job):
                self.take_over(job, draw)

    def event_first(self, draw):
        """A rank that died with the daemon is the first to come to the next one; another of the job stands still; the others go on."""
        jobs = [job for job in self.system.jobs if self.must_go_on(job) and not job.together and not job.epochs and job.run.world > 2
                and all(rank.opened() and rank.steps() > 0 for rank in job.run.ranks)]
        if not jobs:
            return
        job = draw.choice(jobs)
        first, still = draw.sample(job.run.ranks, 2)
        self.system.tell(f"  kill {first}, stop {still}")
        self.system.end_rank(first, signal.SIGKILL)
        self.stop(still)
        self.end_daemon(signal.SIGKILL, draw)
        self.event_daemon(draw)
        self.return_rank(first, draw)
        if self.must_go_on(job):
            self.goes_on([job], draw.randint(5, 40))

    def event_daemon_stops(self, draw):
        if self.system.daemon:
            self.system.daemon_stopped = not self.system.daemon_stopped
            self.system.tell(f"  the daemon {'is stopped' if self.system.daemon_stopped else 'continues'}")
            self.system.daemon.send_signal(signal.SIGSTOP if self.system.daemon_stopped else signal.SIGCONT)
            self.reload()  # what has changed meanwhile

    def event_reload(self, draw):
        system = self.system
        if self.spare in system.feeds:
            if not any(job.feed is self.spare for job in system.jobs):
                system.feeds.remove(self.spare)
        else:
            system.feeds.append(self.spare)
        feed = draw.choice(self.feeds)
        change = draw.choice(("slots", "batch", "delay", None))
        feed.more_slots += change == "slots"
        feed.double ^= change == "batch"
        feed.delay_us = draw.choice((0, 200)) if change == "delay" else feed.delay_us
        system.write_config()
        system.tell(f"  a new configuration: {[f.name for f in system.feeds]}, {feed.name}: {change}")
        self.reload()

    def reload(self):
        system = self.system
        if system.daemon and not system.daemon_stopped:
            system.reload()

    KINDS = {event_steps: 12, event_kill: 4, event_stop: 3, event_park: 3, event_continue: 4, event_return: 5, event_run: 2, event_resume: 2,
             event_job: 4, event_daemon: 4, event_first: 3, event_daemon_stops: 2, event_reload: 2}

    # ---- all of it

    def heal(self, draw):
        """Nothing is broken any more."""
        self.system.tell("the end: all is healed, all go on, all end well")
        if self.system.daemon_stopped:
            self.event_daemon_stops(draw)
        if not self.system.daemon:
            self.system.start_daemon()
        for rank in self.ranks(lambda r: r.stopped):
            rank.signal(signal.SIGCONT)
        self.event_return(draw)
        self.goes_on(self.system.jobs, draw.randint(3, 10))
        for rank in self.system.ghosts:  # a job that is over is not there to be found
            self.system.until(lambda: not rank.alive() or self.over(rank.run.job), f"{rank} hears that a newer run has taken its place")
            if rank.alive():
                self.system.end_rank(rank, signal.SIGKILL)
        for job in self.system.jobs:
            self.end_job(job)
        self.system.finish()

    def run(self):
        draw = self.draw("start")
        self.system.begin()
        for _ in range(draw.randint(1, 3)):
            self.event_job(draw)
        for number in range(self.events):
            draw = self.draw(number)
            event = draw.choices(list(self.kinds), self.kinds.values())[0]
            self.system.tell(f"{number}: {event.__name__[6:]}")
            event(self, draw)
            self.system.watch()
        self.heal(self.draw("end"))


def run_one(seed, programs, verbose):
    """(seed, seconds, batches, parks, None or why it failed)"""
    begin = time.monotonic()
    folder = tempfile.mkdtemp(prefix="pfeed-chaos-")
    schedule = Schedule(seed, lambda *drawn: System(folder, programs, *drawn))
    try:
        schedule.run()
        failed = None
        if verbose:
            print("\n".join(schedule.system.events))
    except Exception as reason:  # pylint: disable=broad-except
        why = str(reason) if isinstance(reason, Failure) else traceback.format_exc()
        failed = "\n".join([f"seed {seed}:", *schedule.system.events, f"FAILED: {why}", schedule.system.last_words()])
    finally:
        schedule.system.close()
        parks = schedule.system.said().count(" is parked: ")
        shutil.rmtree(folder)
    return seed, time.monotonic() - begin, schedule.system.batches, parks, failed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("pfeedd", "pfeedctl", "trainer"):
        parser.add_argument(f"--{name}", required=True, metavar="P")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of the first schedule")
    parser.add_argument("--schedules", type=int, default=1, metavar="K", help="seeds N, N + 1, ...")
    parser.add_argument("--hours", type=float, default=0, metavar="H", help="for so long, however many schedules that are")
    parser.add_argument("--jobs", type=int, default=min(8, os.cpu_count() or 1), metavar="J", help="schedules at a time")
    parser.add_argument("--verbose", action="store_true", help="print the events of those that pass, too")
    options = parser.parse_args()
    programs = [os.path.abspath(program) for program in (options.pfeedd, options.pfeedctl, options.trainer)]
    begin, longest, batches, parks, n, seed = time.monotonic(), 0, 0, 0, 0, options.seed
    with concurrent.futures.ProcessPoolExecutor(options.jobs) as pool:
        running = set()
        while True:
            more = time.monotonic() - begin < options.hours * 3600 if options.hours else seed < options.seed + options.schedules
            if more and len(running) < options.jobs:
                running.add(pool.submit(run_one, seed, programs, options.verbose))
                seed += 1
                continue
            if not running:
                break
            done, running = concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED)
            for ended, took, steps, parked, failed in (future.result() for future in done):
                if failed:
                    print(failed)
                    print("again:", again(ended), flush=True)
                    return 1  # once those that still run have ended
                if took > 5 * SCALE or options.verbose:
                    print(f"seed {ended} took {took:.1f} s", flush=True)
                n, longest, batches, parks = n + 1, max(longest, took), batches + steps, parks + parked
    print(f"{n} schedules from seed {options.seed}, {batches} batches as computed, {parks} parks, in {time.monotonic() - begin:.0f} s, "
          f"the longest {longest:.1f} s")
    return 0


def again(seed):
    """The command line of another seed alone."""
    words, keep = iter(sys.argv), [sys.executable]
    for word in words:
        if word.split("=")[0] not in ("--seed", "--schedules", "--hours", "--jobs"):
            keep.append(word)
        elif "=" not in word:
            next(words)
    return shlex.join([*keep, "--seed", str(seed)])


if __name__ == "__main__":
    sys.exit(main())
