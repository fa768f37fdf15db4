# SPDX-License-Identifier: Apache-2.0
"""A move to a filesystem that is not mounted yet when its daemon starts again: the job waits for its target, makes no
other file in its place, and goes on when it is there. An unfinished copy is never served as the disk."""
import contextlib
import os

import moves
from moves import daemon
from state_folder import StateFolder

SIZE = 24 * moves.MIB
COPIED = 6 * moves.MIB
AT = 20 * moves.MIB


class MountedTarget:
    """A folder whose content comes and goes, as that of a mount point does."""

    def __init__(self, folder):
        self.path = os.path.join(folder, "mnt")
        self.image = os.path.join(self.path, "target.img")
        os.mkdir(self.path)

    def leave(self):
        os.rename(self.path, self.path + ".away")
        os.mkdir(self.path)

    def come_back(self):
        os.rename(self.path, self.path + ".shadow")
        os.rename(self.path + ".away", self.path)


@contextlib.contextmanager
def begun(folder, *options):
    """A daemon with a move under way, and its target."""
    source = daemon.make_image(os.path.join(folder, "source.img"), SIZE, holes=False)
    target = MountedTarget(folder)
    with StateFolder(os.path.join(folder, "state")) as server:
        server.start()
        server.ok("serve", "vm1", "--source", source)
        server.ok("migrate", "vm1", "--to", target.image, "--mode", "dbt", "--detach", "--bwlimit", "4MiB/s",
                  *(options or ("--checkpoint-interval", "200ms")))
        daemon.until(lambda: server.shown("status", "vm1")["bytes_copied"] > COPIED, "a part of the copy", seconds=60)
        yield server, target


def says_what_it_waits_for(server):
    def waits():
        job = server.shown("status", "vm1")
        return job if job["attempt"] == 2 and job.get("error") else None
    job = daemon.until(waits, "the job to say what it waits for", seconds=30, pause=0.05)
    assert job["state"] in ("running", "paused") and job["phase"] == "preparing", job
    assert "is its filesystem mounted?" in job["error"]["message"], job
    assert "abort" in job["error"]["message"], job


def write(server, pattern):
    daemon.ok("qemu-io", "-f", "raw", "-c", f"write -P {pattern} {AT} 64k", "-c", "flush", server.uri())


def check(server, pattern):
    daemon.ok("qemu-io", "-f", "raw", "-c", f"read -P {pattern} {AT} 64k", server.uri())


def goes_on_when_it_is_there(folder, last_life_ends):
    with begun(folder) as (server, target):
        last_life_ends(server)
        target.leave()
        server.start()
        says_what_it_waits_for(server)
        assert not os.path.exists(target.image), "another file in the target's place"
        write(server, 0x77)
        target.come_back()
        server.ok("set", "vm1", "bwlimit=none")
        daemon.until(lambda: server.shown("status", "vm1")["state"] == "done", "the move", seconds=60)
        assert server.shown("status", "vm1")["resumed"], server.shown("status", "vm1")
        check(server, 0x77)
        server.stop()


def is_begun_anew_after_an_abort(folder):
    with begun(folder) as (server, target):
        server.kill()
        target.leave()  # for good
        server.start()
        says_what_it_waits_for(server)
        server.ok("abort", "vm1")
        daemon.until(lambda: server.shown("status", "vm1")["state"] == "aborted", "the abort", pause=0.05)
        write(server, 0x78)
        server.ok("migrate", "vm1", "--to", target.image, "--mode", "dbt")
        check(server, 0x78)
        server.stop()


def an_unfinished_copy_is_not_served(folder):
    """Somebody puts the file of an earlier try in the place of the disk's."""
    with begun(folder, "--on-restart", "abort") as (server, target):
        server.kill()
        target.leave()
        server.start()
        server.ok("migrate", "vm1", "--to", target.image, "--mode", "dbt")
        write(server, 0x79)
        server.end()
        target.come_back()
        server.start()
        refused = server.cli("serve", "vm1")
        assert refused.returncode != 0 and "unfinished copy" in refused.stderr, refused
        server.end()
        os.rename(target.path, target.path + ".old")
        os.rename(target.path + ".shadow", target.path)
        server.start()
        check(server, 0x79)


daemon.need("qemu-io")
for ends in (StateFolder.stop, StateFolder.kill):
    with daemon.scratch() as here:
        goes_on_when_it_is_there(here, ends)
for story in (is_begun_anew_after_an_abort, an_unfinished_copy_is_not_served):
    with daemon.scratch() as here:
        story(here)
