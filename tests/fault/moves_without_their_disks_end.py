# SPDX-License-Identifier: Apache-2.0
"""The disk of an unfinished move does not come after a restart. One that does not go on is shown as it has ended, and the
disk can be forgotten; one that was aborted stays so over restarts; one that is to wait for an operator does not once he has
resumed it. (M3)"""
import os

import moves
from moves import daemon
from state_folder import StateFolder


class Place:
    """A disk that moves, and is away after its daemon's death."""

    def __init__(self, folder):
        self.image = os.path.join(folder, "a.img")
        self.target = os.path.join(folder, "b.img")
        self.host = StateFolder(os.path.join(folder, "s"))
        daemon.make_image(self.image, 4 * moves.MIB, holes=False)

    def begin(self, *options):
        self.host.start()
        self.host.ok("serve", "vm1", "--source", self.image)
        self.host.ok("migrate", "vm1", "--to", self.target, "--mode", "dbt", "--bwlimit", "64KiB/s", "--detach", *options)
        self.lose_disk()

    def lose_disk(self):
        self.host.kill()
        if os.path.exists(self.image):
            os.rename(self.image, self.image + ".away")
        self.host.start()

    def job(self):
        return self.host.shown("status", "job-1")

    def is_forgotten(self):
        self.host.ok("detach", "vm1", "--forget")
        assert self.host.cli("serve", "vm1").returncode == 4, "it is not known any more"


def ended_with_its_daemon(place):
    place.begin("--on-restart", "abort")
    assert place.job()["state"] == "failed", place.job()
    place.is_forgotten()
    assert place.job()["state"] == "failed", place.job()


def aborted(place):
    place.begin()
    assert place.job()["state"] == "paused", place.job()
    place.host.ok("abort", "vm1")
    for _ in range(2):
        assert place.job()["state"] == "aborted", place.job()
        place.lose_disk()
    place.is_forgotten()


def resumed(place):
    place.begin("--on-restart", "pause")
    assert "then it waits for 'blockmig resume'" in place.job()["paused_because"], place.job()
    place.host.ok("resume", "vm1")
    assert "resume" not in place.job()["paused_because"], place.job()
    os.rename(place.image + ".away", place.image)
    daemon.until(lambda: place.job()["state"] == "running", "the move to go on")


for story in (ended_with_its_daemon, aborted, resumed):
    with daemon.scratch() as scratch:
        scene = Place(scratch)
        with scene.host:
            story(scene)
