# SPDX-License-Identifier: Apache-2.0
"""A bit rots on the target's medium while the page cache still shows the right one: `--verify full` finds it."""
import os
import subprocess

import moves
from moves import daemon

BLOCK = 4096
AT = 1 * moves.MIB + 5 * BLOCK


def flip(path, offset):
    with open(path, "r+b") as f:
        f.seek(offset)
        byte = f.read(1)[0]
        f.seek(offset)
        f.write(bytes([byte ^ 1]))
        os.fsync(f.fileno())


with moves.scene("--rate", "20", size=16 * moves.MIB + moves.ODD, holes=False) as scene:
    medium, mount = scene.path("medium"), scene.path("fs")
    os.mkdir(mount)
    with open(medium, "wb") as f:
        f.truncate(64 * moves.MIB)
    daemon.need("mkfs.ext4", "mount")
    daemon.ok("mkfs.ext4", "-q", medium)
    if subprocess.run(["mount", "-o", "loop", medium, mount], stderr=subprocess.DEVNULL,
                      check=False).returncode != 0:
        daemon.skip("not allowed to mount a filesystem on a loop device")
    try:
        target = mount + "/x.img"
        job = scene.disk.start_migration(target, "dbt", "--verify", "full", "--bwlimit", "4MiB/s",
                                         "--max-downtime", "2s")
        daemon.until(lambda: scene.disk.job(job)["bytes_copied"] > 3 * moves.MIB, "part of the copy")
        assert scene.disk.cli("pause", job).returncode == 0
        daemon.ok("sync", "-f", target)
        scene.client.hold()
        with open(target, "rb") as f:
            f.seek(AT)
            block = f.read(BLOCK)
        with open(medium, "rb") as f:
            place = f.read().find(block)
        assert place >= 0, "the block is not on the medium"
        flip(medium, place + 77)
        with open(target, "rb") as f:
            f.seek(AT)
            assert f.read(BLOCK) == block, "the page cache does not hide the damage"
        assert scene.disk.cli("set", job, "bwlimit=none").returncode == 0
        assert scene.disk.cli("resume", job).returncode == 0
        ended = scene.disk.wait_job(job, seconds=60)
        assert ended["state"] == "failed", ended
        assert ended["error"]["code"] == "mismatch", ended["error"]
        assert f"at offset {AT + 77}" in ended["error"]["message"], ended["error"]
        scene.client.resume()
        scene.guest_is_on_source()
        scene.guest_goes_on(20)
    finally:
        subprocess.run(["umount", "-l", mount], check=True)
