# SPDX-License-Identifier: Apache-2.0
"""A state folder has one daemon: a second one says which process has it, and ends with 5 (I3)."""
import os

import daemon

with daemon.scratch() as folder:
    image = daemon.make_image(os.path.join(folder, "a.img"), 1 << 20)
    with daemon.Daemon(folder, image) as disk:
        second = daemon.run(daemon.built("blockmigd"), "--state-dir", disk.state_dir)
        assert second.returncode == 5, second
        assert disk.state_dir in second.stderr, second
        assert f"in use by process {disk.pid}" in second.stderr, second
        assert disk.get("/v1/disks")["disks"], "the first daemon has lost its disk"
    # A killed daemon's number is left in the folder and keeps nobody out.
    with daemon.Daemon(folder, image) as disk:
        disk.kill()
    with daemon.Daemon(folder, image) as disk:
        assert disk.get("/v1/disks")["disks"]
