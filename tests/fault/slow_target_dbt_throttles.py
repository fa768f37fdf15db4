# SPDX-License-Identifier: Apache-2.0
"""dbt --on-stall throttle (M14): slows the guest's writes, says so, converges, and takes the brake off again."""
import stalling
from moves import daemon

with stalling.stalled_move("throttle") as (scene, image, job):
    daemon.until(lambda: scene.disk.job(job)["throttle_bytes_per_second"] > 0, "the brake", 60)
    ended = scene.disk.wait_job(job, seconds=150)
    assert ended["state"] == "done" and ended["active_mode"] == "dbt", ended
    assert ended["throttle_bytes_per_second"] == 0, ended
    scene.client.hold()
    assert scene.client.check_file(image) == 0
    scene.client.resume()
    scene.guest_goes_on(1000)
