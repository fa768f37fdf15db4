# SPDX-License-Identifier: Apache-2.0
"""qemu-img convert reads the disk into a qcow2 image, which then holds the same and stays sparse."""
import json
import os

import daemon
import served

daemon.need("qemu-img")
with served.served_disk() as (folder, server, image):
    out = os.path.join(folder, "out.qcow2")
    daemon.ok("qemu-img", "convert", "-f", "raw", "-O", "qcow2", server.uri, out)
    daemon.ok("qemu-img", "compare", "-f", "raw", "-F", "qcow2", image, out)
    info = json.loads(daemon.ok("qemu-img", "info", "--output=json", out))
    assert info["actual-size"] < 0.9 * served.ODD_SIZE, info
