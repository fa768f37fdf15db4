# SPDX-License-Identifier: Apache-2.0
"""What an operator has paused does not switch over, holds no writer up, and is paused still after kill -9 and an end in
order, until he resumes it."""
import os

import moves
from moves import daemon
from state_folder import StateFolder

daemon.need("qemu-io", "qemu-nbd")
SIZE = 16 * moves.MIB


class Server(StateFolder):
    """blockmigd with one disk and its job."""

    def job(self):
        return self.shown("status", "vm1")

    def store(self):
        return self.shown("ls", "disks")["disks"][0]["store"]

    def serve(self, image):
        daemon.make_image(image, SIZE, holes=False)
        self.start()
        self.ok("serve", "vm1", "--source", image)

    def begin(self, target, mode, *options):
        self.ok("migrate", "vm1", "--to", target, "--mode", mode, "--detach", *options)

    def pause(self):
        self.ok("pause", "vm1")
        assert self.job()["state"] == "paused", self.job()

    def again(self, end):
        end()
        self.start()
        daemon.until(lambda: self.shown("ls", "disks")["disks"] and self.job()["phase"] != "ended", "the job to be back",
                     pause=0.05)

    def write(self):
        daemon.ok("qemu-io", "-f", "raw", self.uri(), "-c", "write -P 0x44 1M 64k", timeout=20)

    def finish(self, target):
        self.ok("set", "vm1", "bwlimit=none")
        if self.job()["state"] == "paused":
            self.ok("resume", "vm1")
        daemon.until(lambda: self.job()["state"] == "done", "the end of the move", pause=0.05)
        assert self.store().endswith(target), self.store()


def paused_before_its_switchover(folder, mode):
    """Before it has its target, which then comes: postcopy has nothing else to wait for."""
    raw = os.path.join(folder, "raw.img")
    with open(raw, "wb") as image:
        image.truncate(SIZE)
    with daemon.qemu_nbd(folder, raw) as target, Server(os.path.join(folder, "state")) as server:
        server.serve(os.path.join(folder, "source.img"))
        target.freeze()
        server.begin(target.uri, mode)
        server.pause()
        target.thaw()
        for end in (lambda: None, server.kill, server.stop):
            end()
            if not server.alive():
                server.start()
                daemon.until(lambda: server.shown("ls", "disks")["disks"], "the disk", pause=0.05)
            daemon.until(lambda: server.job()["phase"] not in ("preparing", "ended"), "the target to be open", pause=0.05)
            server.write()
            job = server.job()
            assert job["state"] == "paused" and not job["switched"], job
            assert server.store().endswith("source.img"), server.store()
        server.finish(target.uri)


def paused_hydration(folder):
    target = os.path.join(folder, "target.img")
    with Server(os.path.join(folder, "state")) as server:
        server.serve(os.path.join(folder, "source.img"))
        server.begin(target, "postcopy", "--bwlimit", "1MiB/s")
        daemon.until(lambda: server.job()["phase"] == "hydrating", "the switchover", pause=0.05)
        server.pause()
        for end in (server.kill, server.stop):
            server.again(end)
            job = server.job()
            assert job["state"] == "paused" and "operator" in job["paused_because"], job
            server.write()
        # What was resumed is not paused by a restart either.
        server.ok("resume", "vm1")
        server.again(server.kill)
        assert server.job()["state"] == "running", server.job()
        server.finish(target)


def paused_cold(folder):
    target = os.path.join(folder, "target.img")
    with Server(os.path.join(folder, "state")) as server:
        server.serve(os.path.join(folder, "source.img"))
        server.begin(target, "cold", "--bwlimit", "1MiB/s")
        daemon.until(lambda: server.job()["bytes_copied"] > 0, "the copy to begin", pause=0.05)
        server.pause()
        server.write()
        server.again(server.kill)
        server.write()
        assert server.job()["state"] == "paused", server.job()
        server.finish(target)
        daemon.ok("qemu-io", "-f", "raw", server.uri(), "-c", "read -P 0x44 1M 64k")


for case in (paused_hydration, paused_cold):
    with daemon.scratch() as scratch:
        case(scratch)
for each in ("postcopy", "hybrid"):
    with daemon.scratch() as scratch:
        paused_before_its_switchover(scratch, each)
