# SPDX-License-Identifier: Apache-2.0
"""What a command was told has been done is so after a power loss right behind the answer, also where the journal's
disk is slow to sync: a disk, a job, what is set of it, its pause, the settling of a disk, bitmaps. (M3, M22)"""
import contextlib
import os
import signal
import subprocess

import moves
from kill_points import threads_say
from medium import Medium
from moves import daemon
from state_folder import StateFolder

SYNC_SECONDS = 0.05


@contextlib.contextmanager
def slow_syncs(process):
    """Each sync of the daemon takes that long, before it happens."""
    command = ["strace", "-f", "-qq", "-p", str(process.pid), "-e", "trace=fsync,fdatasync", "-e",
               f"inject=fsync,fdatasync:delay_enter={int(SYNC_SECONDS * 1e6)}", "-o", "/dev/null"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as tracer:
        try:
            daemon.until(lambda: "0" not in threads_say(process.pid, "TracerPid"), "strace to begin", pause=0.002)
            yield
        finally:
            tracer.send_signal(signal.SIGKILL)


class Place:
    """A daemon on a medium of its own, with a disk."""

    def __init__(self, folder):
        self.medium = Medium(folder)
        refused = self.medium.mount()
        if refused:
            daemon.skip("cannot mount an XFS image here: " + refused)
        self.state = StateFolder(self.path("state"), os.path.join(folder, "log"))

    def path(self, name):
        return os.path.join(self.medium.folder, name)

    def begin(self):
        daemon.make_image(self.path("vm1.img"), 4 * moves.MIB, holes=False)
        daemon.make_image(self.path("vm2.img"), moves.MIB)
        self.state.start()
        self.state.ok("serve", "vm1", "--source", self.path("vm1.img"))

    def move(self):
        self.state.ok("migrate", "vm1", "--to", self.path("new.img"), "--mode", "dbt", "--bwlimit", "64KiB/s", "--detach")

    def job(self):
        return self.state.shown("status", "job-1")

    def disks(self):
        return [disk["name"] for disk in self.state.shown("ls", "disks")["disks"]]

    def bitmaps(self):
        return [bitmap["name"] for bitmap in self.state.shown("bitmap", "ls", "vm1")["bitmaps"]]

    def is_hydrating(self):
        """A job brings the rest."""
        return any(job["phase"] == "hydrating" for job in self.state.shown("ls", "jobs")["jobs"])

    def add_bitmap(self, name="monday"):
        self.state.ok("bitmap", "add", "vm1", name)

    def lose_power_after(self, command):
        with slow_syncs(self.state.process):
            command(self)
            self.medium.cut()
            self.state.kill()
        self.medium.unmount()
        refused = self.medium.mount()
        assert not refused, refused
        self.state.start()

    def end(self):
        self.state.kill()
        self.medium.unmount()


def ok(*words):
    return lambda place: place.state.ok(*words)


def nothing(_place):
    """There is nothing to prepare."""


def moving_and_paused(place):
    place.move()
    place.state.ok("pause", "vm1")


def at_rest(place):
    place.state.ok("set", "--daemon", "bwlimit=64KiB/s")
    place.state.ok("migrate", "vm1", "--to", place.path("new.img"), "--mode", "shared", "--hydrate", "never")
    assert not place.is_hydrating()


# What was there before, the command, and what is so after it.
STORIES = {
    "serve": (nothing, lambda place: place.state.ok("serve", "vm2", "--source", place.path("vm2.img")),
              lambda place: "vm2" in place.disks()),
    "detach": (nothing, ok("detach", "vm1", "--forget"), lambda place: "vm1" not in place.disks()),
    "migrate": (nothing, Place.move, lambda place: place.job()["state"] == "running"),
    "backup": (nothing, lambda place: place.state.ok("backup", "vm1", place.path("copy.img"), "--bwlimit", "64KiB/s", "--detach"),
               lambda place: place.job()["state"] == "running"),
    "pause": (Place.move, ok("pause", "vm1"), lambda place: place.job()["state"] == "paused"),
    "resume": (moving_and_paused, ok("resume", "vm1"), lambda place: place.job()["state"] == "running"),
    "set": (Place.move, ok("set", "vm1", "bwlimit=32KiB/s"),
            lambda place: place.job()["bwlimit_bytes_per_second"] == 32 * 1024),
    "set of the daemon": (nothing, ok("set", "--daemon", "bwlimit=3MiB/s"),
                          lambda place: place.state.shown("status")["daemon"]["bwlimit_bytes_per_second"] == 3 * moves.MIB),
    "settle": (at_rest, ok("settle", "vm1", "--detach"), lambda place: place.is_hydrating()),
    "bitmap add": (nothing, Place.add_bitmap, lambda place: place.bitmaps() == ["monday"]),
    "bitmap remove": (Place.add_bitmap, ok("bitmap", "remove", "vm1", "monday"), lambda place: not place.bitmaps()),
}


def tell(name):
    before, command, holds = STORIES[name]
    with daemon.scratch() as folder:
        place = Place(folder)
        try:
            place.begin()
            before(place)
            place.lose_power_after(command)
            assert holds(place), (name, place.state.process.log()[-3000:])
        finally:
            place.end()


daemon.need("strace", "mkfs.xfs", "xfs_io", "mount")
for story in STORIES:
    print(story, flush=True)
    tell(story)
