# SPDX-License-Identifier: MIT
"""What the [Service] part of a unit says, done to the calling process without a systemd: one method a directive, named as it is.
Each puts its work into the phase that it belongs to; enter() goes through the phases. Only service.py uses it, as root and in a
process of its own. A directive without a method must stand in NOT_APPLIED with the reason."""
import ctypes
import errno
import mmap
import os
import resource
import subprocess
import types
from pathlib import Path

libc = ctypes.CDLL(None, use_errno=True)
MS = types.SimpleNamespace(NOSUID=2, NODEV=4, NOEXEC=8, BIND=4096, REC=16384, PRIVATE=1 << 18)
NEW = types.SimpleNamespace(NS=0x00020000, CGROUP=0x02000000, UTS=0x04000000, IPC=0x08000000, USER=0x10000000, PID=0x20000000,
                            NET=0x40000000)
MOUNT_SETATTR, AT_FDCWD, AT_RECURSIVE, MOUNT_ATTR_RDONLY = 442, -100, 0x8000, 1  # the call's number on every architecture
PR_CAPBSET_DROP, PR_GET_NO_NEW_PRIVS, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 24, 39, 38, 47, 4
ALLOW, ERRNO, NE, EQ, MASKED_EQ = 0x7fff0000, 0x00050000, 1, 4, 7
UID = 64731  # of nobody else on this machine; the unit's user is made when it is installed

NOT_APPLIED = {
    "Restart": "what systemd does after the end",
    "RestartSec": "what systemd does after the end",
    "RestartPreventExitStatus": "what systemd does after the end; the test `start` has the exit codes",
    "ExecReload": "tests/system/test_reload.c sends the signal",
    "RuntimeDirectoryPreserve": "what systemd does after the end",
    "RemoveIPC": "what systemd does after the end",
    "DevicePolicy": "a BPF program of a cgroup; PrivateDevices leaves no device that it would forbid",
    "IPAddressDeny": "a BPF program of a cgroup; RestrictAddressFamilies leaves no socket that it would forbid",
}


def check(result, what):
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def refused(number, function, *arguments):
    """Whether the call fails with that errno."""
    try:
        function(*arguments)
    except OSError as error:
        return error.errno == number
    return False


def call(name, *arguments):
    return check(getattr(libc, name)(*arguments), name)


def system_call(name, *arguments):
    """One that libc has no function for."""
    return check(libc.syscall(ctypes.c_long(number_of(name)), *arguments), name)


def number_of(name):
    return ctypes.CDLL("libseccomp.so.2").seccomp_syscall_resolve_name(name.encode())


def mount(source, target, kind=None, flags=0, data=None):
    def words(text):
        return None if text is None else str(text).encode()
    check(libc.mount(words(source), words(target), words(kind), ctypes.c_ulong(flags), words(data)), f"mount {target}")


def writable(path, yes, recursive=False):
    """Of a mount, with recursive of all below it too."""
    attributes = (ctypes.c_uint64 * 4)(*((0, MOUNT_ATTR_RDONLY) if yes else (MOUNT_ATTR_RDONLY, 0)), 0, 0)
    check(libc.syscall(MOUNT_SETATTR, AT_FDCWD, str(path).encode(), AT_RECURSIVE if recursive else 0, attributes,
                       ctypes.sizeof(attributes)), f"mount_setattr {path}")


def bind(path, read_only=True):
    """Makes a folder or file a mount of its own."""
    if Path(path).exists():
        mount(path, path, flags=MS.BIND | MS.REC)
        if read_only:
            writable(path, False, recursive=True)


def conceal(path):
    """systemd's InaccessiblePaths."""
    if Path(path).is_dir():
        mount("tmpfs", path, "tmpfs", MS.NOSUID | MS.NODEV | MS.NOEXEC, "mode=000,size=4k")
        writable(path, False)
    elif Path(path).exists():
        mount("/dev/null", path, flags=MS.BIND)


def read_only(path):
    return bool(os.statvfs(path).f_flag & os.ST_RDONLY)


class Compare(ctypes.Structure):
    _fields_ = [("argument", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64)]


class Filter:
    """A seccomp filter of its own, as systemd makes one for each directive. Rules: name of a call, errno, comparisons."""

    def __init__(self, default=ALLOW):
        self.lib = ctypes.CDLL("libseccomp.so.2")
        self.lib.seccomp_init.restype = ctypes.c_void_p
        self.context = ctypes.c_void_p(self.lib.seccomp_init(ctypes.c_uint32(default)))

    def add(self, name, action, *comparisons):
        number = number_of(name)
        if number < 0:
            return self  # not a call of this architecture
        array = (Compare * max(1, len(comparisons)))(*[Compare(*(list(one) + [0])[:4]) for one in comparisons])
        result = self.lib.seccomp_rule_add_array(self.context, ctypes.c_uint32(action), number, len(comparisons), array)
        if result not in (0, -errno.EACCES):  # the rule is what happens by default
            raise OSError(-result, f"seccomp rule for {name}")
        return self

    def deny(self, names, number=errno.EPERM):
        for name in names:
            self.add(name, ERRNO | number)
        return self

    def load(self):
        result = self.lib.seccomp_load(self.context)
        if result < 0:
            raise OSError(-result, "seccomp_load")


def calls_of(word):
    """Those of a group such as @clock, or the word itself."""
    if not word.startswith("@"):
        return {word}
    listed = subprocess.run(["systemd-analyze", "syscall-filter", word], check=True, stdout=subprocess.PIPE, text=True).stdout
    names = [line.strip() for line in listed.splitlines()[1:]]
    return set().union(*(calls_of(name) for name in names if name and not name.startswith("#")))


class Sandbox:
    """folder: where the unit's runtime and state folders are made, on the machine's own file system."""

    def __init__(self, service, folder):
        self.service, self.folder = service, Path(folder)
        self.namespaces = NEW.NS
        self.early, self.mounts, self.late, self.identity, self.filters, self.last = [], [], [], [], [], []
        self.probes, self.writable, self.environment = {}, [], {}
        self.user, self.command, self.stop_s, self.allowed = None, None, 90, None
        for name, values in service.items():
            if name not in NOT_APPLIED:
                getattr(self, name)(*values)

    # ---- the process ----------------------------------------------------------------------------------------------------

    def Type(self, value):
        assert value == "notify", "the test waits for READY=1"

    def NotifyAccess(self, value):
        assert value == "main"

    def ExecStart(self, value):
        self.command = value.split()

    def User(self, value):
        self.user = value
        self.identity.append(lambda: (os.setgroups([]), os.setresgid(UID, UID, UID), os.setresuid(UID, UID, UID)))

    def Group(self, value):
        assert value == self.user

    def TimeoutStartSec(self, value):
        assert value == "5min"  # more than the test waits

    def TimeoutStopSec(self, value):
        self.stop_s = int(value.rstrip("s"))

    def LimitNOFILE(self, value):
        self.limit(resource.RLIMIT_NOFILE, int(value))

    def LimitMEMLOCK(self, value):
        self.limit(resource.RLIMIT_MEMLOCK, int(value.removesuffix("M")) << 20)

    def limit(self, which, value):
        def work():
            try:
                resource.setrlimit(which, (value, value))
            except ValueError:  # a container's root may not raise its own; then what there is must do
                pass
        self.early.append(work)

    def UMask(self, value):
        self.late.append(lambda: os.umask(int(value, 8)))

    def own_folder(self, kind, value):
        path = self.folder / kind / value
        path.mkdir(parents=True)
        path.parent.chmod(0o755)
        os.chown(path, UID, UID)
        self.writable.append(path)
        self.environment[f"{kind.upper()}_DIRECTORY"] = str(path)
        self.probes[f"{kind} folder"] = lambda: (path / "probe").touch() or (path / "probe").unlink() or True
        return path

    def RuntimeDirectory(self, value):
        self.runtime = self.own_folder("runtime", value)

    def RuntimeDirectoryMode(self, value):
        self.runtime.chmod(int(value, 8))

    def StateDirectory(self, value):
        self.state = self.own_folder("state", value)

    def StateDirectoryMode(self, value):
        self.state.chmod(int(value, 8))

    # ---- what it may see ------------------------------------------------------------------------------------------------

    def ProtectSystem(self, value):
        assert value == "strict"

        def work():
            writable("/", False, recursive=True)
            for path in ["/dev", "/proc", "/sys"]:
                writable(path, True, recursive=True)
            for path in self.writable:
                bind(path, read_only=False)
                writable(path, True)
        self.mounts.append(work)
        self.probes["ProtectSystem"] = lambda: all(read_only(path) for path in ("/", "/usr", "/etc", "/var", self.folder))

    def ProtectHome(self, value):
        assert value == "read-only"
        self.late.append(lambda: [bind(path) for path in ("/home", "/root", "/run/user")])
        self.probes["ProtectHome"] = lambda: read_only("/home")

    def PrivateTmp(self, value):
        self.early += [lambda path=path: mount("tmpfs", path, "tmpfs", MS.NOSUID | MS.NODEV, "mode=1777") for path in
                       ("/tmp", "/var/tmp")]
        self.writable += ["/tmp", "/var/tmp"]
        self.probes["PrivateTmp"] = lambda: os.listdir("/tmp") == os.listdir("/var/tmp") == []

    def PrivateDevices(self, value):
        nodes = ("null", "zero", "full", "random", "urandom", "tty")
        stage = self.folder / "dev"

        def work():
            stage.mkdir()
            mount("tmpfs", stage, "tmpfs", MS.NOSUID | MS.NOEXEC, "mode=755")
            for name in nodes:
                (stage / name).touch()
                mount(f"/dev/{name}", stage / name, flags=MS.BIND)
            for name in ("shm", "pts"):
                (stage / name).mkdir()
                mount(f"/dev/{name}", stage / name, flags=MS.BIND)
            mount(stage, "/dev", flags=MS.BIND | MS.REC)
        self.early.append(work)
        self.probes["PrivateDevices"] = lambda: sorted(os.listdir("/dev")) == sorted([*nodes, "shm", "pts"])
        self.filters.append(lambda: Filter().deny(calls_of("@raw-io")).load())

    def ProtectProc(self, value):
        assert value == "invisible"
        self.early.append(lambda: mount("proc", "/proc", "proc", MS.NOSUID | MS.NODEV | MS.NOEXEC, "hidepid=invisible"))
        self.probes["ProtectProc"] = lambda: [name for name in os.listdir("/proc") if name.isdigit()] == [str(os.getpid())]

    def ProtectClock(self, value):
        self.filters.append(lambda: Filter().deny(calls_of("@clock")).load())
        self.probes["ProtectClock"] = lambda: refused(errno.EPERM, call, "adjtimex", bytes(512))

    def ProtectControlGroups(self, value):
        self.late.append(lambda: bind("/sys/fs/cgroup"))
        self.probes["ProtectControlGroups"] = lambda: read_only("/sys/fs/cgroup")

    def ProtectHostname(self, value):
        self.namespaces |= NEW.UTS
        self.filters.append(lambda: Filter().deny(("sethostname", "setdomainname")).load())
        self.probes["ProtectHostname"] = lambda: refused(errno.EPERM, call, "sethostname", b"x", 1)

    def ProtectKernelLogs(self, value):
        self.late.append(lambda: [conceal(path) for path in ("/proc/kmsg", "/dev/kmsg")])
        self.filters.append(lambda: Filter().deny(("syslog",)).load())
        self.probes["ProtectKernelLogs"] = lambda: refused(errno.EPERM, call, "klogctl", 3, bytes(16), 16)

    def ProtectKernelModules(self, value):
        self.late.append(lambda: conceal("/usr/lib/modules"))
        self.filters.append(lambda: Filter().deny(calls_of("@module")).load())
        self.probes["ProtectKernelModules"] = lambda: refused(errno.EPERM, system_call, "delete_module", b"none", 0)

    def ProtectKernelTunables(self, value):
        self.late.append(lambda: [bind(path) for path in ("/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus", "/sys")])
        self.probes["ProtectKernelTunables"] = lambda: read_only("/proc/sys") and read_only("/sys")

    def PrivateIPC(self, value):
        self.namespaces |= NEW.IPC

    def KeyringMode(self, value):
        assert value == "private"
        self.late.append(lambda: system_call("keyctl", 1, None))  # KEYCTL_JOIN_SESSION_KEYRING

    # ---- whom it may talk to --------------------------------------------------------------------------------------------

    def PrivateNetwork(self, value):
        self.namespaces |= NEW.NET
        self.probes["PrivateNetwork"] = lambda: [line.split(":")[0].strip() for line in
                                                 Path("/proc/self/net/dev").read_text().splitlines()[2:]] in (["lo"], [])

    def RestrictAddressFamilies(self, value):
        import socket  # pylint: disable=import-outside-toplevel
        assert value == "AF_UNIX"
        self.filters.append(lambda: Filter().add("socket", ERRNO | errno.EAFNOSUPPORT, (0, NE, socket.AF_UNIX)).load())
        self.probes["RestrictAddressFamilies"] = lambda: refused(errno.EAFNOSUPPORT, socket.socket, socket.AF_INET)

    # ---- what it may become ---------------------------------------------------------------------------------------------

    def NoNewPrivileges(self, value):
        self.last.append(lambda: call("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        self.probes["NoNewPrivileges"] = lambda: libc.prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1

    def CapabilityBoundingSet(self, value):
        assert value == ""
        last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
        self.late.append(lambda: [call("prctl", PR_CAPBSET_DROP, capability, 0, 0, 0) for capability in range(last + 1)])

    def AmbientCapabilities(self, value):
        assert value == ""
        self.late.append(lambda: call("prctl", PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0))

    def LockPersonality(self, value):
        same = libc.personality(ctypes.c_ulong(0xffffffff))
        self.filters.append(lambda: Filter().add("personality", ERRNO | errno.EPERM, (0, NE, same)).load())
        self.probes["LockPersonality"] = lambda: refused(errno.EPERM, call, "personality", ctypes.c_ulong(same ^ 0x0040000))

    def MemoryDenyWriteExecute(self, value):
        both = mmap.PROT_WRITE | mmap.PROT_EXEC

        def work():
            rules = Filter()
            rules.add("mmap", ERRNO | errno.EPERM, (2, MASKED_EQ, both, both))
            for name in ("mprotect", "pkey_mprotect"):
                rules.add(name, ERRNO | errno.EPERM, (2, MASKED_EQ, mmap.PROT_EXEC, mmap.PROT_EXEC))
            rules.add("shmat", ERRNO | errno.EPERM, (2, MASKED_EQ, 0o100000, 0o100000))
            rules.load()
        self.last.append(work)
        self.probes["MemoryDenyWriteExecute"] = lambda: refused(errno.EPERM, lambda: mmap.mmap(-1, 4096, prot=both))

    def RestrictNamespaces(self, value):
        flags = [NEW.NS, NEW.CGROUP, NEW.UTS, NEW.IPC, NEW.USER, NEW.PID, NEW.NET]

        def work():
            rules = Filter().deny(("clone3",), errno.ENOSYS).add("setns", ERRNO | errno.EPERM, (1, EQ, 0))
            for name, argument in (("unshare", 0), ("clone", 0), ("setns", 1)):
                for flag in flags:
                    rules.add(name, ERRNO | errno.EPERM, (argument, MASKED_EQ, flag, flag))
            rules.load()
        self.filters.append(work)
        self.probes["RestrictNamespaces"] = lambda: refused(errno.EPERM, call, "unshare", NEW.USER)

    def RestrictRealtime(self, value):
        def work():
            rules = Filter()
            for policy in (os.SCHED_FIFO, os.SCHED_RR, 6):
                rules.add("sched_setscheduler", ERRNO | errno.EPERM, (1, EQ, policy))
            rules.load()
        self.filters.append(work)
        self.probes["RestrictRealtime"] = lambda: refused(errno.EPERM, os.sched_setscheduler, 0, os.SCHED_FIFO, os.sched_param(1))

    def RestrictSUIDSGID(self, value):
        def work():
            rules = Filter()
            for name, argument in (("chmod", 1), ("fchmod", 1), ("fchmodat", 2), ("mkdir", 1), ("mkdirat", 2), ("mknod", 1),
                                   ("mknodat", 2), ("creat", 1), ("open", 2), ("openat", 3)):
                for bit in (0o4000, 0o2000):
                    rules.add(name, ERRNO | errno.EPERM, (argument, MASKED_EQ, bit, bit))
            rules.deny(("openat2",), errno.ENOSYS).load()

        def probe():
            path = self.runtime / "probe"
            path.touch()
            said = refused(errno.EPERM, path.chmod, 0o4755)
            path.unlink()
            return said
        self.filters.append(work)
        self.probes["RestrictSUIDSGID"] = probe

    def SystemCallArchitectures(self, value):
        assert value == "native"  # a filter of libseccomp ends a process that makes a call of another architecture

    def SystemCallFilter(self, *values):
        allowed = set(calls_of("@default"))
        for value in values:
            names = set().union(*(calls_of(word) for word in value.lstrip("~").split()))
            allowed = allowed - names if value.startswith("~") else allowed | names
        number = getattr(errno, self.service["SystemCallErrorNumber"][0])

        def work():
            rules = Filter(ERRNO | number)
            for name in allowed:
                rules.add(name, ALLOW)
            rules.load()
        self.last.append(work)
        self.probes["SystemCallFilter"] = lambda: refused(number, os.setpriority, os.PRIO_PROCESS, 0, 5)

    def SystemCallErrorNumber(self, value):
        assert value in errno.errorcode.values()

    # ---- all of it ------------------------------------------------------------------------------------------------------

    def enter(self):
        """In the process that it is for. Returns the names of probes that did not find what they should."""
        call("unshare", self.namespaces)
        mount("none", "/", flags=MS.REC | MS.PRIVATE)
        for phase in (self.early, self.mounts, self.late, self.identity, self.filters, self.last):
            for work in phase:
                work()
        failed = []
        for name, probe in self.probes.items():
            try:
                found = probe()
            except BaseException as error:  # pylint: disable=broad-except
                found, name = False, f"{name} ({error})"
            if not found:
                failed.append(name)
        return failed
