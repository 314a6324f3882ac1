# SPDX-License-Identifier: MIT
"""What the tests of this folder share: a list of tests run in turn, commands, a temporary folder, a daemon."""
import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

SCALE = int(os.environ.get("PFEED_TEST_SCALE", "1"))


class Skip(Exception):
    pass


class Suite:
    """The exit status is 1 where one failed, 77 where all were skipped."""

    def __init__(self):
        self.tests = []

    def test(self, function):
        self.tests.append(function)
        return function

    def skip(self, reason):
        raise Skip(reason)

    def run(self):
        failed = skipped = 0
        for function in self.tests:
            try:
                function()
                print("ok", function.__name__)
            except Skip as reason:
                skipped += 1
                print("skipped", function.__name__ + ":", reason)
            except BaseException:  # pylint: disable=broad-except
                failed += 1
                print("FAILED", function.__name__)
                traceback.print_exc(file=sys.stdout)
        sys.exit(1 if failed else 77 if skipped == len(self.tests) else 0)


def run(*command, status=0, **more):
    """What it printed; it must end with the status."""
    env = dict(os.environ, **more.pop("env", {}))
    result = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                            timeout=120 * SCALE, check=False, env=env, **more)
    assert result.returncode == status, f"{command} ended with {result.returncode}, not {status}: {result.stdout}"
    return result.stdout


@contextlib.contextmanager
def temporary(parent=None):
    path = Path(tempfile.mkdtemp(prefix="pfeed-test-", dir=parent))
    try:
        yield path
    finally:
        shutil.rmtree(path)


def until(condition, what):
    deadline = time.monotonic() + 60 * SCALE
    while not condition():
        assert time.monotonic() < deadline, f"in vain: {what}"
        time.sleep(0.01)


def notices(path):
    """Where systemd would hear a daemon."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(str(path))
    return listener


def listens(path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
        return probe.connect_ex(str(path)) == 0


class Daemon:
    """A pfeedd in a folder of its own, until the end of the block, where it must stop with status 0."""

    def __init__(self, program, config):
        self.program, self.config = program, config

    def __enter__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="pfeed-test-"))
        self.socket = self.folder / "pfeedd.sock"
        (self.folder / "pfeed.yaml").write_text(self.config)
        self.output = (self.folder / "output").open("w+")
        self.process = subprocess.Popen([self.program, "--config", self.folder / "pfeed.yaml", "--socket", self.socket],
                                        stdout=self.output, stderr=self.output)
        try:
            until(self.ready, "the daemon is ready")
        except BaseException:
            self.process.kill()
            self.process.wait()
            raise
        return self

    def ready(self):
        assert self.process.poll() is None, f"pfeedd ended: {(self.folder / 'output').read_text()}"
        return listens(self.socket)

    def __exit__(self, kind, value, trace):
        self.process.terminate()
        try:
            status = self.process.wait(timeout=30 * SCALE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = self.process.wait()
        self.output.close()
        said = (self.folder / "output").read_text()
        shutil.rmtree(self.folder)
        assert kind or status == 0, f"pfeedd ended with {status}: {said}"
