# SPDX-License-Identifier: Apache-2.0
"""systemd-socket-activate starts blockmigd with the first client; nbdinfo is that client."""
import os

import daemon

daemon.need("systemd-socket-activate", "nbdinfo")
with daemon.scratch() as folder:
    image = daemon.make_image(os.path.join(folder, "a.img"), 1 << 20)
    path = os.path.join(folder, "s.sock")
    command = ["systemd-socket-activate", "--listen", path, "--fdname", "disks",
               daemon.built("blockmigd"), "--state-dir", os.path.join(folder, "s"), "--disk",
               f"{daemon.EXPORT}={image}"]
    with daemon.Process(command, os.path.join(folder, "log")) as server:
        daemon.until(lambda: "Listening on" in server.log(), "the socket")
        size = daemon.ok("nbdinfo", "--size", f"nbd+unix:///{daemon.EXPORT}?socket={path}")
        assert int(size) == 1 << 20, size
        daemon.until(lambda: "activated as 'disks'" in server.log(), "its name in the log")
