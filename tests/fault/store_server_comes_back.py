# SPDX-License-Identifier: Apache-2.0
"""A store's NBD server that leaves and returns: what has nothing to lose waits and goes on, a disk and the old store
of a hydration alike; a disk with unflushed writes fails until it is served anew (I1)."""
import os
import subprocess

import moves
from moves import daemon

nbd = daemon.import_nbd(__file__)
SIZE = 8 * moves.MIB
READER = "import os; h.connect_uri(os.environ['URI']); h.pread(4096, 65536)"


class Store:
    """An image behind nbdkit, which can be killed and come back."""

    def __init__(self, folder):
        self.folder = folder
        self.image = daemon.make_image(os.path.join(folder, "store.img"), SIZE, holes=False)
        self.server = None
        self.come()

    def come(self):
        self.server = daemon.nbdkit(self.folder, "file", self.image, name="store")

    def leave(self):
        self.server.kill()
        os.unlink(self.server.socket_path)

    def content(self, offset):
        with open(self.image, "rb") as f:
            f.seek(offset)
            return f.read(4096)


def trouble(disk):
    return disk.get(f"/v1/disks/{daemon.EXPORT}")["trouble"]


def in_background(uri):
    env = dict(os.environ, URI=uri, PATH="/usr/bin:" + os.environ.get("PATH", ""))
    return subprocess.Popen(["nbdsh", "-c", READER], env=env, stdin=subprocess.DEVNULL,
                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def disk_waits_and_goes_on(folder):
    store = Store(folder)
    with daemon.Daemon(folder, store.server.uri) as disk:
        client = nbd.NBD()
        client.connect_uri(disk.uri)
        client.pwrite(b"\x11" * 4096, 0)
        client.flush()
        store.leave()
        waiting = in_background(disk.uri)
        seen = daemon.until(lambda: trouble(disk), "the loss to be noticed")
        assert "being connected again" in seen, seen
        # What the last try said is another text than what the loss itself did.
        daemon.until(lambda: trouble(disk) in disk.cli("status", daemon.EXPORT).stdout, "the status to say it")
        store.come()
        assert waiting.wait(60) == 0, "a read that waited has failed"
        assert bytes(client.pread(4096, 0)) == b"\x11" * 4096
        daemon.until(lambda: trouble(disk) == "", "the trouble to be over")

        # Not flushed: what the server had in memory may be gone.
        client.pwrite(b"\x22" * 4096, 4096)
        store.leave()
        fails(client)
        assert "serve the disk anew" in trouble(disk), trouble(disk)
        store.come()
        fails(client)
        client.shutdown()
        disk.cli("detach", daemon.EXPORT)  # says that the store cannot be flushed
        again = disk.cli("serve", daemon.EXPORT)
        assert again.returncode == 0, again.stderr
        client = nbd.NBD()
        client.connect_uri(disk.uri)
        assert bytes(client.pread(4096, 0)) == b"\x11" * 4096
        client.shutdown()
        assert disk.cli("stop").returncode == 0
    store.server.stop()


def fails(client):
    try:
        client.pread(4096, 0)
    except nbd.Error:
        return
    raise AssertionError("a store that may have lost writes was gone on with (I1)")


def base_waits_and_goes_on(folder):
    store = Store(folder)
    with daemon.Daemon(folder, store.server.uri) as disk:
        target = os.path.join(folder, "target.img")
        job = disk.start_migration(target, "postcopy", "--reverse-mirror", "off", "--bwlimit", "1MiB/s")
        daemon.until(lambda: disk.job(job)["phase"] == "hydrating", "the switchover")
        daemon.until(lambda: disk.job(job)["hydration"]["bytes_hydrated"] > 0, "the first chunks")
        store.leave()
        waiting = in_background(disk.uri)
        daemon.until(lambda: trouble(disk) != "", "the loss to be noticed")
        store.come()
        assert waiting.wait(60) == 0, "a read of what only the old store has has failed"
        assert disk.cli("set", job, "bwlimit=none").returncode == 0
        assert disk.wait_job(job, seconds=60)["state"] == "done"
        assert daemon.same(store.image, target), "the stores differ"
        assert disk.cli("stop").returncode == 0
    store.server.stop()


daemon.need("nbdkit", "nbdsh")
with daemon.scratch() as here:
    disk_waits_and_goes_on(here)
with daemon.scratch() as here:
    base_waits_and_goes_on(here)
