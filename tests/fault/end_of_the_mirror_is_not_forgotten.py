# SPDX-License-Identifier: Apache-2.0
"""The old store fails one mirrored write in mid-hydration: what is acknowledged without it is known not to be there,
also to a daemon that comes after kill -9."""
import os

import moves
from moves import daemon
from state_folder import StateFolder

daemon.need("qemu-io", "nbdkit", "nbdsh")


def hydration(server):
    shown = server.shown("status", "vm1")["hydration"]
    return shown["reverse_mirror"], shown["depends_on"]


def write(server, pattern):
    # Without a flush, which qemu-io ends with: that records the end of the mirror by itself.
    daemon.nbdsh("-u", server.uri(), "-c", f"h.pwrite(bytes([{pattern}]) * 65536, 10 << 20)")


def again(server):
    server.start()
    daemon.until(lambda: server.shown("ls", "disks")["disks"], "the disk", pause=0.05)


def check(server, folder):
    old, new, broken = (os.path.join(folder, name) for name in ("old.img", "new.img", "broken"))
    daemon.make_image(old, 16 * moves.MIB, holes=False)
    with daemon.nbdkit(folder, "--filter=error", "file", old, "error-pwrite=EIO", "error-pwrite-rate=100%",
                       f"error-pwrite-file={broken}") as kit:
        server.start()
        server.ok("serve", "vm1", "--source", kit.uri)
        server.ok("migrate", "vm1", "--to", new, "--mode", "postcopy", "--bwlimit", "100KiB/s", "--detach")
        daemon.until(lambda: server.shown("ls", "disks")["disks"][0]["store"].endswith("new.img"), "the switchover")
        write(server, 0x11)
        server.stop()  # so that what was written is durably present
        again(server)
        assert hydration(server) == (True, ""), hydration(server)
        with open(broken, "wb"):
            pass
        write(server, 0x22)
        os.unlink(broken)
        assert hydration(server) == (False, "both stores"), hydration(server)
        server.kill()
        again(server)
        assert hydration(server) == (False, "both stores"), hydration(server)
        daemon.ok("qemu-io", "-f", "raw", server.uri(), "-c", "read -P 0x22 10M 64k")
        server.kill()


with daemon.scratch() as scratch, StateFolder(os.path.join(scratch, "state")) as daemons:
    check(daemons, scratch)
