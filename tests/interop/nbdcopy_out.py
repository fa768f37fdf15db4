# SPDX-License-Identifier: Apache-2.0
"""nbdcopy reads the whole disk, over one connection and over several, bit for bit."""
import os

import daemon
import served

daemon.need("nbdcopy")
with served.served_disk() as (folder, server, image):
    for connections in (1, 4):
        out = os.path.join(folder, f"out{connections}")
        daemon.ok("nbdcopy", f"--connections={connections}", server.uri, out)
        assert daemon.same(image, out), f"{connections} connections"
