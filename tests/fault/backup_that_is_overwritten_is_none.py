# SPDX-License-Identifier: Apache-2.0
"""A backup that a kill has left incomplete, and that blockmig itself then writes another disk over, is no backup any
more: an incremental onto it is refused, since no bitmap says in what it differs."""
import json
import os

import moves
from moves import daemon
from state_folder import StateFolder

daemon.need("qemu-io")
SIZE = 8 * moves.MIB


def point_in_time(host, copy):
    host.ok("migrate", "vm2", "--to", copy, "--mode", "snapshot", "--point-in-time")


def aborted_move(host, copy):
    host.ok("migrate", "vm2", "--to", copy, "--mode", "mirror", "--bwlimit", "1MiB/s", "--detach")
    daemon.until(lambda: host.shown("status", "vm2")["bytes_copied"] > 0, "the first bytes", pause=0.05)
    host.ok("abort", "vm2")
    daemon.until(lambda: host.shown("status", "vm2")["state"] == "aborted", "the abort", pause=0.05)


def is_incomplete(copy):
    with open(copy + ".blockmig-backup", encoding="ascii") as f:
        return json.load(f)["state"] == "incomplete"


def leave_incomplete(host, copy):
    host.ok("backup", "vm1", copy, "--bitmap", "mon")
    daemon.ok("qemu-io", "-f", "raw", "-c", "write -P 0x33 0 2M", host.uri())
    host.ok("backup", "vm1", copy, "--since", "mon", "--on-restart", "abort", "--bwlimit", "1KiB/s", "--detach")
    daemon.until(lambda: is_incomplete(copy), "the incremental to begin", pause=0.05)
    host.kill()
    host.start()
    daemon.until(lambda: len(host.shown("ls", "disks")["disks"]) == 2, "the disks", pause=0.05)


def check(folder, overwrite):
    copy = os.path.join(folder, "copy.img")
    with StateFolder(os.path.join(folder, "state")) as host:
        host.start()
        for disk in ("vm1", "vm2"):
            image = daemon.make_image(os.path.join(folder, disk + ".img"), SIZE, holes=False)
            host.ok("serve", disk, "--source", image)
        daemon.ok("qemu-io", "-f", "raw", "-c", f"write -P 0x22 0 {SIZE}", host.uri("vm2"))
        leave_incomplete(host, copy)
        overwrite(host, copy)
        done = host.cli("backup", "vm1", copy, "--since", "mon")
        assert done.returncode == 9 and "is no copy made by" in done.stderr, (done.returncode, done.stderr)
        host.ok("backup", "vm1", copy)


for each in (point_in_time, aborted_move):
    with daemon.scratch() as scratch:
        check(scratch, each)
