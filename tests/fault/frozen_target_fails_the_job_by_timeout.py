# SPDX-License-Identifier: Apache-2.0
"""With --on-target-error fail, a target that is silent for --target-timeout fails the job by itself (I8)."""
import moves
from moves import daemon

daemon.need("qemu-nbd")
for mode in ("dbt", "mirror"):
    with moves.scene(holes=False) as scene:
        with daemon.qemu_nbd(scene.folder, scene.empty_target()) as target:
            job = scene.disk.start_migration(target.uri, mode, "--bwlimit", "4MiB/s",
                                             "--target-timeout", "2s",
                                             "--on-target-error", "fail")
            daemon.until(lambda: scene.disk.job(job)["bytes_copied"] > 0, "the copy to begin")
            target.freeze()
            ended = scene.disk.wait_job(job)
            assert ended["state"] == "failed", ended
            assert target.socket_path in ended["error"]["message"], ended["error"]
            scene.guest_is_on_source()
            scene.guest_goes_on()
            target.thaw()
