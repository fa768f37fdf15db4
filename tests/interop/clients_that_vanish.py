# SPDX-License-Identifier: Apache-2.0
"""Clients that go away in the middle of a WRITE, wherever that is, leave nothing behind: no connection, no memory."""
import os

import daemon
import raw_nbd

MIB = 1 << 20
LENGTHS = (4096, 200000, 2 * MIB, 20 * MIB)  # received whole, in the buffer, and in place


def vanish(address, length, sent):
    s = raw_nbd.attached(address)
    s.sendall(raw_nbd.request(raw_nbd.WRITE, 1, 0, length))
    for at in range(0, sent, 65536):
        s.sendall(b"x" * min(65536, sent - at))
    return s


with daemon.scratch() as folder:
    image = daemon.make_image(os.path.join(folder, "a.img"), 32 * MIB, holes=False)
    for cache in ("buffered", "map"):
        with daemon.Daemon(folder, image, name=cache, extra=("--cache", cache)) as server:
            clients = [vanish(server.socket_path, length, sent) for length in LENGTHS
                       for sent in (0, 1, 1000, length // 2, length - 1)]
            shown = server.get("/v1/clients")["clients"]
            assert len(shown) == len(clients), shown
            for client in clients:
                client.close()
            daemon.until(lambda server=server: not server.get("/v1/clients")["clients"], "all of them to be gone")
