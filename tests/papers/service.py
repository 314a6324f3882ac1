#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The units: sound, shut tight, and pfeedd works inside of what they shut.

service.py SERVICE SOCKET PFEEDD TRAIN MKIMAGES. Where a systemd is PID 1, it makes the sandbox, of a unit of its own with the same
directives (systemd-run). Elsewhere the test does (sandbox.py), and proves it from inside before pfeedd takes the process over. A
trainer outside of it then takes batches of pictures."""
import configparser
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import sandbox
from common import Suite, notices, run, temporary, until

service, socket_unit, pfeedd, train, mkimages = (Path(argument).absolute() for argument in sys.argv[1:])
suite = Suite()
CONFIG = """version: 1
daemon: {{ workers: 1, memory: 256MiB, shm: {shm} }}
feeds:
  pictures:
    source: {{ type: directory, path: {folder}/data }}
    batch: 16
    slots: 4
    fields:
      image:
        decode: image
        transforms: [{{ random_resized_crop: {{ size: 32 }} }}]
        dtype: float32
      label: {{ dtype: int64 }}
"""


def directives(path, section):
    """Values by name, in the unit's order; what is given twice has two."""
    class Values(dict):
        def __setitem__(self, key, value):
            if isinstance(value, list) and key in self:
                self[key].extend(value)
            else:
                super().__setitem__(key, value)
    parser = configparser.RawConfigParser(dict_type=Values, strict=False, empty_lines_in_values=False)
    parser.optionxform = str
    parser.read(path)
    return {name: value.split("\n") for name, value in parser.items(section)}


def need(*programs):
    for program in programs:
        if not shutil.which(program):
            suite.skip(f"{program} is not installed")


def copies(folder):
    """The units as they would be, with programs that are there."""
    text = service.read_text().replace(directives(service, "Service")["ExecStart"][0].split()[0], str(pfeedd))
    (folder / "pfeedd.service").write_text(text)
    shutil.copy(socket_unit, folder / "pfeedd.socket")
    return folder / "pfeedd.service", folder / "pfeedd.socket"


@suite.test
def verify():
    need("systemd-analyze")
    with temporary() as folder:
        said = run("systemd-analyze", "verify", "--man=no", *copies(folder))
        assert not said.strip(), said


@suite.test
def exposure():
    need("systemd-analyze")
    with temporary() as folder:
        said = run("systemd-analyze", "security", "--offline=true", "--threshold=10", "--no-pager", copies(folder)[0])
        print(said.strip().splitlines()[-1])


@suite.test
def every_directive():
    """Applied, or named with the reason why not; nothing is named that the unit has not got."""
    names = set(directives(service, "Service"))
    methods = {name for name in vars(sandbox.Sandbox) if name[0].isupper()}
    assert not methods & set(sandbox.NOT_APPLIED)
    assert names == methods | set(sandbox.NOT_APPLIED), f"differ: {names ^ (methods | set(sandbox.NOT_APPLIED))}"
    names = set(directives(socket_unit, "Socket")) - {"SocketMode", "Backlog"}  # done by listen()
    assert names == {"ListenSequentialPacket", "DirectoryMode", "RemoveOnStop"}, names  # where it lies, and what comes after


def possible():
    if os.environ.get("PFEED_TEST_SANITIZE", "none") != "none":
        suite.skip("sanitizers make system calls and maps that the unit forbids")
    if os.geteuid() != 0:
        suite.skip("it takes root to make namespaces and drop capabilities")


def namespaces():
    need("systemd-analyze", "unshare")
    try:
        run("unshare", "--mount", "--net", "--ipc", "--uts", "true")
        sandbox.Filter().load()
    except (AssertionError, OSError) as error:
        suite.skip(f"namespaces or seccomp cannot be had here: {error}")


def listen(path):
    """As the socket unit does."""
    unit = directives(socket_unit, "Socket")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(str(path))
    path.chmod(int(unit["SocketMode"][0], 8))
    listener.listen(int(unit["Backlog"][0]))
    return listener


def start(box, folder, listener, report):
    """A process in the sandbox: the report of its probes first, then pfeedd."""
    program = os.open(pfeedd, os.O_RDONLY)  # PrivateTmp may hide the path
    words = [word if word != box.command[2] else str(folder / "pfeed.yaml") for word in box.command]
    assert words[1] == "--config", f"ExecStart is {box.command}"
    pid = os.fork()
    if pid:
        os.close(program)
        return pid
    try:
        output = os.open(folder / "output", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        failed = box.enter()
        os.write(report, json.dumps(failed).encode())
        os.close(report)
        if listener.fileno() == 3:
            os.set_inheritable(3, True)
        else:
            program = os.dup(program)
            os.dup2(listener.fileno(), 3)
        os.execve(program, words, {**box.environment, "PATH": "/usr/bin", "NOTIFY_SOCKET": str(folder / "notify"),
                                   "LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"})
    except BaseException as error:  # pylint: disable=broad-except
        os.write(2, f"{error!r}\n".encode())
    os._exit(126)


def status_of(pid):
    return dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)


def looks_right(pid):
    """What the kernel says of the running pfeedd."""
    status = status_of(pid)
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[name], 16) == 0, f"{name} is {status[name]}"
    assert status["NoNewPrivs"] == "1" and status["Seccomp"] == "2" and status["Umask"] == "0077", status
    assert status["Uid"].split() == [str(sandbox.UID)] * 4 and status["Groups"].split() == [], status
    for name in ("mnt", "net", "ipc", "uts"):
        assert os.readlink(f"/proc/{pid}/ns/{name}") != os.readlink(f"/proc/self/ns/{name}"), name
    assert os.readlink(f"/proc/{pid}/ns/user") == os.readlink("/proc/self/ns/user"), "trainers' uids would be hidden"


def wait(pid, seconds):
    """Its exit status; None where it goes on."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    return None


def is_ready(notify, pid, output):
    assert wait(pid, 0.001) is None, f"pfeedd ended: {output.read_text()}"
    try:
        return b"READY=1" in notify.recv(4096)
    except BlockingIOError:
        return False


def furnish(folder, shm):
    """Pictures and the configuration, for everybody to read."""
    folder.chmod(0o755)
    (folder / "data").mkdir()
    run(mkimages, "--out", folder / "data", "--count", "64", "--classes", "2")
    for path in (folder / "data").rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    (folder / "pfeed.yaml").write_text(CONFIG.format(folder=folder, shm=shm))
    (folder / "pfeed.yaml").chmod(0o644)


def use(path):
    said = run(train, "--feed", "pictures", "--epochs", "2", "--socket", path)
    assert " rows=128 " in said, said
    return said.splitlines()[-1][:60]


def booted():
    """Whether a systemd is PID 1 here, and has come up."""
    if not Path("/run/systemd/system").is_dir() or not shutil.which("systemd-run"):
        return False
    said = subprocess.run(["systemctl", "is-system-running"], stdout=subprocess.PIPE, text=True, check=False).stdout.strip()
    return said in ("running", "degraded")


def properties(option, values, **own):
    """Options of systemd-run. own: instead of the unit's, which must have it; None: without it."""
    assert set(own) <= set(values), set(own) - set(values)
    return [f"--{option}={name}={value}" for name in values for value in ([own[name]] if name in own else values[name])
            if value is not None]


def by_systemd(folder, shm):
    """One life of the daemon with a trainer, in a unit of systemd's that differs from ours in names and folders only. It has no
    default dependencies: they would start whatever of sysinit.target the machine has left out, such as emptying /tmp."""
    furnish(folder, shm)
    name, path, unit = folder.name, Path("/run") / folder.name / "pfeedd.sock", directives(service, "Service")
    shutil.copy(pfeedd, folder / "pfeedd")  # PrivateTmp may hide where it is
    words = unit["ExecStart"][0].split()
    assert words[1] == "--config" and len(words) == 3, f"ExecStart is {words}"
    try:
        run("systemd-run", "--quiet", f"--unit={name}", "--property=DefaultDependencies=no",
            "--socket-property=DefaultDependencies=no", f"--property=StandardError=append:{folder}/output",
            *properties("socket-property", directives(socket_unit, "Socket"), ListenSequentialPacket=path),
            *properties("property", unit, ExecStart=None, User=sandbox.UID, Group=sandbox.UID, RuntimeDirectory=name,
                        StateDirectory=f"{name}/state"), folder / "pfeedd", words[1], folder / "pfeed.yaml")
        run("systemctl", "start", f"{name}.service")  # until READY=1
        looks_right(int(run("systemctl", "show", "--property=MainPID", "--value", f"{name}.service")))
        said = use(path)
        run("systemctl", "stop", f"{name}.service")
        result = run("systemctl", "show", "--property=Result", "--value", f"{name}.service").strip()
        assert result == "success", f"pfeedd's end: {result}"  # what has failed stays known
    except AssertionError:
        print((folder / "output").read_text() if (folder / "output").exists() else "pfeedd said nothing")
        raise
    finally:
        for verb in ("stop", "reset-failed"):
            subprocess.run(["systemctl", verb, f"{name}.socket", f"{name}.service"], stderr=subprocess.DEVNULL, check=False)
        shutil.rmtree(path.parent, ignore_errors=True)  # RuntimeDirectoryPreserve
    print(shm, "in systemd's sandbox:", said)


def serve(folder, shm):
    """The same in the test's own sandbox."""
    furnish(folder, shm)
    box = sandbox.Sandbox(directives(service, "Service"), folder)
    notify = notices(folder / "notify")
    (folder / "notify").chmod(0o777)
    listener = listen(box.runtime / "pfeedd.sock")
    report, to = os.pipe()
    pid = start(box, folder, listener, to)
    os.close(to)
    try:
        with os.fdopen(report) as stream:
            said = stream.read()
        output = folder / "output"
        assert said, f"the sandbox could not be made: {output.read_text()}"
        assert json.loads(said) == [], f"not in force: {said}"
        notify.settimeout(0)
        until(lambda: is_ready(notify, pid, output), "pfeedd is ready")
        looks_right(pid)
        listener.close()
        said = use(box.runtime / "pfeedd.sock")
        os.kill(pid, signal.SIGTERM)
        status = wait(pid, box.stop_s)
        pid = pid if status is None else 0
        assert status == 0, f"pfeedd ended with {status}: {output.read_text()}"
        print(shm, "in the test's own sandbox:", said)
    finally:
        if pid:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
        notify.close()


@suite.test
def sandboxed():
    possible()
    ours = not booted()
    if ours:
        print("no systemd is PID 1 here: the test makes the unit's sandbox itself")
        namespaces()
    for shm in ("memfd", "posix"):
        with temporary("/run" if ours else "/var/lib") as folder:  # /run may be noexec
            (serve if ours else by_systemd)(folder, shm)


suite.run()
