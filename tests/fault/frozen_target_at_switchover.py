# SPDX-License-Identifier: Apache-2.0
"""A target that freezes in the very flush of the switchover: the guest waits no longer than the fence.

The target stops itself in its n-th flush: the first ones come before the fence, a later one under it
(trap: QEMU's guest stays stalled for as long as the target is frozen). The guest must get answers while
the target is still frozen, and the job must end by abort or by itself with the guest on the source.
"""
import moves
from moves import daemon

for mode in ("dbt", "mirror", "cold"):
    for freeze_at in (1, 2):
        with moves.scene("--rate", "100", "--renew", "20", size=4 * moves.MIB + moves.ODD) as scene:
            target, image, count = moves.flush_counting_target(scene, freeze_at)
            with target:
                job = scene.disk.start_migration(target.uri, mode, "--max-downtime", "2s")
                daemon.until(lambda: moves.flushes(count) >= freeze_at or
                             scene.disk.job(job)["state"] != "running", "the freezing flush", 90)
                assert scene.disk.job(job)["state"] == "running", (mode, freeze_at,
                                                                  scene.disk.job(job))
                scene.control_answers()
                if mode != "cold":  # cold parks the guest's writes on purpose until it ends
                    scene.guest_goes_on(50)
                scene.abort_at_once(job)
                scene.guest_goes_on(50)
                target.thaw()
