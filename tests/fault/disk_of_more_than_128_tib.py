# SPDX-License-Identifier: Apache-2.0
"""A disk of more than 128 TiB has a bitmap and moves like others: its regions do not grow beyond what a record says."""
import os

import sparse_images
from moves import daemon
from sparse_images import PIECE

TIB = 1 << 40
SIZE = 129 * TIB
DATA = (0, 100 * TIB, SIZE - PIECE)


def main():
    # XFS and tmpfs take such files.
    for parent in (None, "/dev/shm"):
        if parent and not os.path.isdir(parent):
            continue
        with daemon.scratch(parent) as folder:
            source, target = os.path.join(folder, "source.img"), os.path.join(folder, "target.img")
            try:
                sparse_images.put(source, SIZE, DATA)
            except OSError:
                continue
            with daemon.Daemon(folder, source) as disk:
                added = disk.cli("bitmap", "add", daemon.EXPORT, "changes")
                assert added.returncode == 0, added
                job = disk.migrate(target, "dbt")
                assert job["state"] == "done" and job["size_bytes"] == SIZE, job
                sparse_images.check(source, target, DATA, ())
            return
    daemon.skip("no file system here takes files of 129 TiB")


main()
