# SPDX-License-Identifier: Apache-2.0
"""The target's filesystem fills up, with --on-target-error fail: the job fails and says so, the guest stays."""
import os
import subprocess

import moves
from moves import daemon

with moves.scene("--rate", "500", size=16 * moves.MIB + moves.ODD, holes=False) as scene:
    mount = scene.path("fs")
    os.mkdir(mount)
    command = ["mount", "-t", "tmpfs", "-o", "size=20m", "none", mount]
    if subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode != 0:
        daemon.skip("not allowed to mount a small filesystem")
    try:
        for mode in ("dbt", "mirror"):
            job = scene.disk.start_migration(mount + "/x.img", mode, "--bwlimit", "4MiB/s",
                                             "--on-target-error", "fail")
            daemon.until(lambda: scene.disk.job(job)["bytes_copied"] > 0, "the copy to begin")
            daemon.run("dd", "if=/dev/zero", f"of={mount}/hog", "bs=1M")  # until it is full
            ended = scene.disk.wait_job(job, seconds=60)
            assert ended["state"] == "failed", ended
            assert ended["error"]["code"] == "no-space", ended["error"]
            assert "x.img" in ended["error"]["message"], ended["error"]
            scene.guest_is_on_source()
            scene.guest_goes_on()
            os.unlink(mount + "/hog")
            assert not os.path.exists(mount + "/x.img"), "the half copy was left behind"
    finally:
        subprocess.run(["umount", "-l", mount], check=True)
