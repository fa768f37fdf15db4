# SPDX-License-Identifier: Apache-2.0
"""A write that waits in the server for memory is not carried out once its client has been disconnected or has closed
its socket: others have written there since, and been told so (I9, trap 15). Who has only ended its sending is served."""
import os
import socket

import moves
import raw_nbd
from moves import daemon

MIB = moves.MIB
LENGTH = 100 * 1024  # more than each client's own 64 KiB
LIMITS = ("--limit", "total-bytes-in-flight=4MiB", "--limit", "bytes-in-flight=16MiB")


def write(s, offset, length, value):
    s.sendall(raw_nbd.request(raw_nbd.WRITE, 1, offset, length, value * length))


def wrote(s, offset, value):
    write(s, offset, 4096, value)
    return raw_nbd.reply(s)[0] == 0


with daemon.scratch() as folder:
    image = daemon.make_image(os.path.join(folder, "a.img"), 16 * MIB, holes=False)
    with daemon.Daemon(folder, image, extra=LIMITS) as server:
        good = raw_nbd.attached(server.socket_path)
        silent = raw_nbd.attached(server.socket_path)  # asks for all the memory that there is, and does not send
        silent.sendall(raw_nbd.request(raw_nbd.WRITE, 1, 0, 16 * MIB))
        known = {client["id"] for client in server.get("/v1/clients")["clients"]}
        disconnected, closed, half_closed = clients = [raw_nbd.attached(server.socket_path) for _ in range(3)]
        cut = min(client["id"] for client in server.get("/v1/clients")["clients"] if client["id"] not in known)
        for number, client in enumerate(clients):
            write(client, number * MIB, LENGTH, b"\x11")
        half_closed.shutdown(socket.SHUT_WR)
        daemon.until(lambda: len(server.get("/v1/clients")["clients"]) == 5, "all of them")
        assert all(client["bytes_written"] == 0 for client in server.get("/v1/clients")["clients"]), "none waits"
        server.cli("disconnect", str(cut))
        closed.close()
        daemon.until(lambda: len(server.get("/v1/clients")["clients"]) == 3, "the two to be gone")
        assert wrote(good, 0, b"\x22") and wrote(good, MIB, b"\x22")
        good.sendall(raw_nbd.request(raw_nbd.FLUSH, 2, 0, 0))
        assert raw_nbd.reply(good)[0] == 0
        silent.close()
        assert raw_nbd.reply(half_closed)[0] == 0, "it reads still"
        for place in (0, MIB):
            good.sendall(raw_nbd.request(raw_nbd.READ, 3, place, LENGTH))
            data = raw_nbd.reply(good, LENGTH)[2]
            assert data[:4096] == b"\x22" * 4096 and b"\x11" * 512 not in data, f"at {place}"
        good.sendall(raw_nbd.request(raw_nbd.READ, 3, 2 * MIB, LENGTH))
        assert raw_nbd.reply(good, LENGTH)[2] == b"\x11" * LENGTH
