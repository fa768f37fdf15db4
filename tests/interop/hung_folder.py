# SPDX-License-Identifier: Apache-2.0
"""A folder whose filesystem can be made to hang, as a network filesystem without its server does: every look at
a path in it waits until it is let go.

    with hung_folder.HungFolder(folder) as hung:
        hung.hang()

Skips the test where FUSE cannot be used.
"""
import os

import daemon


class HungFolder(daemon.Process):
    """nbdfuse; its file `disk` is an image of ours."""

    def __init__(self, folder, size=8 << 20):
        daemon.need("nbdfuse", "nbdkit")
        if not os.access("/dev/fuse", os.R_OK | os.W_OK):
            daemon.skip("/dev/fuse cannot be opened")
        self.path = os.path.join(folder, "hung")
        os.mkdir(self.path)
        self.image = os.path.join(folder, "hung.img")
        daemon.make_image(self.image, size)
        # Nothing that was looked at before is known when it hangs.
        uncached = "attr_timeout=0,entry_timeout=0,negative_timeout=0"
        super().__init__(["nbdfuse", "-o", uncached, self.disk,
                          "[", "nbdkit", "--exit-with-parent", "file", self.image, "]"], os.path.join(folder, "hung.log"))
        try:
            daemon.until(lambda: os.path.exists(self.disk) or not self.alive(), "nbdfuse's file")
        except BaseException:
            self.stop()
            raise
        if not self.alive():
            daemon.skip("nbdfuse cannot mount here: " + self.log().strip()[-200:])

    @property
    def disk(self):
        return os.path.join(self.path, "disk")

    def at(self, name):
        """The path of something that is not there, as far as anybody can tell."""
        return os.path.join(self.path, name)

    hang = daemon.Process.freeze
    let_go = daemon.Process.thaw

    def stop(self, seconds=20):
        """Let go first, so that nobody is left hanging, and unmounted."""
        self.thaw()
        daemon.run("umount", "-l", self.path)
        return super().stop(seconds)
