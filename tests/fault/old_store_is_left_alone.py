# SPDX-License-Identifier: Apache-2.0
"""What a move has left is as it was at the decision, and is needed no more (M9): the disk is written to, served again
after a kill, and moved on, with the old store frozen in time, and then gone."""
import os
import shutil

import moves
from moves import daemon
from state_folder import StateFolder

SIZE = 8 * moves.MIB + moves.ODD


def check(folder, host, mode):
    old, kept, new, next_one = (os.path.join(folder, f"{mode}-{name}.img") for name in ("old", "kept", "new", "next"))
    daemon.make_image(old, SIZE, holes=False)
    host.ok("serve", mode, "--source", old)
    daemon.ok("qemu-io", "-f", "raw", "-c", "write -P 1 1M 64k", host.uri(mode))
    host.ok("migrate", mode, "--to", new, "--mode", mode)
    shutil.copyfile(old, kept)
    daemon.ok("qemu-io", "-f", "raw", "-c", "write -P 2 1M 128k", "-c", "discard 2M 1M", "-c", "flush", host.uri(mode))
    assert daemon.same(old, kept), mode
    os.unlink(old)
    host.kill()
    host.start()
    daemon.ok("qemu-io", "-f", "raw", "-c", "read -P 2 1M 128k", host.uri(mode))
    host.ok("migrate", mode, "--to", next_one)
    assert daemon.same(new, next_one), mode


with daemon.scratch() as scratch, StateFolder(os.path.join(scratch, "s")) as state:
    state.start()
    for each in ("cold", "snapshot", "dbt", "mirror", "auto"):
        check(scratch, state, each)
