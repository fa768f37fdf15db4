# SPDX-License-Identifier: Apache-2.0
"""The new store freezes in mid-hydration: what it does not have is read from the old one, and said as trouble;
thawed, it takes what was on its way, and at the end it alone is the disk."""
import os

import moves
from moves import daemon

nbd = daemon.import_nbd(__file__)
daemon.need("qemu-nbd")
SIZE = 16 * moves.MIB


def trouble(disk):
    return disk.get(f"/v1/disks/{daemon.EXPORT}")["trouble"]


def run(folder, reverse):
    image, new = os.path.join(folder, "old.img"), os.path.join(folder, "new.img")
    daemon.make_image(image, SIZE, holes=False)
    with open(image, "rb") as f:
        content = f.read()
    with open(new, "wb") as f:
        f.truncate(SIZE)
    with daemon.qemu_nbd(folder, new) as target, daemon.Daemon(folder, image) as disk:
        job = disk.start_migration(target.uri, "postcopy", "--bwlimit", "1MiB/s", "--base-patience", "4s",
                                   "--reverse-mirror", reverse)
        daemon.until(lambda: disk.job(job)["phase"] == "hydrating", "the switchover")
        target.freeze()
        client = nbd.NBD()
        client.set_export_name(daemon.EXPORT)
        client.connect_unix(disk.socket_path)
        for mib in range(15, 3, -1):
            at = mib * moves.MIB + 4096
            assert client.pread(8192, at) == content[at:at + 8192], mib
        assert "the new store has not answered" in trouble(disk), trouble(disk)
        shown = daemon.until(lambda: disk.job(job)["error"], "the job to say it")
        assert "has not answered" in shown["message"], shown
        assert disk.job(job)["state"] == "running"
        target.thaw()
        daemon.until(lambda: not trouble(disk), "the trouble to end")
        client.pwrite(b"\1" * 4096, 15 * moves.MIB)
        assert disk.cli("set", job, "bwlimit=none").returncode == 0
        ended = disk.wait_job(job)
        assert ended["state"] == "done", ended
        client.flush()
        content = content[:15 * moves.MIB] + b"\1" * 4096 + content[15 * moves.MIB + 4096:]
        assert client.pread(SIZE // 2, SIZE // 2) == content[SIZE // 2:]
        client.shutdown()
        with open(new, "rb") as f:
            assert f.read() == content
        assert disk.cli("stop").returncode == 0


for mirrored in ("on", "off"):
    with daemon.scratch() as scratch:
        run(scratch, mirrored)
