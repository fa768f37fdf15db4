# SPDX-License-Identifier: Apache-2.0
"""A daemon that ends in order leaves its moves to the next one, which goes on with the difference; but believes
nothing of what somebody has changed in between. After a kill likewise, where the image was replaced (M3)."""
import os
import random
import shutil
import subprocess

import lives
import moves
from moves import daemon
from state_folder import StateFolder

WRITTEN_PART = 8  # of the disk, so that most of it is what has been recorded
AT = 8 * moves.MIB  # copied in the first life, and not written to by the guest
COPIED = 12 * moves.MIB
MOST = 18 * moves.MIB  # less than everything
DEFACED = b"\xee" * lives.BLOCK
READER = """
import os
h.connect_uri(os.environ["URI"])
for _ in range(64):  # of a connection's requests one in eight counts as heat: all of it is the working set
    for offset in range(0, h.get_size(), 65536):
        h.pread(65536, offset)
"""


class SuspendedMove(lives.Move):
    """A move that has recorded about half of the disk when its daemon ends."""

    def __init__(self, folder, mode, *options):
        super().__init__(folder, folder, mode, random.Random(7), WRITTEN_PART)
        self.folder = folder
        self.source = os.path.join(folder, "source.img")
        self.options = options

    def __enter__(self):
        try:
            self.prepare()
            if self.mode == "shared":
                env = dict(os.environ, URI=self.server.uri(), PATH="/usr/bin:" + os.environ.get("PATH", ""))
                subprocess.run(["nbdsh", "-c", READER], env=env, check=True)
            self.ask(*self.options)
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
        self.server.cli("set", "vm1", "bwlimit=none")
        assert self.end() > 100
        assert self.report["attempt"] >= 2, self.report
        return self.report

    def said(self):
        with open(self.server.log, encoding="utf-8") as log:
            return log.read()


class UnrecordedMove(SuspendedMove):
    """Its daemon ends long before it records anything by itself."""

    def _command(self, options):
        words = list(super()._command(options))
        at = words.index("--checkpoint-interval")
        return words[:at] + words[at + 2:]

    def copy_half(self):
        job = self.server.job
        daemon.until(lambda: job()["bytes_copied"] > COPIED, "half of the disk to be copied", seconds=60)
        assert job()["checkpoints"] == 0, job()


def deface(path):
    with open(path, "r+b") as image:
        image.seek(AT)
        image.write(DEFACED)


def content(path):
    with open(path, "rb") as image:
        image.seek(AT)
        return image.read(lives.BLOCK)


def goes_on(folder, mode, killed=False, kind=SuspendedMove):
    with kind(folder, mode) as move:
        if killed:
            move.kill()
        else:
            move.stop()
            assert "job suspended" in move.said() and os.path.exists(move.target), move.said()
        ended = move.second_life()
        assert ended["resumed"], ended
        assert ended["bytes_total"] + ended["bytes_at_rest"] < MOST, ended


def source_is_changed(folder):
    with SuspendedMove(folder, "dbt") as move:
        move.stop()
        deface(move.source)
        move.others.add(AT // lives.BLOCK)
        ended = move.second_life()
        assert not ended["resumed"], ended
        assert content(move.target) == DEFACED, "what somebody has written to the source meanwhile is lost"
        assert "is not believed: somebody may have changed its image" in move.said(), move.said()


def target_is_changed(folder):
    with SuspendedMove(folder, "dbt") as move:
        move.stop()
        right = content(move.target)
        deface(move.target)
        ended = move.second_life()
        assert ended["bytes_total"] > MOST, ended
        assert content(move.target) == right, "what somebody has written to the target meanwhile is still there"


def target_is_changed_and_a_life_is_short(folder):
    """What one life has found out the next one knows, also without a record of its own."""
    with SuspendedMove(folder, "dbt") as move:
        move.stop()
        right = content(move.target)
        deface(move.target)
        move.live_again()
        move.kill()
        ended = move.second_life()
        assert ended["attempt"] == 3 and ended["bytes_total"] > MOST, ended
        assert content(move.target) == right, "what somebody has written to the target meanwhile is still there"


def store_to_return_to_is_changed(folder):
    with lives.Move(folder, folder, "dbt", random.Random(9), WRITTEN_PART) as move:
        source = os.path.join(folder, "source.img")
        move.begin("--keep-record")
        move.server.cli("set", "vm1", "bwlimit=none")
        move.server.wait_for_end()
        back = move.server.cli("migrate", "vm1", "--mode", "return", "--detach", "--bwlimit", "64KiB/s")
        assert back.returncode == 0, back.stderr
        move.server.last_job = "job-2"
        daemon.until(lambda: move.server.job()["phase"] != "preparing", "the way back to begin", pause=0.05)
        move.server.stop()
        move.client.wait()
        deface(source)
        move.live_again()
        daemon.until(lambda: move.server.job()["state"] == "failed", "the way back to be refused", pause=0.05)
        assert "may have changed" in move.server.job()["error"]["message"], move.server.job()
        again = move.server.cli("migrate", "vm1", "--mode", "return")
        assert again.returncode != 0, "a store that was changed counts as one that was left"


def read_only_image_is_replaced(folder):
    source, target = os.path.join(folder, "source.img"), os.path.join(folder, "target.img")
    lives.make_image(source, lives.BLOCKS)
    with lives.Daemon(os.path.join(folder, "state"), os.path.join(folder, "log")) as server:
        server.start()
        server.ok("serve", "vm1", "--source", source, "--read-only")
        server.ok("migrate", "vm1", "--to", target, "--mode", "dbt", "--detach", "--bwlimit", "12MiB/s",
                  "--checkpoint-interval", "200ms")
        daemon.until(lambda: server.job()["bytes_copied"] > COPIED, "half of the disk to be copied", seconds=60)
        server.kill()
        shutil.copyfile(source, source + ".restored")
        deface(source + ".restored")
        os.replace(source + ".restored", source)
        server.start()
        server.cli("set", "vm1", "bwlimit=none")
        server.wait_for_end()
        server.kill()
        assert daemon.same(source, target), "the image that was put there is not what has moved"


def image_is_replaced_after_a_kill(folder):
    with SuspendedMove(folder, "dbt") as move:
        move.kill()
        restored = move.source + ".restored"
        shutil.copyfile(move.source, restored)
        deface(restored)
        os.replace(restored, move.source)
        move.others.add(AT // lives.BLOCK)
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
        move.server.cli("set", "vm1", "bwlimit=none")
        assert move.end() > 100


def is_aborted_where_asked(folder):
    with SuspendedMove(folder, "dbt", "--on-restart", "abort") as move:
        move.stop()
        assert not os.path.exists(move.target), "the target of an aborted move is left behind"
        move.server.start()
        assert move.server.job()["state"] == "aborted", move.server.job()


def is_unfinished_where_it_was_killed(folder):
    """What an aborted move has left is no disk, whoever finds it."""
    with SuspendedMove(folder, "dbt", "--on-restart", "abort") as move:
        move.kill()
        move.server.start()
        daemon.until(lambda: move.server.job()["state"] in ("aborted", "failed"), "the end of the move")
        with StateFolder(os.path.join(folder, "another")) as stranger:
            stranger.start()
            refused = stranger.cli("serve", "vm2", "--source", move.target)
            assert refused.returncode == 9 and "unfinished" in refused.stderr, refused
        move.server.ok("migrate", "vm1", "--to", move.target, "--mode", "dbt")


for mode_ in ("dbt", "mirror", "auto", "snapshot", "shared"):
    with daemon.scratch() as here:
        goes_on(here, mode_)
for mode_ in ("dbt", "mirror"):
    with daemon.scratch() as here:
        goes_on(here, mode_, kind=UnrecordedMove)
for mode_ in ("snapshot", "shared"):
    with daemon.scratch() as here:
        goes_on(here, mode_, killed=True)
for story in (source_is_changed, target_is_changed,
              target_is_changed_and_a_life_is_short, store_to_return_to_is_changed, read_only_image_is_replaced,
              image_is_replaced_after_a_kill, waits_where_asked, is_aborted_where_asked,
              is_unfinished_where_it_was_killed):
    with daemon.scratch() as here:
        story(here)
