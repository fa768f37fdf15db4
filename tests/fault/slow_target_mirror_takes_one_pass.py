# SPDX-License-Identifier: Apache-2.0
"""The guest writes faster than the target takes it (M15): mirror still ends after one pass, and is right."""
import moves
from moves import daemon

daemon.need("nbdkit")
with moves.scene("--writes", "100", "--largest", "64k", "--connections", "2",
                 size=8 * moves.MIB + moves.ODD, holes=False) as scene:
    image = scene.empty_target()
    with daemon.nbdkit(scene.folder, "--filter=rate", "file", image, "rate=64M",
                       "burstiness=0.1") as target:
        job = scene.disk.migrate(target.uri, "mirror", "--max-downtime", "1s", timeout=160)
        assert job["state"] == "done" and job["passes"] == 1, job
        assert job["active_mode"] == "mirror", job
        scene.client.clean_report()
        scene.client.hold()
        assert scene.client.check_file(image) == 0
        scene.client.resume()
        scene.end()
        assert scene.disk.cli("stop").returncode == 0
