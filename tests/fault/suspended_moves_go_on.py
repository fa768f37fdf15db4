# SPDX-License-Identifier: Apache-2.0
"""A daemon that ends in order leaves its moves to the next one, which goes on with the difference; but believes
nothing of what somebody has changed in between. After a kill likewise, where the image was replaced."""
import os
import random
import shutil

import lives
import moves
from moves import daemon

WRITTEN_PART = 8  # of the disk, so that most of it is what has been recorded
AT = 8 * moves.MIB  # copied in the first life, and not written to by the guest
COPIED = 12 * moves.MIB
MOST = 18 * moves.MIB  # less than everything
DEFACED = b"\xee" * lives.BLOCK


class SuspendedMove(lives.Move):
    """A move that has recorded about half of the disk when its daemon ends."""

    def __init__(self, folder, mode, *options):
        super().__init__(folder, folder, mode, random.Random(7), WRITTEN_PART)
        self.folder = folder
        self.source = os.path.join(folder, "source.img")
        self.options = options

    def __enter__(self):
        try:
            self.begin(*self.options)
            self.copy_half()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def copy_half(self):
        job = self.server.job
        daemon.until(lambda: job()["bytes_copied"] > COPIED, "half of the disk to be copied", seconds=60)
        before = job()["checkpoints"]
        if "abort" not in self.options:  # nothing is recorded for nobody
            daemon.until(lambda: job()["checkpoints"] >= before + 2, "it to be recorded", seconds=60)

    def stop(self):
        self.server.stop()
        self.client.wait()

    def second_life(self):
        """The job's report once it has ended; the target is what it is to be."""
        self.live_again()
        self.server.cli("set", "vm1", "bwlimit=0")
        assert self.end() > 100
        assert self.report["attempt"] == 2, self.report
        return self.report

    def said(self):
        with open(self.server.log, encoding="utf-8") as log:
            return log.read()


def deface(path):
    with open(path, "r+b") as image:
        image.seek(AT)
        image.write(DEFACED)


def content(path):
    with open(path, "rb") as image:
        image.seek(AT)
        return image.read(lives.BLOCK)


def goes_on(folder, mode):
    with SuspendedMove(folder, mode) as move:
        move.stop()
        assert "job suspended" in move.said() and os.path.exists(move.target), move.said()
        ended = move.second_life()
        assert ended["resumed"], ended
        assert ended["bytes_total"] < MOST, ended


def goes_on_with_a_successor(folder):
    """`blockmigd --replace` in mid-move: the client does not notice, and the move goes on."""
    with SuspendedMove(folder, "mirror") as move:
        old = move.server.process
        move.server.start("--replace")
        old.process.wait(timeout=60)
        lives.wait_for_writes(move.log)
        assert move.client.poll() is None, "the client has lost its disk"
        move.server.cli("set", "vm1", "bwlimit=0")
        assert move.end() > 100
        assert move.report["resumed"] and move.report["attempt"] == 2, move.report


def hydrates_on_with_a_successor(folder):
    with lives.Move(folder, folder, "postcopy", random.Random(5)) as move:
        move.begin()
        daemon.until(lambda: move.server.job()["switched"], "the switchover", pause=0.02)
        old = move.server.process
        move.server.start("--replace")
        old.process.wait(timeout=60)
        assert move.server.job()["state"] == "running", move.server.job()
        lives.wait_for_writes(move.log)
        assert move.client.poll() is None, "the client has lost its disk"
        move.server.cli("set", "vm1", "bwlimit=0")
        assert move.end() > 100


def source_is_changed(folder):
    with SuspendedMove(folder, "dbt") as move:
        move.stop()
        deface(move.source)
        ended = move.second_life()
        assert not ended["resumed"], ended
        assert content(move.target) == DEFACED, "what somebody has written to the source meanwhile is lost"
        assert "is not believed: somebody has changed its image" in move.said(), move.said()


def target_is_changed(folder):
    with SuspendedMove(folder, "dbt") as move:
        move.stop()
        right = content(move.target)
        deface(move.target)
        ended = move.second_life()
        assert ended["bytes_total"] > MOST, ended
        assert content(move.target) == right, "what somebody has written to the target meanwhile is still there"


def image_is_replaced_after_a_kill(folder):
    with SuspendedMove(folder, "dbt") as move:
        move.kill()
        restored = move.source + ".restored"
        shutil.copyfile(move.source, restored)
        deface(restored)
        os.replace(restored, move.source)
        ended = move.second_life()
        assert not ended["resumed"], ended
        assert content(move.target) == DEFACED, "the image that was put there is not what has moved"


def waits_where_asked(folder):
    with SuspendedMove(folder, "dbt", "--on-restart", "pause") as move:
        move.stop()
        move.live_again()
        job = move.server.job
        daemon.until(lambda: job()["state"] == "paused", "the job to wait", pause=0.05)
        assert "--on-restart pause" in job()["paused_because"], job()
        move.server.ok("resume", "vm1")
        move.server.cli("set", "vm1", "bwlimit=0")
        assert move.end() > 100


def is_aborted_where_asked(folder):
    with SuspendedMove(folder, "dbt", "--on-restart", "abort") as move:
        move.stop()
        assert not os.path.exists(move.target), "the target of an aborted move is left behind"
        move.server.start()
        assert move.server.job()["state"] == "aborted", move.server.job()


for mode_ in ("dbt", "mirror", "auto"):
    with daemon.scratch() as here:
        goes_on(here, mode_)
for story in (goes_on_with_a_successor, hydrates_on_with_a_successor, source_is_changed, target_is_changed,
              image_is_replaced_after_a_kill, waits_where_asked, is_aborted_where_asked):
    with daemon.scratch() as here:
        story(here)
