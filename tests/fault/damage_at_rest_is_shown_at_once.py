# SPDX-License-Identifier: Apache-2.0
"""Data at rest that is damaged (M21): the disk and its job say so while requests still wait for it to be put right,
which it then is."""
import os

import moves
from moves import daemon
from state_folder import StateFolder

SIZE = 8 * moves.MIB
AT = 5 * moves.MIB
SAYS = "what its manifest says"


def flip(path):
    """One byte, and the file's time as it was."""
    times = os.stat(path)
    with open(path, "r+b") as image:
        image.seek(AT)
        byte = image.read(1)
        image.seek(AT)
        image.write(bytes([byte[0] ^ 0xFF]))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def check(folder, host):
    rest, local = os.path.join(folder, "rest.img"), os.path.join(folder, "local.img")
    daemon.make_image(rest, SIZE, holes=False)
    host.start()
    host.ok("serve", "vm1", "--source", rest)
    host.ok("migrate", "vm1", "--to", local, "--mode", "shared", "--hydrate", "never", "--base-patience", "10m")
    for words in (("status",), ("status", "vm1"), ("ls", "disks")):
        assert "trouble" not in host.ok(*words), words
    flip(rest)
    settles = daemon.Process([daemon.built("blockmig"), "--state-dir", host.state, "settle", "vm1"],
                             os.path.join(folder, "settle.log"))
    daemon.until(lambda: SAYS in host.ok("status", "vm1"), "the disk to say what is wrong")
    for words in (("status",), ("ls", "disks"), ("ls", "disks", "-o", "json")):
        assert SAYS in host.ok(*words), words
    daemon.until(lambda: SAYS in str(host.shown("status", "vm1")["error"]), "the job to say what it waits for")
    assert host.shown("status", "vm1")["state"] == "running"
    flip(rest)
    daemon.until(lambda: not settles.alive(), "the disk to be settled", seconds=60)
    assert "trouble" not in host.ok("status", "vm1") and SAYS not in host.ok("status", "vm1")
    host.stop()


with daemon.scratch() as scratch, StateFolder(os.path.join(scratch, "s")) as state:
    check(scratch, state)
