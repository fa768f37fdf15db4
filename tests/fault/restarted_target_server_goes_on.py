# SPDX-License-Identifier: Apache-2.0
"""kill -9 of an NBD target that caches writes, and its return: what it had not flushed is copied again."""
import os

import moves
from moves import daemon

daemon.need("nbdkit", "nbdcopy")


def serve(scene, image):
    # It writes back when it is flushed: killed, it loses all since (I11).
    return daemon.nbdkit(scene.folder, "--filter=cache", "file", image, "cache=writeback",
                         "cache-on-read=false", name="target")


for mode in ("dbt", "mirror", "cold"):
    with moves.scene("--rate", "500", holes=False) as scene:
        image = scene.empty_target()
        with serve(scene, image) as target:
            job = scene.disk.start_migration(target.uri, mode, "--bwlimit", "8MiB/s",
                                             "--checkpoint-interval", "500ms")
            daemon.until(lambda: scene.disk.job(job)["bytes_copied"] > 4 * moves.MIB, "half of the copy")
            target.kill()
            os.unlink(target.socket_path)
        daemon.until(lambda: scene.disk.job(job)["target_losses"] > 0, "the loss to be noticed")
        scene.control_answers()
        scene.guest_is_on_source()
        scene.guest_goes_on()
        with serve(scene, image) as target:
            ended = scene.disk.wait_job(job, seconds=60)
            assert ended["state"] == "done", ended
            assert ended["target_losses"] >= 1, ended
            scene.guest_goes_on()
            scene.client.hold()
            seen = scene.path("seen.img")
            daemon.ok("nbdcopy", target.uri, seen)
            assert scene.client.check_file(seen) == 0
            scene.client.resume()
            scene.end()
            assert scene.disk.cli("stop").returncode == 0
