# SPDX-License-Identifier: Apache-2.0
"""A disk is served again after a restart on what can be listened on, though somebody else has one of its addresses: that
one is named, and tried for some seconds."""
import json
import os
import socket

import daemon
from successor import control, ready, start


def take(port):
    other = socket.socket()
    other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    other.bind(("127.0.0.1", port))
    other.listen()
    return other


def main(folder):
    path = os.path.join(folder, "nbd.sock")
    with take(0) as other:
        port = other.getsockname()[1]
    address = f"tcp:127.0.0.1:{port}"
    server = start(folder, "d0", "--listen", f"unix:{path}")
    try:
        assert ready(server), server.log()
        image = daemon.make_image(os.path.join(folder, "a.img"), 1 << 20)
        control(folder, "serve", "vm1", "--source", image, "--listen", address)
        server.stop()
        with take(port):
            server = start(folder, "d1", "--listen", f"unix:{path}")
            assert ready(server), server.log()
            shown = json.loads(control(folder, "ls", "disks", "-o", "json"))["disks"]
            assert [each["name"] for each in shown] == ["vm1"], server.log()
            assert daemon.greets(path)
            daemon.until(lambda: address in server.log(), "the address to be named")
            assert "has not answered" not in server.log(), server.log()
        server.stop()
        with take(port):
            server = start(folder, "d2", "--listen", f"unix:{path}")
            daemon.until(lambda: "serving" in server.log() or not server.alive(), "the disk")
        assert ready(server), server.log()
        assert address in json.loads(control(folder, "status", "-o", "json"))["daemon"]["listen"], server.log()
        assert '"error"' not in server.log(), server.log()
    finally:
        server.stop()


with daemon.scratch() as scratch:
    main(scratch)
