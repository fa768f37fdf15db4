# SPDX-License-Identifier: Apache-2.0
"""A store that still fetches from a folder is nothing to return to: its holes are not what the disk reads as."""
import os

import moves
from moves import daemon
from state_folder import StateFolder

daemon.need("qemu-io")


def check(server, folder):
    os.mkdir(os.path.join(folder, "shared"))
    a, b, c = (os.path.join(folder, name) for name in ("shared/a.img", "b.img", "c.img"))
    daemon.make_image(a, 16 * moves.MIB, holes=False)
    server.start()
    server.ok("serve", "vm1", "--source", a)
    daemon.ok("qemu-io", "-f", "raw", server.uri(), "-c", "write -P 0x33 3M 64k", "-c", "flush")
    server.ok("migrate", "vm1", "--to", b, "--mode", "shared", "--hydrate", "never")
    refused = server.cli("migrate", "vm1", "--to", c, "--mode", "dbt", "--keep-record")
    assert refused.returncode == 9 and "settle it first" in refused.stderr, refused
    server.ok("migrate", "vm1", "--to", c, "--mode", "dbt")
    nothing = server.cli("migrate", "vm1", "--to", b, "--mode", "return")
    assert nothing.returncode == 9 and "was not recorded" in nothing.stderr, nothing
    # Settled it is whole, and left like any other.
    server.ok("migrate", "vm1", "--to", a, "--mode", "shared", "--hydrate", "never")
    server.ok("settle", "vm1")
    server.ok("migrate", "vm1", "--to", b, "--keep-record")
    server.ok("migrate", "vm1", "--mode", "return")
    same = daemon.run("cmp", a, b)
    assert same.returncode == 0, same


with daemon.scratch() as scratch, StateFolder(os.path.join(scratch, "state")) as daemons:
    check(daemons, scratch)
