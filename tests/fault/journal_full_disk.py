# SPDX-License-Identifier: Apache-2.0
"""The journal's filesystem fills up during a move: the guest is served on, also where nothing has been written for a
while; status, log and metrics say it; the move ends with the reason. With room and a restart everything is there."""
import os
import time

import lives
import metrics
import moves
from moves import daemon

REGION = 4 * moves.MIB
REGIONS = 12
BLOCK = 64 * 1024
PATIENCE_SECONDS = 30  # of a guest, for one write: on a busy machine
JOURNAL_FAILED = "the journal has failed"


class Host(lives.Daemon):
    """A daemon whose state folder is on a small filesystem, and what its guest has written."""

    def __init__(self, folder, mount):
        super().__init__(os.path.join(mount, "state"), os.path.join(folder, "blockmigd.log"))
        self.source = daemon.make_image(os.path.join(folder, "source.img"), REGIONS * REGION, holes=False)
        self.target = os.path.join(folder, "target.img")
        self.hog = os.path.join(mount, "hog")
        with open(self.source, "rb") as image:
            self.known = bytearray(image.read())
        self._next = 1

    def write(self, region):
        """A guest writes and flushes, and reads it back."""
        at = region * REGION + self._next % 8 * BLOCK
        byte = self._next % 251 + 1
        self._next += 1
        daemon.ok("nbdsh", "-u", self.uri(), "-c",
                  f"h.pwrite(bytes([{byte}]) * {BLOCK}, {at}); h.flush(); "
                  f"assert h.pread({BLOCK}, {at}) == bytes([{byte}]) * {BLOCK}", timeout=PATIENCE_SECONDS,
                  env={"PATH": "/usr/bin:" + os.environ.get("PATH", "")})
        self.known[at:at + BLOCK] = bytes([byte]) * BLOCK

    def move(self, mode, *options):
        begun = self.cli("migrate", "vm1", "--to", self.target, "--mode", mode, "--detach",
                         "--checkpoint-interval", "300ms", *options)
        assert begun.returncode == 0, begun.stderr
        daemon.until(lambda: self.job()["checkpoints"] >= 2, "checkpoints", pause=0.05)

    def fill(self):
        daemon.run("dd", "if=/dev/zero", f"of={self.hog}", "bs=64k")  # until it is full
        daemon.until(lambda: self.status()["daemon"]["journal_error"], "the journal to fail", pause=0.05)

    def status(self):
        shown = self.cli("status", "-o", "json")
        assert shown.returncode == 0, shown.stderr
        return daemon.last_json(shown.stdout)

    def ended(self):
        daemon.until(lambda: self.job()["state"] not in ("running", "paused"), "the move to end", pause=0.1)
        return self.job()

    def failure_is_told(self):
        """In every way, and in the log once."""
        assert JOURNAL_FAILED in self.cli("status").stdout
        assert metrics.scrape(self).value("blockmig_journal_healthy") == 0
        with open(self.log, encoding="utf-8") as log:
            told = [line for line in log if JOURNAL_FAILED in line]
        assert len(told) == 1, told

    def everything_is_served_after(self):
        """Room is made, the daemon started again: the move, whose end could not be recorded, goes on."""
        os.unlink(self.hog)
        self.end()
        self.start()
        assert self.status()["daemon"]["journal_error"] == ""
        assert metrics.scrape(self).value("blockmig_journal_healthy") == 1
        self.write(1)
        self.cli("set", "vm1", "bwlimit=none")
        self.wait_for_end()
        self.write(2)
        self.end()
        with open(self.target, "rb") as image:
            assert image.read() == self.known, "the target is not what the guest has written"


def abort_in_mid_copy(host):
    """Regions that were idle when the journal failed are written to one after the other."""
    host.move("dbt", "--bwlimit", "1MiB/s")
    host.fill()
    for region in range(REGIONS):
        host.write(region)
        time.sleep(0.4)  # a checkpoint would fall between
    time.sleep(2)  # or several, with nobody writing
    host.write(5)
    host.failure_is_told()
    aborted = host.cli("abort", "vm1", timeout=PATIENCE_SECONDS)
    assert aborted.returncode == 0, aborted.stderr
    assert host.ended()["state"] == "aborted", host.job()


def come_to_the_switchover(host):
    host.move("mirror", "--bwlimit", "8MiB/s")
    host.fill()
    ended = host.ended()
    assert ended["state"] == "failed" and not ended["switched"], ended
    assert "journal" in ended["error"]["message"] and "stays on its source" in ended["error"]["message"], ended
    host.failure_is_told()


daemon.need("nbdsh")
for story in (abort_in_mid_copy, come_to_the_switchover):
    with daemon.scratch() as place:
        class Place:  # what small_filesystem() asks of a scene
            path = staticmethod(lambda name, place=place: os.path.join(place, name))

        with moves.small_filesystem(Place) as small:
            with Host(place, small) as here:
                here.start()
                here.ok("serve", "vm1", "--source", here.source)
                story(here)
                for written in range(REGIONS):
                    here.write(written)
                assert here.source in here.ok("status", "vm1", "-o", "json")
                here.everything_is_served_after()
