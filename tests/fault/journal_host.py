# SPDX-License-Identifier: Apache-2.0
"""A daemon whose state folder is on a medium of its own, which fails, and what its guest has written meanwhile."""
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
    """The images are in `folder`, the state on what is mounted at `mount`."""

    def __init__(self, folder, mount):
        super().__init__(os.path.join(mount, "state"), os.path.join(folder, "blockmigd.log"))
        self.source = daemon.make_image(os.path.join(folder, "source.img"), REGIONS * REGION, holes=False)
        self.target = os.path.join(folder, "target.img")
        self.source_uri = self.source  # or of a server of that image
        self.target_uri = self.target
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
        begun = self.cli("migrate", "vm1", "--to", self.target_uri, "--mode", mode, "--detach",
                         "--checkpoint-interval", "300ms", *options)
        assert begun.returncode == 0, begun.stderr
        daemon.until(lambda: self.job()["checkpoints"] >= 2, "checkpoints", pause=0.05)

    def serve(self):
        self.start()
        self.ok("serve", "vm1", "--source", self.source_uri)

    def write_everywhere(self, pause=0.0):
        """Into one region after the other."""
        for region in range(REGIONS):
            self.write(region)
            time.sleep(pause)

    def status(self):
        shown = self.cli("status", "-o", "json")
        assert shown.returncode == 0, shown.stderr
        return daemon.last_json(shown.stdout)

    def ended(self):
        daemon.until(lambda: self.job()["state"] not in ("running", "paused"), "the move to end", pause=0.1)
        return self.job()

    def saves(self):
        """Of the journal, by this daemon."""
        return metrics.scrape(self).value("blockmig_journal_sync_duration_seconds_count")

    def failure_is_told(self):
        """In every way, and in the log once."""
        assert JOURNAL_FAILED in self.cli("status").stdout
        assert metrics.scrape(self).value("blockmig_journal_healthy") == 0
        with open(self.log, encoding="utf-8") as log:
            told = [line for line in log if JOURNAL_FAILED in line]
        assert len(told) == 1, told

    def everything_is_served_after(self):
        """The medium works again, the daemon is started again: the move, whose end could not be recorded, goes on."""
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
