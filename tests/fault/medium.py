# SPDX-License-Identifier: Apache-2.0
"""A filesystem of its own, for what a test takes away from a running daemon."""
import os

import moves
from moves import daemon

XFS_BYTES = 400 * moves.MIB


class Medium:
    """A filesystem whose power can be cut."""

    def __init__(self, folder):
        self.image = os.path.join(folder, "medium")
        self.folder = os.path.join(folder, "mounted")
        os.mkdir(self.folder)
        with open(self.image, "wb") as image:
            image.truncate(XFS_BYTES)
        daemon.ok("mkfs.xfs", "-q", self.image)
        self.mounted = False

    def mount(self):
        """Why not, if it cannot."""
        done = daemon.run("mount", "-o", "loop", self.image, self.folder)
        self.mounted = done.returncode == 0
        return done.stderr.strip()

    def cut(self):
        daemon.ok("xfs_io", "-x", "-c", "shutdown", self.folder)

    def unmount(self):
        if self.mounted:
            daemon.until(lambda: daemon.run("umount", self.folder).returncode == 0, "the file system to be free")
            # Somebody who has copied our mounts keeps it for a moment, and would have it mounted again as it is, cut.
            daemon.until(lambda: not daemon.ok("losetup", "-j", self.image), "the medium to be let go",
                         seconds=120, pause=0.1)
        self.mounted = False
