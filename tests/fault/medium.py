# SPDX-License-Identifier: Apache-2.0
"""A filesystem of its own, for what a test takes away from a running daemon."""
import os
import time

import moves
from moves import daemon

MOUNT_TRIES = 100
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
        # Whoever has a mount namespace of his own keeps the filesystem that was cut: then it is that again.
        for _ in range(MOUNT_TRIES):
            refused = self._mount()
            if refused or self._is_alive():
                return refused
            self.unmount()
            time.sleep(0.1)
        return "the filesystem that was cut is mounted still, in another mount namespace"

    def _mount(self):
        done = daemon.run("mount", "-o", "loop", self.image, self.folder)
        self.mounted = done.returncode == 0
        return done.stderr.strip()

    def _is_alive(self):
        try:
            os.listdir(self.folder)
        except OSError:
            return False
        return True

    def cut(self):
        daemon.ok("xfs_io", "-x", "-c", "shutdown", self.folder)

    def unmount(self):
        if self.mounted:
            daemon.until(lambda: daemon.run("umount", self.folder).returncode == 0, "the file system to be free")
            # Somebody who has copied our mounts keeps it for a moment, and would have it mounted again as it is, cut.
            daemon.until(lambda: not daemon.ok("losetup", "-j", self.image), "the medium to be let go",
                         seconds=120, pause=0.1)
        self.mounted = False
