# SPDX-License-Identifier: Apache-2.0
"""The new store's filesystem fills up in mid-hydration: the job is paused for want of room, reads are served from the
old store, commands are answered, and the hydration goes on by itself when there is room."""
import os

import moves
from moves import daemon

nbd = daemon.import_nbd(__file__)
SIZE = 16 * moves.MIB


def connected(disk):
    client = nbd.NBD()
    client.set_export_name(daemon.EXPORT)
    client.connect_unix(disk.socket_path)
    return client


def run(place, mount, reverse):
    image, new = place.path("old.img"), f"{mount}/new.img"
    daemon.make_image(image, SIZE, holes=False)
    with open(image, "rb") as f:
        content = f.read()
    with daemon.Daemon(place.folder, image) as disk:
        job = disk.start_migration(new, "postcopy", "--bwlimit", "1MiB/s", "--reverse-mirror", reverse)
        daemon.until(lambda: disk.job(job)["phase"] == "hydrating", "the switchover")
        daemon.run("dd", "if=/dev/zero", f"of={mount}/hog", "bs=64k")  # until it is full
        assert disk.cli("set", job, "bwlimit=none").returncode == 0
        shown = daemon.until(lambda: disk.job(job)["error"], "the job to say it")
        assert "filling the new store" in shown["message"] and shown["code"] == "no-space", shown
        assert disk.job(job)["state"] == "paused" and disk.job(job)["paused_because"] == shown["message"]
        assert disk.cli("status").returncode == 0
        client = connected(disk)
        for mib in range(15, 0, -1):
            at = mib * moves.MIB + 4096
            assert client.pread(8192, at) == content[at:at + 8192], mib
        assert disk.job(job)["state"] == "paused"
        os.unlink(f"{mount}/hog")
        ended = disk.wait_job(job)
        assert ended["state"] == "done", ended
        client.shutdown()
        with open(new, "rb") as f:
            assert f.read() == content
        assert disk.cli("stop").returncode == 0


for mirrored in ("on", "off"):
    with daemon.scratch() as scratch:
        here = moves.Scene(scratch, None, None, None)
        with moves.small_filesystem(here) as small:
            run(here, small, mirrored)
