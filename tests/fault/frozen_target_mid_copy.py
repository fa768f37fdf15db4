# SPDX-License-Identifier: Apache-2.0
"""A target that freezes in the middle of the copy stalls neither guest nor control; abort needs it not (M4, M13, M16).

While the target is frozen the guest gets answers to new requests (I10), the control plane answers, and
abort returns with the guest on the source. Thawed afterwards, the target's late writes harm nobody (I9):
the next move to the same target is right.
"""
import moves
from moves import daemon

daemon.need("qemu-nbd")
for mode in ("dbt", "mirror"):
    with moves.scene(holes=False) as scene:
        image = scene.empty_target()
        with daemon.qemu_nbd(scene.folder, image) as target:
            job = scene.disk.start_migration(target.uri, mode, "--bwlimit", "4MiB/s")
            daemon.until(lambda: scene.disk.job(job)["bytes_copied"] > 0, "the copy to begin")
            target.freeze()
            scene.guest_goes_on()
            scene.control_answers()
            scene.guest_goes_on()
            assert scene.disk.job(job)["state"] == "running", scene.disk.job(job)
            scene.abort_at_once(job)
            scene.guest_goes_on()
            target.thaw()
            scene.disk.migrate(target.uri, mode)
            scene.guest_goes_on()
            scene.client.hold()
            assert scene.client.check_file(image) == 0
            scene.client.resume()
            scene.end()
            assert scene.disk.cli("stop").returncode == 0
