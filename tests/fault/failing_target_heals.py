# SPDX-License-Identifier: Apache-2.0
"""An NBD target answers EIO to writes for a while: the job pauses with the reason, and then outlasts it."""
import os

import moves
from moves import daemon

daemon.need("nbdkit")
for mode in ("dbt", "mirror", "cold"):
    with moves.scene("--rate", "500", holes=False) as scene:
        image = scene.empty_target()
        switch = scene.path("fail")
        server = daemon.nbdkit(scene.folder, "--filter=error", "file", image, "error-pwrite=EIO",
                               "error-pwrite-rate=100%", f"error-pwrite-file={switch}",
                               name="target")
        with server as target:
            job = scene.disk.start_migration(target.uri, mode, "--bwlimit", "8MiB/s", "--retry-for",
                                             "500ms", "--checkpoint-interval", "200ms")
            daemon.until(lambda: scene.disk.job(job)["bytes_copied"] > 0, "the copy to begin")
            with open(switch, "w", encoding="ascii"):
                pass
            held = scene.disk.wait_job(job, "paused", "done", "failed", seconds=60)
            assert held["state"] == "paused", held
            assert held["target_errors"] > 0 and held["error"]["code"] == "io-error", held
            scene.control_answers()
            scene.guest_is_on_source()
            scene.guest_goes_on()
            os.unlink(switch)
            ended = scene.disk.wait_job(job, seconds=60)
            assert ended["state"] == "done", ended
            scene.guest_goes_on()
            scene.client.hold()
            assert scene.client.check_file(image) == 0
            scene.client.resume()
            scene.end()
            assert scene.disk.cli("stop").returncode == 0
