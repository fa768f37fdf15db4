# SPDX-License-Identifier: Apache-2.0
"""qemu-img compare finds the disk equal to its image, and different after one byte changed elsewhere."""
import os
import shutil

import daemon
import served

daemon.need("qemu-img")
with served.served_disk() as (folder, server, image):
    copy = os.path.join(folder, "copy.img")
    shutil.copyfile(image, copy)
    daemon.ok("qemu-img", "compare", "-f", "raw", "-F", "raw", server.uri, copy)
    with open(copy, "r+b") as f:
        f.seek(served.ODD_SIZE - 1)
        last = f.read(1)
        f.seek(served.ODD_SIZE - 1)
        f.write(bytes([last[0] ^ 1]))
    result = daemon.run("qemu-img", "compare", "-f", "raw", "-F", "raw", server.uri, copy)
    assert result.returncode == 1, result
