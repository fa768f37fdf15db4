# SPDX-License-Identifier: Apache-2.0
"""After a crash an image is in use still for a moment (requests in flight keep its lock): it is served once it is
free, and the other disks are there before."""
import fcntl
import os
import struct

import daemon
from successor import control, ready, start

F_OFD_SETLK = 37
OWN_LOCK_BYTE = 1 << 62  # blockmig/block/image_lock.h


def lock(path):
    """Stands for the open file of the process that was killed."""
    held = os.open(path, os.O_RDWR)
    fcntl.fcntl(held, F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, OWN_LOCK_BYTE, 1, 0))
    return held


with daemon.scratch() as folder:
    disks = {name: daemon.make_image(os.path.join(folder, name), 1 << 20) for name in ("held", "other")}
    server = start(folder, "d0")
    try:
        assert ready(server), server.log()
        for disk, image in disks.items():
            control(folder, "serve", disk, "--source", image)
        server.kill()
        descriptor = lock(disks["held"])
        server = start(folder, "d1")
        daemon.until(lambda: f"serving file://{disks['other']}" in server.log(), "the other disk")
        os.close(descriptor)
        daemon.until(lambda: f"serving file://{disks['held']}" in server.log() or "not now" in server.log(),
                     "the disk whose image was held")
        assert "not now" not in server.log(), server.log()
        assert ready(server), server.log()
    finally:
        server.stop()
