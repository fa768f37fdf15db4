# SPDX-License-Identifier: Apache-2.0
"""qemu-img convert -n writes an image into the disk: data, zeros over old data, and the tail."""
import os

import daemon
import served

daemon.need("qemu-img")
with served.served_disk() as (folder, server, image):
    new = daemon.make_image(os.path.join(folder, "new.img"), served.ODD_SIZE, seed=5)
    daemon.ok("qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", new, server.uri)
    assert daemon.same(image, new)
