# SPDX-License-Identifier: Apache-2.0
"""A target that is frozen before the move begins: control answers, abort ends it at once, the guest stays."""
import moves
from moves import daemon

daemon.need("qemu-nbd")
for mode in ("dbt", "mirror", "cold"):
    with moves.scene() as scene:
        with daemon.qemu_nbd(scene.folder, scene.empty_target()) as target:
            target.freeze()
            job = scene.disk.start_migration(target.uri, mode)
            scene.control_answers()
            scene.guest_goes_on()
            assert scene.disk.job(job)["state"] == "running", scene.disk.job(job)
            scene.abort_at_once(job)
            scene.guest_goes_on()
            target.thaw()
