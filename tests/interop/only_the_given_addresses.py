# SPDX-License-Identifier: Apache-2.0
"""Who says where to listen is listened to there alone, however many disks there are, and beside recorded ones."""
import json
import os

import daemon
from successor import control, ready, start


def listens(folder):
    return json.loads(control(folder, "status", "-o", "json"))["daemon"]["listen"]


with daemon.scratch() as scratch:
    address = "unix:" + os.path.join(scratch, "mine.sock")
    images = [daemon.make_image(os.path.join(scratch, f"{i}.img"), 1 << 20) for i in range(3)]
    wanted = [word for i in range(2) for word in ("--disk", f"vm{i}={images[i]}")]
    for life in range(2):
        server = start(scratch, f"d{life}", "--listen", address, *wanted)
        try:
            assert ready(server), server.log()
            assert listens(scratch) == [address], server.log()
            if life == 0:
                control(scratch, "serve", "recorded", "--source", images[2])
            assert "recorded" in control(scratch, "ls", "disks")
        finally:
            server.stop()
    server = start(scratch, "usual", *wanted)
    try:
        assert ready(server), server.log()
        assert listens(scratch) == ["unix:" + os.path.join(scratch, "s", "nbd.sock")], server.log()
    finally:
        server.stop()
