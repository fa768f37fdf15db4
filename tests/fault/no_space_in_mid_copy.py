# SPDX-License-Identifier: Apache-2.0
"""The target's filesystem fills up, with --on-target-error fail (M4): the job fails and says so, the guest stays."""
import os

import moves

with moves.scene("--rate", "500", size=16 * moves.MIB + moves.ODD, holes=False) as scene:
    with moves.small_filesystem(scene) as mount:
        for mode in ("dbt", "mirror"):
            job = scene.disk.start_migration(mount + "/x.img", mode, "--bwlimit", "4MiB/s",
                                             "--on-target-error", "fail")
            hog = moves.fill_while_copying(scene, mount, job)
            ended = scene.disk.wait_job(job, seconds=60)
            assert ended["state"] == "failed", ended
            assert ended["error"]["code"] == "no-space", ended["error"]
            assert "x.img" in ended["error"]["message"], ended["error"]
            scene.guest_is_on_source()
            scene.guest_goes_on()
            os.unlink(hog)
            assert not os.path.exists(mount + "/x.img"), "the half copy was left behind"
