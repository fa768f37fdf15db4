# SPDX-License-Identifier: Apache-2.0
"""dbt --on-stall fail (M14): says `not converging` with numbers, ends with exit code 3, guest on the source."""
import stalling

with stalling.stalled_move("fail") as (scene, _, job):
    ended = scene.disk.wait_job(job)
    assert ended["state"] == "failed", ended
    assert ended["error"]["code"] == "not-converging", ended["error"]
    assert stalling.says_not_converging(ended["error"]["message"]), ended["error"]
    watched = scene.disk.cli("status", job, "-w", "-o", "json")
    assert watched.returncode == 3, watched
    scene.guest_is_on_source()
