# SPDX-License-Identifier: Apache-2.0
"""What every interoperability test begins with: our server with one disk in it.

BLOCKMIG_TEST_SERVER=qemu-nbd runs the same test against qemu-nbd instead, to see what a test is worth.
"""
import contextlib
import os

import daemon

ODD_SIZE = (24 << 20) + 3 * 4096 + 512  # no multiple of 4 KiB, 64 KiB or 1 MiB
AGAINST = os.environ.get("BLOCKMIG_TEST_SERVER", "blockmig")


@contextlib.contextmanager
def served_disk(size_bytes=ODD_SIZE, holes=True, listen=None, extra=()):
    """(folder, server, image): a disk of pseudo-random data, served."""
    with daemon.scratch() as folder:
        image = daemon.make_image(os.path.join(folder, "disk.img"), size_bytes, holes=holes)
        if AGAINST == "qemu-nbd":
            server = daemon.qemu_nbd(folder, image)
        else:
            server = daemon.Daemon(folder, image, listen=listen, extra=extra)
        with server:
            yield folder, server, image
