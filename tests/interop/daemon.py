# SPDX-License-Identifier: Apache-2.0
"""A blockmig daemon, and peers, for tests: each starts in a folder of its own and is ended by its pid.

    with scratch() as folder, Daemon(folder, image) as disk:
        disk.migrate(target, "dbt")

Every class is a context manager; leaving it ends the process also when it hangs. Times are seconds.
"""
import contextlib
import glob
import http.client
import importlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BIN = os.environ.get("BLOCKMIG_BIN", os.path.join(TOP, "build/release/bin"))
SKIPPED = 77  # ctest's SKIP_RETURN_CODE
START_SECONDS = 30
COMMAND_SECONDS = 120
EXPORT = "disk0"
# For programs that run as somebody else: a Python in root's home is closed to them.
SYSTEM_PYTHON = "/usr/bin/python3"


def skip(reason):
    """Ends the test as skipped, visibly."""
    print("SKIPPED: " + reason)
    sys.exit(SKIPPED)


def import_nbd(script):
    """libnbd's Python bindings. Debian's are for Debian's Python: the script begins anew with that if need be."""
    try:
        return importlib.import_module("nbd")
    except ImportError:
        if sys.executable == SYSTEM_PYTHON or not os.access(SYSTEM_PYTHON, os.X_OK):
            skip("no Python bindings of libnbd")
        os.execv(SYSTEM_PYTHON, [SYSTEM_PYTHON, "-B", script])


def need(*programs):
    """Skips the test where a peer is missing."""
    for p in programs:
        if not shutil.which(p):
            skip(p + " is not installed")


def built(name):
    """A program of ours; a test without it has failed."""
    path = os.path.join(BIN, name)
    if not os.access(path, os.X_OK):
        raise AssertionError(f"{path} is not built")
    return path


@contextlib.contextmanager
def scratch(parent=None):
    """A temporary folder, short enough for socket paths."""
    folder = tempfile.mkdtemp(prefix="bm-", dir=parent)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run(*command, timeout=COMMAND_SECONDS, stdin=None, env=None):
    """Runs a command to its end; the result has returncode, stdout and stderr as text."""
    return subprocess.run([str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, timeout=timeout, input=stdin, check=False,
                          env={**os.environ, **env} if env else None)


def ok(*command, **keywords):
    """run(), and the command must succeed; returns its standard output."""
    result = run(*command, **keywords)
    assert result.returncode == 0, (f"{' '.join(map(str, command))}: exit {result.returncode}\n"
                                    f"{result.stdout}{result.stderr}")
    return result.stdout


def nbdsh(*arguments):
    """Runs nbdsh with the system's Python first: that is the one that libnbd's module belongs to."""
    need("nbdsh")
    env = {"PATH": "/usr/bin:" + os.environ.get("PATH", "")}
    if run("nbdsh", "-c", "pass", env=env).returncode != 0:
        skip("nbdsh does not find its Python module")
    return ok("nbdsh", *arguments, env=env)


def until(condition, what, seconds=START_SECONDS, pause=0.01):
    """Waits for a condition and returns what it gave; a test that waits in vain has failed."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds} s in vain for: {what}")
        time.sleep(pause)


def greets(path, greeting=b"NBDMAGIC"):
    """True if an NBD server answers on a unix socket; for b"", if anybody listens there."""
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(2)
        try:
            s.connect(path)
            return s.recv(len(greeting)) == greeting
        except OSError:
            return False


def control(state_dir, method, path, body=None, timeout=30):
    """(status, JSON) of a request to the control socket of the daemon on a state folder."""
    connection = http.client.HTTPConnection("localhost", timeout=timeout)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(timeout)
    try:
        connection.sock.connect(os.path.join(state_dir, "control.sock"))
        connection.request(method, path, json.dumps(body) if body is not None else None)
        response = connection.getresponse()
        text = response.read().decode()
        return response.status, json.loads(text) if text else None
    finally:
        connection.close()


class Process:
    """A child process with its output in a file."""

    def __init__(self, command, log_path, stdin=subprocess.DEVNULL, pass_fds=()):
        self.log_path = log_path
        self.command = [str(c) for c in command]
        with open(log_path, "ab") as log:
            self.process = subprocess.Popen(  # pylint: disable=consider-using-with
                self.command, stdin=stdin, stdout=log, stderr=log, pass_fds=pass_fds)

    @property
    def pid(self):
        return self.process.pid

    def alive(self):
        return self.process.poll() is None

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as f:
            return f.read()

    def signal(self, number):
        if self.alive():
            os.kill(self.pid, number)

    def freeze(self):
        """Returns when none of its threads runs any more."""
        self.signal(signal.SIGSTOP)
        until(lambda: not self.alive() or set(self._thread_states()) <= {"T"}, "the process to stop", pause=0.001)

    def _thread_states(self):
        for thread in glob.glob(f"/proc/{self.pid}/task/*/stat"):
            with contextlib.suppress(OSError), open(thread, encoding="ascii", errors="replace") as f:
                yield f.read().rpartition(") ")[2][0]

    def thaw(self):
        self.signal(signal.SIGCONT)

    def kill(self):
        self.signal(signal.SIGKILL)
        self.process.wait()

    def stop(self, seconds=20):
        """SIGTERM, then SIGKILL; the exit code."""
        self.thaw()
        self.signal(signal.SIGTERM)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            return -signal.SIGKILL

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.stop()
        if kind is not None:
            print(f"--- output of {self.command[0]}:\n{self.log()[-4000:]}")


class NbdServer(Process):
    """Any NBD server on a unix socket, ready when it greets."""

    def __init__(self, command, socket_path, log_path, export=EXPORT):
        super().__init__(command, log_path)
        self.socket_path = socket_path
        self.export = export
        try:
            until(lambda: greets(socket_path) or not self.alive(), "the server's greeting")
            assert self.alive(), f"{' '.join(self.command)} ended at once:\n{self.log()}"
        except BaseException:
            self.stop()
            raise

    @property
    def uri(self):
        return f"nbd+unix:///{self.export}?socket={self.socket_path}"


def qemu_nbd(folder, image, name="peer", fmt="raw"):
    """A qemu-nbd that serves an image."""
    path = os.path.join(folder, name + ".sock")
    return NbdServer(["qemu-nbd", "-t", "-e", "16", "-f", fmt, "-x", EXPORT, "-k", path, image], path,
                     os.path.join(folder, name + ".log"))


def nbdkit(folder, *arguments, name="peer"):
    """An nbdkit with the given filters and plugin; it offers every export name."""
    path = os.path.join(folder, name + ".sock")
    return NbdServer(["nbdkit", "-f", "-U", path, *arguments], path, os.path.join(folder, name + ".log"))


class Daemon(NbdServer):
    """`blockmig serve` of one disk, and the command line against it."""

    def __init__(self, folder, source, name="d", extra=(), listen=None):
        self.folder = folder
        self.source = source
        self.state_dir = os.path.join(folder, name + ".state")
        path = os.path.join(folder, name + ".sock")
        command = [built("blockmig"), "serve", EXPORT, "--source", source, "--listen", f"unix:{path}",
                   "--state-dir", self.state_dir, *extra]
        if listen:
            command += ["--listen", listen]
        super().__init__(command, path, os.path.join(folder, name + ".log"))
        try:
            until(lambda: f"serving {EXPORT} at" in self.log() or not self.alive(), "the disk")
        except BaseException:
            self.stop()
            raise

    def cli(self, *arguments, timeout=COMMAND_SECONDS):
        """`blockmig ARGUMENTS` against this daemon."""
        return run(built("blockmig"), *arguments, "--state-dir", self.state_dir, timeout=timeout)

    def migrate(self, target, mode, *extra, timeout=COMMAND_SECONDS):
        """Moves the disk and waits; the job's JSON. It must succeed."""
        result = self.cli("migrate", EXPORT, "--to", target, "--mode", mode, "-o", "json", *extra,
                          timeout=timeout)
        assert result.returncode == 0, (f"migrate --mode {mode}: exit {result.returncode}\n"
                                        f"{result.stdout}{result.stderr}")
        return last_json(result.stdout)

    def start_migration(self, target, mode, *extra):
        """Starts a move without waiting; the job's id."""
        result = self.cli("migrate", EXPORT, "--to", target, "--mode", mode, "--detach", "-o", "json",
                          *extra)
        assert result.returncode == 0, result.stdout + result.stderr
        return last_json(result.stdout)["id"]

    def job(self, job_id):
        return self.get(f"/v1/jobs/{job_id}")

    def wait_job(self, job_id, *states, seconds=COMMAND_SECONDS):
        """The job once it is in one of the states (default: any final one)."""
        states = states or ("done", "failed", "aborted")

        def reached():
            job = self.job(job_id)
            return job if job["state"] in states else None
        return until(reached, f"job {job_id} to be {' or '.join(states)}", seconds, 0.02)

    def request(self, method, path, body=None, timeout=10):
        """(status, JSON) of a request to the control socket."""
        return control(self.state_dir, method, path, body, timeout)

    def get(self, path):
        status, body = self.request("GET", path)
        assert status == 200, f"GET {path}: {status} {body}"
        return body

    def served_store(self):
        """The store that the disk is on now, as `ls disks` says."""
        disks = self.get("/v1/disks")["disks"]
        return [d["store"] for d in disks if d["name"] == EXPORT][0]


class Client(Process):
    """history_client against a server, driven by its commands. No read may show half of a sector (I2)."""

    def __init__(self, folder, server, *arguments, name="client"):
        self._out_path = os.path.join(folder, name + ".out")
        self._read_at = 0
        self._begun = False
        command = [built("history_client"), "--connect", f"unix:{server.socket_path}",
                   "--export", server.export, *arguments]
        self.log_path = os.path.join(folder, name + ".log")
        self.command = [str(c) for c in command]
        with open(self.log_path, "ab") as log, open(self._out_path, "wb") as out:
            self.process = subprocess.Popen(  # pylint: disable=consider-using-with
                self.command, stdin=subprocess.PIPE, stdout=out, stderr=log, text=True)
        self.event("started")

    def event(self, name, seconds=60):
        """The next event of that name that the client prints."""
        def next_line():
            with open(self._out_path, encoding="utf-8") as f:
                f.seek(self._read_at)
                line = f.readline()
                if line.endswith("\n"):
                    self._read_at += len(line.encode())
                    return line
            return "{}" if not self.alive() else None
        while True:
            event = json.loads(until(next_line, f"'{name}' from the client", seconds))
            assert event, f"the client ended without '{name}':\n{self.log()[-2000:]}"
            if event["event"] == name:
                return event

    def say(self, command, answer):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return self.event(answer)

    def report(self):
        """Figures since the last report; errors and violations since the beginning."""
        return self.say("report", "report")

    def clean_report(self):
        figures = self.report()
        assert figures["errors"] == 0 and figures["violations"] == 0, (figures, self.log()[-3000:])
        return figures

    def hold(self):
        return self.say("hold", "held")

    def resume(self):
        return self.say("resume", "resumed")

    def check_file(self, path):
        """While held: sectors of a file that are not what was written last."""
        return self.say(f"check {path}", "checked")["wrong_sectors"]

    def finish(self):
        """Stops it; it must have seen no error and no wrong data, also in its last full read."""
        self.signal(signal.SIGTERM)
        code = self.process.wait(120)
        final = self.event("final")
        assert code == 0, (f"the client ended with {code}: {final}\n{self.log()[-3000:]}")
        return final

    def stop(self, seconds=5):
        self.thaw()
        self.kill()
        self.process.stdin.close()


def last_json(text):
    """The last JSON value of an output: one whole text, or the last of JSON lines."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return json.loads(text.strip().splitlines()[-1])


def make_image(path, size_bytes, seed=1, holes=True):
    """A file of pseudo-random data with holes, of any size, odd ones included."""
    import random  # pylint: disable=import-outside-toplevel
    rng = random.Random(seed)
    with open(path, "wb") as f:
        f.truncate(size_bytes)
        at = 0
        while at < size_bytes:
            length = min(rng.choice((4096, 65536, 1 << 20)), size_bytes - at)
            if not holes or rng.random() < 0.6:
                f.seek(at)
                f.write(rng.randbytes(length))
            at += length
        if size_bytes:  # the tail is always there, so that losing it shows (I4)
            tail = min(700, size_bytes)
            f.seek(size_bytes - tail)
            f.write(rng.randbytes(tail))
    return path


def resident_bytes(pid):
    """What a process has in memory."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as f:
        return next(int(line.split()[1]) * 1024 for line in f if line.startswith("Rss:"))


def same(a, b):
    """True if cmp finds two files equal, sizes included."""
    return run("cmp", "-s", a, b).returncode == 0
