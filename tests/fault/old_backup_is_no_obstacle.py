# SPDX-License-Identifier: Apache-2.0
"""A file was a backup that was cut off, then a disk's store, then what the disk fetches from: it is served after a
crash, for what a record of that backup says is about what is not there any more."""
import os
import shutil

import moves
from moves import daemon
from state_folder import StateFolder

SIZE = 16 * moves.MIB


def check(server, folder):
    a, b, c = (os.path.join(folder, name) for name in ("a.img", "b.img", "c.img"))
    record = b + ".blockmig-backup"
    daemon.make_image(a, SIZE, holes=False)
    server.start()
    server.ok("serve", "vm1", "--source", a)
    with open(b, "wb") as image:
        image.truncate(SIZE)
    server.ok("backup", "vm1", b, "--bwlimit", "1MiB/s", "--detach")
    daemon.until(lambda: os.path.exists(record), "the backup to begin", pause=0.05)
    server.ok("abort", "vm1")
    daemon.until(lambda: server.shown("status", "vm1")["state"] == "aborted", "the abort", pause=0.05)
    refused = server.cli("serve", "vm2", "--source", b)
    assert refused.returncode == 9, refused
    shutil.copyfile(record, record + ".kept")
    server.ok("migrate", "vm1", "--to", b, "--mode", "dbt")
    assert not os.path.exists(record), "the disk's store has a record that it is half a backup"
    os.rename(record + ".kept", record)  # as a crash leaves it, just after the decision
    server.ok("migrate", "vm1", "--to", c, "--mode", "postcopy", "--bwlimit", "1MiB/s", "--detach")
    daemon.until(lambda: server.shown("ls", "disks")["disks"][0]["store"].endswith("c.img"), "the switchover")
    server.kill()
    server.start()
    daemon.until(lambda: server.shown("ls", "disks")["disks"], "the disk", seconds=10, pause=0.05)
    server.ok("set", "vm1", "bwlimit=none")
    daemon.until(lambda: server.shown("status", "vm1")["state"] == "done", "the disk to be whole", pause=0.05)
    same = daemon.run("cmp", a, c)
    assert same.returncode == 0, same


with daemon.scratch() as scratch, StateFolder(os.path.join(scratch, "state")) as daemons:
    check(daemons, scratch)
