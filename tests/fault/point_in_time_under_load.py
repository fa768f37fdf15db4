# SPDX-License-Identifier: Apache-2.0
"""--point-in-time (M12): the copy is the disk of the instant at which it began, whatever the guest writes meanwhile."""
import filecmp
import shutil

import moves
from moves import daemon

with moves.scene("--writes", "100", "--largest", "64k", size=16 * moves.MIB + moves.ODD, holes=False) as scene:
    scene.client.hold()
    expected = scene.path("expected.img")
    shutil.copyfile(scene.image, expected)
    copy = scene.path("copy.img")
    job = scene.disk.start_migration(copy, "snapshot", "--point-in-time", "--bwlimit", "8MiB/s")
    daemon.until(lambda: scene.disk.job(job)["generations_begun"] == 1, "the instant")
    scene.client.resume()
    ended = scene.disk.wait_job(job, seconds=90)
    assert ended["state"] == "done", ended
    assert ended["chunks_kept"] > 0, ended
    assert ended["generations_complete"] == 1 and ended["epoch"] == 1, ended
    assert filecmp.cmp(expected, copy, shallow=False), "not the disk of that instant"
    assert not filecmp.cmp(expected, scene.image, shallow=False), "the guest wrote nothing"
    scene.guest_is_on_source()
    scene.guest_goes_on()
    # The next move is not in the way of what is left.
    moved = scene.disk.migrate(scene.path("moved.img"), "snapshot")
    assert moved["state"] == "done" and moved["generations_complete"] >= 1, moved
    scene.guest_is_on(scene.path("moved.img"))
