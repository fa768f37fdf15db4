# SPDX-License-Identifier: Apache-2.0
"""nbdcopy overwrites the whole disk and flushes: the image is then the file, bit for bit."""
import os

import daemon
import served

daemon.need("nbdcopy")
with served.served_disk() as (folder, server, image):
    for seed, connections in ((7, 1), (8, 4)):
        new = daemon.make_image(os.path.join(folder, "new"), served.ODD_SIZE, seed=seed)
        assert not daemon.same(image, new)
        daemon.ok("nbdcopy", "--flush", f"--connections={connections}", new, server.uri)
        assert daemon.same(image, new), f"{connections} connections"
