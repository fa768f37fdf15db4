# SPDX-License-Identifier: Apache-2.0
"""A disk on vsock: the daemon listens there, announces nbd+vsock://, and gives the port back. nbdcopy reads it bit
for bit where this machine can reach itself by vsock (module vsock_loopback)."""
import errno
import json
import os
import socket

import daemon
import served

CONNECT_SECONDS = 10


def vsock():
    try:
        return socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
    except (AttributeError, OSError) as missing:
        return daemon.skip(f"no vsock here: {missing}")


def free_port():
    with vsock() as s:
        s.bind((socket.VMADDR_CID_ANY, socket.VMADDR_PORT_ANY))
        return s.getsockname()[1]


def is_taken(port):
    with vsock() as s:
        try:
            s.bind((socket.VMADDR_CID_ANY, port))
        except OSError as refused:
            assert refused.errno == errno.EADDRINUSE, refused
            return True
        return False


def unreachable(port):
    """Why this machine cannot reach itself; empty if it can."""
    with vsock() as s:
        s.settimeout(CONNECT_SECONDS)
        try:
            s.connect((1, port))  # VMADDR_CID_LOCAL
            return ""
        except OSError as refused:
            return str(refused)


port = free_port()
uri = f"nbd+vsock://1:{port}/{daemon.EXPORT}"
with served.served_disk(listen=f"vsock::{port}") as (folder, server, image):
    assert is_taken(port), "nobody listens"
    assert uri in server.log(), server.log()
    disk, = server.get("/v1/disks")["disks"]
    assert uri in disk["uris"], disk
    assert f"vsock::{port}" in json.loads(server.cli("status", "-o", "json").stdout)["daemon"]["listen"]

    twice = server.cli("serve", "second", "--source", daemon.make_image(os.path.join(folder, "b.img"), 1 << 20),
                       "--listen", f"vsock::{port}")
    assert twice.returncode == 0, twice.stderr
    assert f"nbd+vsock://1:{port}/second" in twice.stdout + server.log(), "the same listener has both"

    why = unreachable(port)
    if not why:
        daemon.need("nbdcopy")
        out = os.path.join(folder, "out")
        daemon.ok("nbdcopy", uri, out)
        assert daemon.same(image, out)
assert not is_taken(port), "the port outlives the daemon"
if why:
    daemon.skip(f"no byte was read: CID 1 does not answer ({why}); listening was checked")
