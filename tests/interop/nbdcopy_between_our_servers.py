# SPDX-License-Identifier: Apache-2.0
"""nbdcopy from one server of ours to another."""
import os

import daemon
import served

daemon.need("nbdcopy")
with served.served_disk() as (folder, server, image):
    other_image = os.path.join(folder, "other.img")
    with open(other_image, "wb") as f:
        f.truncate(served.ODD_SIZE)
    with daemon.Daemon(folder, other_image, name="e") as other:
        daemon.ok("nbdcopy", "--flush", server.uri, other.uri)
    assert daemon.same(image, other_image)
