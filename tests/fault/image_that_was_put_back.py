# SPDX-License-Identifier: Apache-2.0
"""Image and stamp are put back to an earlier state, the journal is not: the disk is served, and neither its bitmaps
nor what is recorded of its move is believed."""
import os
import shutil

import moves
from moves import daemon
from state_folder import StateFolder

SIZE = 8 * moves.MIB


class PutBack:
    """A disk, with a copy of what it was when its first daemon died."""

    def __init__(self, folder):
        self.image = daemon.make_image(os.path.join(folder, "source.img"), SIZE, holes=False)
        self.files = (self.image, self.image + ".blockmig-owner")
        self.copy = os.path.join(folder, "copy.img")
        self.server = StateFolder(os.path.join(folder, "state"))

    def begin(self, lives):
        """What is kept is of the first life, of one or two; the last one has written something since."""
        self.server.start()
        self.server.ok("serve", "vm1", "--source", self.image)
        if lives == 2:
            self.server.kill()
        for path in self.files:
            shutil.copyfile(path, path + ".kept")
        if lives == 2:
            self.server.start()
        self.write(0x99, moves.MIB)

    def put_back(self):
        """In place: the same inodes."""
        self.server.kill()
        for path in self.files:
            with open(path + ".kept", "rb") as kept, open(path, "r+b") as now:
                now.write(kept.read())
                now.truncate()

    def write(self, pattern, at):
        daemon.ok("qemu-io", "-f", "raw", "-c", f"write -P {pattern} {at} 64k", "-c", "flush", self.server.uri())

    def said(self):
        with open(self.server.log, encoding="utf-8") as log:
            return log.read()


def bitmaps_are_not_believed(folder, lives):
    disk = PutBack(folder)
    with disk.server as server:
        disk.begin(lives)
        server.ok("backup", "vm1", disk.copy, "--bitmap", "inc")
        disk.write(0x55, 5 * moves.MIB)
        disk.put_back()
        server.start()
        assert "was put back to an earlier state" in disk.said(), disk.said()
        since = server.cli("backup", "vm1", disk.copy, "--since", "inc")
        assert since.returncode != 0, "an incremental backup of another history"
        disk.write(0x56, 6 * moves.MIB)
        server.kill()
        server.start()
        assert disk.said().count("was put back to an earlier state") == 1, disk.said()
        server.stop()


def moves_are_not_believed(folder, lives):
    disk = PutBack(folder)
    target = os.path.join(folder, "target.img")
    with disk.server as server:
        disk.begin(lives)
        server.ok("migrate", "vm1", "--to", target, "--mode", "dbt", "--detach", "--bwlimit", "2MiB/s",
                  "--checkpoint-interval", "100ms")
        daemon.until(lambda: server.shown("status", "vm1")["bytes_copied"] > 3 * moves.MIB, "a part", seconds=60)
        before = server.shown("status", "vm1")["checkpoints"]
        daemon.until(lambda: server.shown("status", "vm1")["checkpoints"] >= before + 2, "its record", seconds=60)
        disk.put_back()
        server.start()
        server.ok("set", "vm1", "bwlimit=none")
        daemon.until(lambda: server.shown("status", "vm1")["state"] == "done", "the move", seconds=60)
        assert not server.shown("status", "vm1")["resumed"], server.shown("status", "vm1")
        server.stop()
        assert daemon.same(disk.image + ".kept", target), "the target is not what was put back"


daemon.need("qemu-io")
for story in (bitmaps_are_not_believed, moves_are_not_believed):
    for steps in (1, 2):  # a job, or a life and a job
        with daemon.scratch() as here:
            story(here, steps)
