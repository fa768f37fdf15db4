# SPDX-License-Identifier: Apache-2.0
"""A running NBD server: started, awaited, frozen while others are measured, billed, stopped."""
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time

EXPORT = "bench"
START_SECONDS = 20
REAP_SECONDS = 2
SETTLE_SECONDS = 0.1
TICKS = os.sysconf("SC_CLK_TCK")


class Unavailable(Exception):
    """A program that is not installed or not built, or lacks what is asked of it."""


def program(name):
    """The full path of a program, or Unavailable."""
    found = name if os.path.isabs(name) and os.access(name, os.X_OK) else shutil.which(name)
    if not found:
        raise Unavailable(f"{name} is not there")
    return found


def processes(pid):
    """A process and all its living descendants."""
    out, frontier = [], [pid]
    while frontier:
        pid = frontier.pop()
        out.append(pid)
        with contextlib.suppress(OSError):
            for task in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as f:
                    frontier += [int(x) for x in f.read().split()]
    return out


def state(pid):
    """One letter as in /proc/PID/stat: Z is a zombie; X if there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as f:
            return f.read().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def living(pid):
    return [p for p in processes(pid) if state(p) not in "ZX"]


def cpu_seconds(pid):
    """User and system time of a process and its descendants, the ended ones included: a zombie still has
    its own, one that was reaped has left it to its parent."""
    total = 0
    for p in processes(pid):
        with contextlib.suppress(OSError), open(f"/proc/{p}/stat", encoding="ascii") as f:
            fields = f.read().rpartition(")")[2].split()
            total += sum(int(x) for x in fields[11:15])  # utime, stime, and of reaped children
    return total / TICKS


def go_first(pid):
    """The session of that process before those of others, which the kernel schedules as groups (autogroup):
    nice counts within a session only. Needs leave; without it nothing changes."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/autogroup", "w", encoding="ascii") as f:
        f.write("-19")


def free_port():
    """A TCP port of the loopback that nobody uses now."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def pinned(cpus, command):
    """The command on those processors only; cpus as taskset takes them, None: anywhere."""
    return list(command) if cpus is None else ["taskset", "-c", cpus, *command]


class Server:
    """One NBD server. `address` is unix:PATH or tcp:HOST:PORT, as nbdload takes it. A server that
    insists on going to the background writes its number into `pid_file`."""
    first = False  # before other sessions on a busy machine: set it for all

    def __init__(self, name, command, address, log_path, pid_file=None):
        self.name = name
        self.command = list(command)
        self.address = address
        self._log_path = log_path
        self._log = open(log_path, "wb")  # pylint: disable=consider-using-with
        self._pid_file = pid_file
        self._process = subprocess.Popen(  # pylint: disable=consider-using-with
            self.command, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log,
            start_new_session=True)
        self.pid = self._process.pid
        if Server.first:
            go_first(self.pid)
        try:
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise
        time.sleep(SETTLE_SECONDS)  # the process of the connection that was tried above ends meanwhile
        self._resting = len(living(self.pid))

    def _connect(self):
        if self.address.startswith("unix:"):
            s = socket.socket(socket.AF_UNIX)
            where = self.address[5:]
        else:
            s = socket.socket()
            host, _, port = self.address[4:].rpartition(":")
            where = (host, int(port))
        s.settimeout(1)
        return s, where

    def _alive(self):
        if self._process.poll() is None:
            return True
        return bool(self._pid_file) and self._process.returncode == 0

    def _read_pid(self):
        if self._pid_file:
            with open(self._pid_file, encoding="ascii") as f:
                self.pid = int(f.read())

    def _wait_until_ready(self):
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._alive():
            s, where = self._connect()
            with s, contextlib.suppress(OSError, ValueError):
                s.connect(where)
                if s.recv(8) == b"NBDMAGIC":
                    self._read_pid()
                    return
            time.sleep(0.02)
        with open(self._log_path, encoding="utf-8", errors="replace") as f:
            raise RuntimeError(f"{self.name} did not start: {' '.join(self.command)}\n{f.read()}")

    def _signal(self, number):
        for p in processes(self.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(p, number)

    def freeze(self):
        self._signal(signal.SIGSTOP)

    def thaw(self):
        self._signal(signal.SIGCONT)

    def pin(self, cpus):
        """From here on, on these processors only; as pinned() takes them."""
        wanted = {int(cpu) for cpu in cpus.split(",")}
        for p in processes(self.pid):
            for thread in os.listdir(f"/proc/{p}/task"):
                with contextlib.suppress(ProcessLookupError):
                    os.sched_setaffinity(int(thread), wanted)

    def cpu_seconds(self):
        return cpu_seconds(self.pid)

    def rest(self):
        """Waits until a server with a process per client has ended them: all their time counts."""
        deadline = time.monotonic() + REAP_SECONDS
        while len(living(self.pid)) > self._resting and time.monotonic() < deadline:
            time.sleep(0.005)

    def running(self):
        """False once it has died."""
        return state(self.pid) not in "ZX"

    def stop(self):
        family = living(self.pid) if self.running() else []
        self._signal(signal.SIGCONT)
        if self.running():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)
        deadline = time.monotonic() + 10
        while self.running() and time.monotonic() < deadline:
            self._process.poll()
            time.sleep(0.01)
        for p in family if self.running() else []:
            with contextlib.suppress(ProcessLookupError):
                os.kill(p, signal.SIGKILL)
        self._process.wait()
        self._log.close()
