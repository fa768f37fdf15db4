# SPDX-License-Identifier: Apache-2.0
"""Points in a move at which a daemon is killed: where it enters a certain call on a certain file, so that what came
before has happened and the call has not."""
import collections
import contextlib
import dataclasses
import glob
import subprocess
import time

from moves import daemon

FOLDER_MODES = ("shared", "settle")
HYDRATES = ("postcopy", "hybrid", "shared")
DECIDES = ("mirror", "dbt", "cold", "auto", "snapshot", "postcopy", "hybrid", "shared", "settle", "return")
LOGS = tuple("{state}/journal/%06d.log" % number for number in range(1, 60))
ENDS_WITHIN_SECONDS = 5
REACHED_WITHIN_SECONDS = 10


@dataclasses.dataclass(frozen=True)
class Point:
    """`calls` on `files`, the `times`-th of a thread at most. With `after`, only once such a call on them has begun;
    with `phase`, only once the job is in it."""
    name: str
    calls: str
    files: tuple
    times: int = 1
    modes: tuple = ()  # all
    after: str = ""
    phase: str = ""
    hurries: bool = False  # the copy is not held back, so that its end is near
    loop: str = "auto"  # flushes by the ring are no calls

    @property
    def is_late(self):
        """Not to be watched for from the start of the daemon."""
        return bool(self.after or self.phase)


WRITES = "pwrite64,pwritev,pwritev2"
SYNCS = "fsync,fdatasync"
NEW, OLD = ("{new}.blockmig-owner",), ("{old}.blockmig-owner",)
POINTS = (
    Point("new store's stamp to be written", WRITES, NEW, 2),
    Point("new store's stamp written", SYNCS, NEW, 2),
    Point("new store's stamp synced", "close", NEW, 3),
    Point("old store's stamp to be written", WRITES, OLD, 2),
    Point("old store's stamp written", SYNCS, OLD, 2),
    Point("old store's stamp synced", "close", OLD, 3),
    Point("journal's record to be written", "write", LOGS, 4),
    Point("journal's record written", SYNCS, LOGS, 4),
    Point("room for the decision to be taken", "fallocate", LOGS, 1, DECIDES, hurries=True),
    Point("decision to be written", "write", LOGS, 1, DECIDES, after="fallocate", hurries=True),
    Point("decision written", SYNCS, LOGS, 1, DECIDES, after="fallocate", hurries=True),
    Point("decision synced", "unlink,unlinkat", ("{new}.blockmig-backup",), 1, DECIDES, hurries=True),
    Point("presence to be written", "write", LOGS, 3, HYDRATES, phase="hydrating"),
    Point("presence written", SYNCS, LOGS, 3, HYDRATES, phase="hydrating"),
    Point("data to be written to the new store", WRITES, ("{new}",), 8),
    Point("new store to be flushed", SYNCS, ("{new}",), loop="portable"),
    Point("folder to be synced", SYNCS, ("{place}",)),
    Point("manifest to be written", WRITES, ("{source}.manifest.new",), 1, FOLDER_MODES, hurries=True),
    Point("manifest written", SYNCS, ("{source}.manifest.new",), 1, FOLDER_MODES, hurries=True),
    Point("manifest to be renamed", "rename,renameat,renameat2", ("{source}.manifest.new",), 1, FOLDER_MODES, hurries=True),
    Point("manifest renamed", "unlink,unlinkat", ("{source}.manifest.new",), 1, FOLDER_MODES, hurries=True),
    Point("copy's record written", SYNCS, ("{new}.blockmig-backup.new",), 1, ("point-in-time",)),
    Point("copy's record to be renamed", "rename,renameat,renameat2", ("{new}.blockmig-backup.new",), 1, ("point-in-time",)),
)


def threads_say(pid, field):
    """A field of /proc/PID/status of each thread."""
    for status in glob.glob(f"/proc/{pid}/task/*/status"):
        with contextlib.suppress(OSError), open(status, encoding="ascii", errors="replace") as lines:
            yield next(line.split()[1] for line in lines if line.startswith(field + ":"))


def is_frozen(process):
    return set(threads_say(process.pid, "State")) <= {"T", "t"}  # the small letter: by somebody who traces it


def start_held(server, *options):
    """Another life on a state folder, which waits for thaw() before it does anything."""
    command = ["sh", "-c", 'kill -STOP $$; exec "$@"', "sh", daemon.built("blockmigd"), "--state-dir", server.state]
    server.process = daemon.Process([*command, *options], server.log)
    daemon.until(lambda: is_frozen(server.process), "the process to stop", pause=0.001)


class Trap:
    """A strace that kills a daemon at a point. Leaving it lets go of the daemon, if it lives."""

    def __init__(self, point, move):
        self._point = point
        self._process = move.server.process
        self._files = [word for name in point.files for word in ("-P", name.format(**move.names()))]
        self._strace = None

    def __enter__(self):
        if self._point.after:
            self._attach(self._point.after, 1, "STOP")
        else:
            self._attach(self._point.calls, self._point.times, "KILL")
        return self

    def __exit__(self, kind, value, trace):
        self._let_go()
        self._process.thaw()

    def has_killed(self):
        """Whether the point was reached in time, and the daemon has died there."""
        deadline = time.monotonic() + REACHED_WITHIN_SECONDS
        waits_to_stop = bool(self._point.after)
        while self._process.alive() and time.monotonic() < deadline:
            if waits_to_stop and is_frozen(self._process):
                waits_to_stop = False
                self._let_go()
                self._attach(self._point.calls, 1, "KILL")
                self._process.thaw()
            time.sleep(0.005)
        return not self._process.alive()

    def _attach(self, calls, times, number):
        """Returns when it has all threads that there are now."""
        command = ["strace", "-f", "-qq", *self._files, "-e", "trace=" + calls, "-e",
                   f"inject={calls}:signal={number}:when={times}", "-o", "/dev/null", "-p", str(self._process.pid)]
        self._strace = subprocess.Popen(command, stderr=subprocess.DEVNULL)  # pylint: disable=consider-using-with
        daemon.until(lambda: self._strace.poll() is not None or "0" not in threads_say(self._process.pid, "TracerPid"),
                     "strace to begin", pause=0.002)

    def _let_go(self):
        """A strace that slept through the death of all that it traces hears no SIGTERM either."""
        self._strace.terminate()
        try:
            self._strace.wait(timeout=ENDS_WITHIN_SECONDS)
        except subprocess.TimeoutExpired:
            self._strace.kill()
            self._strace.wait()


class Tour:
    """Which point is next, so that each is met, and how often each was."""

    def __init__(self, pick):
        self._pick = pick
        self._tried = collections.Counter()
        self.met = collections.Counter()

    def next(self, mode):
        """One that this mode passes, and the time that is meant; of those tried least."""
        fit = [point for point in POINTS if not point.modes or mode in point.modes]
        fewest = min(self._tried[point.name] + self.met[point.name] for point in fit)
        point = self._pick.choice([p for p in fit if self._tried[p.name] + self.met[p.name] == fewest])
        self._tried[point.name] += 1
        return dataclasses.replace(point, times=self._pick.randrange(1, point.times + 1))

    def missed(self):
        return [point.name for point in POINTS if not self.met[point.name]]
