# SPDX-License-Identifier: Apache-2.0
"""The old store of a disk that still fetches from it is lost (M19): what was fetched is served, the rest fails and is
never zeros; each command that cannot help says what can; a detach keeps what is recorded, and serving the disk again
goes on with it once the old store is back."""
import os

import moves
from moves import daemon
from state_folder import StateFolder

nbd = daemon.import_nbd(__file__)
daemon.need("qemu-nbd")
SIZE = 16 * moves.MIB
BUSY, PRECONDITION = 5, 9


def refused(host, code, *words):
    said = host.cli(*words)
    assert said.returncode == code, (words, said)
    return said.stderr


def reads(host, content, at):
    """Whether that MiB is to be had; it must be right."""
    client = nbd.NBD()
    client.connect_uri(host.uri())
    try:
        assert client.pread(moves.MIB, at) == content[at:at + moves.MIB]
        return True
    except nbd.Error:
        return False


def check(folder, host):
    image, new = os.path.join(folder, "old.img"), os.path.join(folder, "new.img")
    daemon.make_image(image, SIZE, holes=False)
    with open(image, "rb") as f:
        content = f.read()
    store = daemon.qemu_nbd(folder, image)
    try:
        host.start()
        host.ok("serve", "vm1", "--source", store.uri)
        host.ok("migrate", "vm1", "--to", new, "--mode", "postcopy", "--bwlimit", "64KiB/s", "--base-patience", "1s", "--detach")
        daemon.until(lambda: host.shown("status", "vm1")["phase"] == "hydrating", "the switchover")
        job = host.shown("status", "vm1")["id"]
        assert reads(host, content, 0)
        store.kill()
        os.unlink(store.socket_path)
        assert reads(host, content, 0) and not reads(host, content, 8 * moves.MIB)
        for words in (("migrate", "vm1", "--to", os.path.join(folder, "c.img"), "--mode", "dbt"),
                      ("backup", "vm1", os.path.join(folder, "d.img"))):
            said = refused(host, BUSY, *words)
            assert "blockmig abort" not in said and store.uri in said and "'blockmig detach vm1'" in said, said
        for words in (("abort", job), ("detach", "vm1", "--forget")):
            said = refused(host, PRECONDITION, *words)
            assert store.uri in said and "'blockmig detach vm1'" in said, said
        gone = host.cli("detach", "vm1")
        assert gone.returncode in (0, 1), gone  # 1: what the old store alone had was not durable
        assert "vm1" not in host.ok("ls", "disks")
        daemon.until(lambda: "job interrupted: " in host.process.log(), "the end of its job to be logged")
        assert "job failed" not in host.process.log(), host.process.log()
        said = host.cli("serve", "vm1").stderr
        assert "is not whole at" in said and store.socket_path in said, said
        host.kill()
        host.start()
        assert "vm1" not in host.ok("ls", "disks")
        store = daemon.qemu_nbd(folder, image)
        host.ok("serve", "vm1")
        assert host.shown("status", "vm1")["id"] == job and host.shown("status", "vm1")["phase"] == "hydrating"
        assert reads(host, content, 8 * moves.MIB)
        host.ok("set", "vm1", "bwlimit=none")
        daemon.until(lambda: host.shown("status", "vm1")["state"] == "done", "the end of the hydration")
    finally:
        store.kill()
    assert reads(host, content, 12 * moves.MIB)
    host.stop()
    assert daemon.same(image, new)


with daemon.scratch() as scratch, StateFolder(os.path.join(scratch, "s")) as state:
    check(scratch, state)
