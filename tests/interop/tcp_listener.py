# SPDX-License-Identifier: Apache-2.0
"""The same disk over TCP: nbdcopy reads it bit for bit."""
import os
import socket

import daemon
import served

daemon.need("nbdcopy")
if served.AGAINST != "blockmig":
    daemon.skip("about our listener")
with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
with served.served_disk(listen=f"tcp:127.0.0.1:{port}") as (folder, _, image):
    out = os.path.join(folder, "out")
    daemon.ok("nbdcopy", f"nbd://127.0.0.1:{port}/{daemon.EXPORT}", out)
    assert daemon.same(image, out)
