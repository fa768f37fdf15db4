# SPDX-License-Identifier: Apache-2.0
"""A target that freezes in the very flush of the switchover: the guest waits no longer than the fence.

The target stops itself in its n-th flush: the first ones come before the fence, a later one under it
(trap: QEMU's guest stays stalled for as long as the target is frozen). The guest must get answers while
the target is still frozen, and the job must end by abort or by itself with the guest on the source.
"""
import moves
from moves import daemon

MOST_FLUSHES_BEFORE_THE_FENCE = 24
MOST_TOO_LATE = 20


def phase_when_frozen(mode, freeze_at):
    """Freezes the target in that flush; the phase that the job was in. None: that flush came after the
    decision this time, or never, and the guest's disk is on the target, which it has to wait for."""
    with moves.scene("--rate", "100", "--renew", "20", size=4 * moves.MIB + moves.ODD) as scene:
        target, image, count = moves.flush_counting_target(scene, freeze_at)
        with target:
            job = scene.disk.start_migration(target.uri, mode, "--max-downtime", "5s")
            daemon.until(lambda: moves.flushes(count) >= freeze_at or
                         scene.disk.job(job)["state"] != "running", "the freezing flush", 90)
            frozen = scene.disk.job(job)
            assert frozen["state"] in ("running", "done"), (mode, freeze_at, frozen)
            if frozen["switched"] or frozen["state"] == "done":
                scene.give_up_client()  # its disk may stand still from any moment on
                return None
            scene.control_answers()
            if mode != "cold":  # cold parks the guest's writes on purpose until it ends
                scene.guest_goes_on(50)
            scene.abort_at_once(job)
            scene.guest_goes_on(50)
            target.thaw()
            return frozen["phase"]


for way in ("dbt", "mirror", "cold"):
    phases, too_late = [], 0
    # How many come before it depends on how long they take: every one up to the fence's own.
    while phases[-1:] != ["switching"]:
        assert len(phases) < MOST_FLUSHES_BEFORE_THE_FENCE and too_late < MOST_TOO_LATE, (way, phases, too_late)
        phase = phase_when_frozen(way, len(phases) + 1)
        if phase is None:  # fewer flushes than last time
            too_late += 1
            phases.pop()
        else:
            phases.append(phase)
    print(way, phases)
