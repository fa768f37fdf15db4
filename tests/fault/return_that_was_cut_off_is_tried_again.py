# SPDX-License-Identifier: Apache-2.0
"""A return that ends with its daemon, or is aborted while it waits for its disk, can be tried again: what it has copied
is marked still as what has changed. Not where somebody has put another image in the old one's place."""
import os
import shutil

import moves
from moves import daemon
from state_folder import StateFolder

daemon.need("qemu-io")
SIZE = 16 * moves.MIB


def job(host):
    return host.shown("status", "vm1")


def cut_off(host, *options):
    host.ok("migrate", "vm1", "--mode", "return", "--bwlimit", "256KiB/s", "--detach", *options)
    daemon.until(lambda: job(host)["bytes_copied"] > 0, "its first bytes", pause=0.05)
    host.kill()


def wait_for_disk(host):
    daemon.until(lambda: host.shown("ls", "disks")["disks"], "the disk", pause=0.05)


def check(folder, host):
    a, b, c = (os.path.join(folder, name) for name in ("a.img", "b.img", "c.img"))
    daemon.make_image(a, SIZE)
    host.start()
    host.ok("serve", "vm1", "--source", a)
    host.ok("migrate", "vm1", "--to", b, "--keep-record")
    daemon.ok("qemu-io", "-f", "raw", "-c", "write -P 0x33 0 4M", host.uri())

    cut_off(host, "--on-restart", "abort")
    host.start()
    wait_for_disk(host)
    assert job(host)["state"] == "failed" and "--on-restart abort" in job(host)["error"]["message"], job(host)
    cut_off(host)

    os.rename(b, b + ".away")
    host.start()
    host.ok("abort", "vm1")
    assert job(host)["state"] == "aborted", job(host)
    os.rename(b + ".away", b)
    wait_for_disk(host)
    daemon.until(lambda: job(host)["state"] == "aborted", "the abort", pause=0.05)
    daemon.ok("qemu-io", "-f", "raw", "-c", "write -P 0x44 8M 64k", host.uri())
    host.ok("migrate", "vm1", "--mode", "return", "--keep-record")
    assert daemon.same(a, b), "the disk is not what it was"

    daemon.ok("qemu-io", "-f", "raw", "-c", "write -P 0x55 0 4M", host.uri())
    cut_off(host, "--on-restart", "abort")
    shutil.copyfile(b, c)
    os.replace(c, b)
    host.start()
    wait_for_disk(host)
    refused = host.cli("migrate", "vm1", "--mode", "return")
    assert refused.returncode == 9 and "nothing says that it has left" in refused.stderr, refused


with daemon.scratch() as scratch, StateFolder(os.path.join(scratch, "state")) as server:
    check(scratch, server)
