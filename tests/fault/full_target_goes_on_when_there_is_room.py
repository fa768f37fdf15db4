# SPDX-License-Identifier: Apache-2.0
"""The target's filesystem fills up: the job pauses and says why, and goes on by itself when there is room."""
import os

import moves

with moves.scene("--rate", "500", size=16 * moves.MIB + moves.ODD, holes=False) as scene:
    with moves.small_filesystem(scene) as mount:
        for mode in ("cold", "mirror", "dbt"):
            job = scene.disk.start_migration(f"{mount}/{mode}.img", mode, "--bwlimit", "1MiB/s")
            hog = moves.fill_while_copying(scene, mount, job)
            held = scene.disk.wait_job(job, "paused", "done", "failed", seconds=60)
            assert held["state"] == "paused", held
            assert held["error"]["code"] == "no-space", held["error"]
            assert f"{mode}.img" in held["paused_because"], held
            shown = scene.disk.cli("status", job)
            assert held["paused_because"] in shown.stdout, shown
            scene.control_answers()
            scene.guest_is_on_source()
            scene.guest_goes_on()
            assert scene.disk.cli("set", job, "bwlimit=none").returncode == 0
            os.unlink(hog)
            # Asked to, it looks at once; without, it looks within ten seconds.
            if mode == "mirror":
                assert scene.disk.cli("resume", job).returncode == 0
            ended = scene.disk.wait_job(job, seconds=60)
            assert ended["state"] == "done", ended
            scene.guest_is_on(f"{mount}/{mode}.img")
            back = scene.disk.migrate(scene.image + f".{mode}", "dbt")
            assert back["state"] == "done"
            scene.image = scene.image + f".{mode}"
            os.unlink(f"{mount}/{mode}.img")
        scene.end()
