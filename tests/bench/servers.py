# SPDX-License-Identifier: Apache-2.0
"""The servers that the benchmark compares: how each is started, stopped and billed for its CPU."""
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time

EXPORT = "bench"
START_SECONDS = 20
TICKS = os.sysconf("SC_CLK_TCK")


class Unavailable(Exception):
    """A program that is not installed or not built."""


def program(name):
    """The full path of a program, or Unavailable."""
    found = name if os.path.isabs(name) and os.access(name, os.X_OK) else shutil.which(name)
    if not found:
        raise Unavailable(f"{name} is not there")
    return found


def processes(pid):
    """A process and all its descendants."""
    out, frontier = [], [pid]
    while frontier:
        pid = frontier.pop()
        out.append(pid)
        with contextlib.suppress(OSError):
            for task in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as f:
                    frontier += [int(x) for x in f.read().split()]
    return out


def cpu_seconds(pid):
    """User and system time of a process and its descendants, from /proc/PID/stat."""
    total = 0
    for p in processes(pid):
        with contextlib.suppress(OSError), open(f"/proc/{p}/stat", encoding="ascii") as f:
            fields = f.read().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
    return total / TICKS


class Server:
    """A running NBD server on a unix socket. Frozen (SIGSTOP) while others are measured."""

    def __init__(self, name, command, socket_path, log_path):
        self.name = name
        self.command = command
        self.socket_path = socket_path
        self._log = open(log_path, "wb")  # pylint: disable=consider-using-with
        self._process = subprocess.Popen(  # pylint: disable=consider-using-with
            command, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log,
            start_new_session=True)
        self._log_path = log_path
        try:
            self._wait_until_ready()
        except Exception:
            self.stop()
            raise

    @property
    def pid(self):
        return self._process.pid

    def _wait_until_ready(self):
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            with socket.socket(socket.AF_UNIX) as s, contextlib.suppress(OSError):
                s.settimeout(1)
                s.connect(self.socket_path)
                if s.recv(8) == b"NBDMAGIC":
                    return
            time.sleep(0.02)
        with open(self._log_path, encoding="utf-8", errors="replace") as f:
            raise RuntimeError(f"{self.name} did not start: {' '.join(self.command)}\n{f.read()}")

    def freeze(self):
        for p in processes(self.pid):
            os.kill(p, signal.SIGSTOP)

    def thaw(self):
        for p in processes(self.pid):
            os.kill(p, signal.SIGCONT)

    def cpu_seconds(self):
        return cpu_seconds(self.pid)

    def stop(self):
        if self._process.poll() is None:
            self.thaw()
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                for p in processes(self.pid):
                    os.kill(p, signal.SIGKILL)
                self._process.wait()
        self._log.close()


def pinned(cpu, command):
    return command if cpu is None else ["taskset", "-c", str(cpu), *command]


def blockmig_command(blockmig, image, socket_path, state_dir, extra=()):
    return [blockmig, "serve", EXPORT, "--source", image, "--listen", f"unix:{socket_path}",
            "--state-dir", state_dir, *extra]


def serve_command(kind, blockmig, image, socket_path, state_dir):
    """The command of one kind of server: 'blockmig', 'qemu-nbd' or 'nbdkit'."""
    if kind == "blockmig":
        return blockmig_command(program(blockmig), image, socket_path, state_dir)
    if kind == "qemu-nbd":
        return [program("qemu-nbd"), "-t", "-e", "8", "-f", "raw", "--cache=writeback",
                "-x", EXPORT, "-k", socket_path, image]
    if kind == "nbdkit":
        return [program("nbdkit"), "-f", "-U", socket_path, "file", image]
    raise ValueError(kind)
