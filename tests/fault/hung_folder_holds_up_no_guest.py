# SPDX-License-Identifier: Apache-2.0
"""Requests for images in a folder that hangs: neither the journal nor what a guest of another disk asks for
waits for them (I10)."""
import os
import subprocess

import moves
from moves import daemon
from hung_folder import HungFolder
from state_folder import StateFolder

SIZE = 64 * moves.MIB
HUNG_REQUESTS = 12


def checkpoints(server):
    return server.shown("status", "vm1")["checkpoints"]


def hung_requests(server, hung):
    return [subprocess.Popen([daemon.built("blockmig"), "--state-dir", server.state, "serve", f"x{i}", "--source",
                              hung.at(f"{i}.img")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            for i in range(HUNG_REQUESTS)]


def guest_is_served(server):
    """A write into a region that has gone quiet waits for a commit; block status and trims need threads too."""
    daemon.ok("qemu-io", "-f", "raw", "-c", "write 20M 4k", "-c", "discard 30M 64k", server.uri(), timeout=30)
    daemon.ok("qemu-img", "map", "-f", "raw", server.uri(), timeout=30)
    server.ok("bitmap", "add", "vm1", "b0")


daemon.need("qemu-io", "qemu-img")
with daemon.scratch() as folder, HungFolder(folder) as hung, \
        StateFolder(os.path.join(folder, "state")) as server:
    image = daemon.make_image(os.path.join(folder, "a.img"), SIZE, holes=False)
    server.start()
    server.ok("serve", "vm1", "--source", image)
    server.ok("migrate", "vm1", "--to", os.path.join(folder, "b.img"), "--mode", "dbt", "--detach",
              "--bwlimit", "2MiB/s", "--checkpoint-interval", "200ms")
    daemon.until(lambda: checkpoints(server) >= 5, "regions to go quiet")
    hung.hang()
    asked = hung_requests(server, hung)
    for request in asked:  # each has been told that it is being worked on
        assert request.wait(60) != 0
    before = checkpoints(server)
    guest_is_served(server)
    daemon.until(lambda: checkpoints(server) > before, "the journal to save another checkpoint")
    hung.let_go()
    server.stop()
