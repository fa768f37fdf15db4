# SPDX-License-Identifier: Apache-2.0
"""A store that does not answer: small requests that wait for it, among others that do not, keep no more
of the server's memory than they are charged for and a few MiB per client, and stop nothing else."""
import os

import daemon
import raw_nbd

MIB = 1 << 20
CLIENTS = 4
ROUNDS = 60
SIZE = 8 * MIB
SECTOR = 512
EINVAL, ENOSPC = 22, 28
# Of each client: receive buffers (5 of 1 MiB) and batches of replies (5 of 256 KiB), at most.
OWN = 5 * MIB + 5 * MIB // 4

daemon.need("nbdkit")


def sector(client, n):
    return bytes([client * ROUNDS + n]) * SECTOR


def place(client, n):
    return (client * ROUNDS + n) * SECTOR


with daemon.scratch() as folder, daemon.nbdkit(folder, "memory", str(SIZE)) as store:
    with daemon.Daemon(folder, store.uri) as server:
        clients = [raw_nbd.attached(server.socket_path) for _ in range(CLIENTS)]
        assert all(raw_nbd.works(c) for c in clients)
        before = daemon.resident_bytes(server.pid)
        store.freeze()
        too_far = raw_nbd.request(raw_nbd.WRITE, 1 << 32, SIZE - SECTOR, MIB, b"\xaa" * MIB)
        wrong = raw_nbd.request(99, 1 << 32, 0, 0)
        for c, s in enumerate(clients):
            for n in range(ROUNDS):
                s.sendall(raw_nbd.request(raw_nbd.WRITE, n, place(c, n), SECTOR, sector(c, n)))
                s.sendall(too_far)
                assert raw_nbd.reply(s)[0] == ENOSPC, f"the intake behind {n} writes that wait"
                s.sendall(raw_nbd.request(raw_nbd.READ, 1000 + n, SIZE - SECTOR, SECTOR))
                for _ in range(20):  # replies of 16 KiB and more, so that batches go round
                    s.sendall(wrong * 1000)
                    answers = raw_nbd.receive(s, 1000 * 16)
                    assert answers[4:8] == EINVAL.to_bytes(4, "big")
        grown = daemon.resident_bytes(server.pid) - before
        assert grown < CLIENTS * OWN + 16 * MIB, f"{grown >> 20} MiB"
        store.thaw()
        for c, s in enumerate(clients):
            for _ in range(2 * ROUNDS):
                head = raw_nbd.receive(s, 16)
                assert head[4:8] == bytes(4), head
                if head[8:] >= (1000).to_bytes(8, "big"):
                    assert raw_nbd.receive(s, SECTOR) == bytes(SECTOR)
            for n in range(ROUNDS):
                s.sendall(raw_nbd.request(raw_nbd.READ, 1, place(c, n), SECTOR))
                assert raw_nbd.reply(s, SECTOR) == (0, 1, sector(c, n))
