# SPDX-License-Identifier: Apache-2.0
"""kill -9 of the target with --on-target-error fail (M4): the job fails by itself, names it; the guest stays."""
import moves
from moves import daemon

daemon.need("qemu-nbd")
for mode in ("dbt", "mirror", "cold"):
    with moves.scene(holes=False) as scene:
        with daemon.qemu_nbd(scene.folder, scene.empty_target()) as target:
            job = scene.disk.start_migration(target.uri, mode, "--bwlimit", "4MiB/s",
                                             "--on-target-error", "fail")
            daemon.until(lambda: scene.disk.job(job)["bytes_copied"] > 0, "the copy to begin")
            target.kill()
            ended = scene.disk.wait_job(job, seconds=60)
            assert ended["state"] == "failed", ended
            assert target.socket_path in ended["error"]["message"], ended["error"]
            scene.control_answers()
            scene.guest_is_on_source()
            scene.guest_goes_on()
            again = scene.disk.migrate(scene.path("other.img"), mode)
            assert again["state"] == "done"
            scene.guest_is_on(scene.path("other.img"))
