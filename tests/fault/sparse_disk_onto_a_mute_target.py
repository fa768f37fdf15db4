# SPDX-License-Identifier: Apache-2.0
"""A sparse disk of 64 GiB onto a server that cannot say what it has allocated, and holds something: the holes are
zeroed there without being read here (trap 9)."""
import os

import sparse_images
from moves import MIB, daemon
from sparse_images import PIECE

SIZE = 64 << 30
DATA = (0, SIZE // 3 // PIECE * PIECE, SIZE - PIECE)
POISON = (SIZE // 2, SIZE - 64 * MIB)

daemon.need("nbdkit")
with daemon.scratch() as folder:
    for mode in ("cold", "dbt", "mirror"):
        source, image = (os.path.join(folder, mode + end) for end in (".img", ".target"))
        sparse_images.put(source, SIZE, DATA)
        sparse_images.put(image, SIZE, POISON)
        with daemon.nbdkit(folder, "--filter=noextents", "file", image, name="mute-" + mode) as target, \
                daemon.Daemon(folder, source, name=mode) as disk:
            job = disk.migrate(target.uri, mode)
            assert job["state"] == "done" and job["bytes_zero"] > SIZE - 64 * MIB, job
            disk.cli("stop")
        sparse_images.check(source, image, DATA, POISON)
        os.unlink(source)
        os.unlink(image)
