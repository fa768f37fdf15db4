# SPDX-License-Identifier: Apache-2.0
"""The journal's filesystem fills up during a move: the guest is served on, also where nothing has been written for a
while; status, log and metrics say it; the move ends with the reason. With room and a restart everything is there."""
import os
import time

import moves
from journal_host import PATIENCE_SECONDS, Host
from moves import daemon


class FullHost(Host):
    """On a small filesystem."""

    def __init__(self, folder, mount):
        super().__init__(folder, mount)
        self.hog = os.path.join(mount, "hog")

    def fill(self):
        daemon.run("dd", "if=/dev/zero", f"of={self.hog}", "bs=64k")  # until it is full
        daemon.until(lambda: self.status()["daemon"]["journal_error"], "the journal to fail", pause=0.05)

    def make_room(self):
        os.unlink(self.hog)
        self.end()
        with open(self.log, encoding="utf-8") as log:
            assert "a store did not close" not in log.read(), "its store has no fault"


def abort_in_mid_copy(host):
    """Regions that were idle when the journal failed are written to one after the other."""
    host.move("dbt", "--bwlimit", "1MiB/s")
    host.fill()
    host.write_everywhere(pause=0.4)  # a checkpoint would fall between
    time.sleep(2)  # or several, with nobody writing
    host.write(5)
    host.failure_is_told()
    aborted = host.cli("abort", "vm1", timeout=PATIENCE_SECONDS)
    assert aborted.returncode == 0, aborted.stderr
    assert host.ended()["state"] == "aborted", host.job()


def come_to_the_switchover(host):
    host.ok("bitmap", "add", "vm1", "mon")
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
            with FullHost(place, small) as here:
                here.serve()
                story(here)
                here.write_everywhere()
                assert here.source in here.ok("status", "vm1", "-o", "json")
                here.make_room()
                here.everything_is_served_after()
