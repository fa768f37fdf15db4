# SPDX-License-Identifier: Apache-2.0
"""The new store is lost in mid-hydration, the old one is served instead (M18): no restart repeats the move by
itself."""
import os

import moves
from moves import daemon
from state_folder import StateFolder

daemon.need("qemu-io")


def state(server):
    shown = server.shown("ls", "disks")["disks"][0]
    return os.path.basename(shown["store"]), shown["epoch"], server.shown("status", "vm1")["state"]


def check(server, folder):
    old, new = (os.path.join(folder, name) for name in ("old.img", "new.img"))
    daemon.make_image(old, 16 * moves.MIB, holes=False)
    server.start()
    server.ok("serve", "vm1", "--source", old)
    server.ok("migrate", "vm1", "--to", new, "--mode", "postcopy", "--bwlimit", "1MiB/s", "--detach")
    daemon.until(lambda: state(server)[0] == "new.img", "the switchover")
    daemon.ok("qemu-io", "-f", "raw", server.uri(), "-c", "write -P 0x33 3M 64k", "-c", "flush")
    server.kill()
    os.unlink(new)
    server.start()
    server.ok("serve", "vm1", "--source", old, "--force-source")
    assert state(server) == ("old.img", 3, "failed"), state(server)
    daemon.ok("qemu-io", "-f", "raw", server.uri(), "-c", "read -P 0x33 3M 64k")
    for end in (server.stop, server.kill):
        end()
        server.start()
        daemon.until(lambda: server.shown("ls", "disks")["disks"], "the disk to be served again")
        assert state(server) == ("old.img", 3, "failed"), state(server)
        assert not os.path.exists(new), "the move has begun again"


with daemon.scratch() as scratch, StateFolder(os.path.join(scratch, "state")) as daemons:
    check(daemons, scratch)
