# SPDX-License-Identifier: Apache-2.0
"""dbt --on-stall mirror (M14): goes on as a mirror without beginning again, and converges."""
import stalling

with stalling.stalled_move("mirror") as (scene, image, job):
    ended = scene.disk.wait_job(job, seconds=150)
    assert ended["state"] == "done", ended
    assert ended["mode"] == "dbt" and ended["active_mode"] == "mirror", ended
    scene.client.hold()
    assert scene.client.check_file(image) == 0
    scene.client.resume()
