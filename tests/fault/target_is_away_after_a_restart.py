# SPDX-License-Identifier: Apache-2.0
"""kill -9 of the daemon and of its target's server: the job waits for the target, can be aborted, and ends when the
target is back."""
import os
import random

import lives
import moves
from moves import daemon


class AwayMove(lives.Move):
    """A move to an NBD server, which leaves with the daemon."""

    def __init__(self, folder, seed):
        super().__init__(folder, folder, "dbt", random.Random(seed))
        self.folder = folder
        self.image = os.path.join(folder, "served.img")
        with open(self.image, "wb") as f:
            f.truncate(24 * moves.MIB)
        self.remote = None
        self.serve_target()
        self.target = self.remote.uri

    def serve_target(self):
        self.remote = daemon.nbdkit(self.folder, "file", self.image, name="target")

    def lose_both(self):
        """In mid-copy, with something recorded; the daemon alone comes back."""
        job = self.server.job
        daemon.until(lambda: job().get("checkpoints", 0) > 0, "a record", seconds=60, pause=0.05)
        self.remote.kill()
        os.unlink(self.remote.socket_path)
        self.server.kill()
        self.client.wait()
        self.server.start()

    def waits(self):
        """It says what it waits for, and the daemon answers meanwhile."""
        def reason():
            shown = self.server.job()
            return shown if shown["attempt"] == 2 and shown.get("error") else None
        shown = daemon.until(reason, "the job to say what it waits for", seconds=60, pause=0.05)
        assert shown["state"] in ("running", "paused") and shown["phase"] == "preparing", shown
        assert self.remote.socket_path in shown["error"]["message"], shown
        assert self.server.cli("ls", "disks", timeout=moves.AT_ONCE_SECONDS).returncode == 0


def begin(folder, seed):
    move = AwayMove(folder, seed)
    move.begin()
    return move


def comes_back(folder):
    with begin(folder, 1) as move:
        move.lose_both()
        move.waits()
        move.serve_target()
        try:
            move.server.wait_for_end()
            shown = move.server.job()
            assert shown["resumed"], shown
            assert move.server.cli("detach", "vm1").returncode == 0
            seen = os.path.join(folder, "seen.img")
            daemon.ok("nbdcopy", move.target, seen)
            assert daemon.same(seen, os.path.join(folder, "source.img")), "source and target differ"
            move.server.stop()
        finally:
            move.remote.stop()


def is_aborted(folder):
    with begin(folder, 2) as move:
        move.lose_both()
        move.waits()
        assert move.server.cli("abort", "vm1", timeout=moves.AT_ONCE_SECONDS).returncode == 0
        daemon.until(lambda: move.server.job()["state"] == "aborted", "the abort", pause=0.05)
        move.server.stop()


daemon.need("nbdkit", "nbdcopy")
with daemon.scratch() as here:
    comes_back(here)
with daemon.scratch() as here:
    is_aborted(here)
