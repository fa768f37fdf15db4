# SPDX-License-Identifier: Apache-2.0
"""Memory in flight is bounded over all clients together: who keeps it without reading or sending hurts
neither small requests nor, after the stall time, large ones; and the process stays small."""
import os

import daemon
import raw_nbd

MIB = 1 << 20
BUDGET = 64 * MIB  # of which one disk gets half
HOGS = 12
CROWD = 90  # some 16 of them fit
EXTRA = ("--limit", f"total-bytes-in-flight={BUDGET}", "--limit", "stall-time=1s", "--limit",
         "bytes-in-flight=16MiB", "--threads", "2")

with daemon.scratch() as folder:
    image = daemon.make_image(os.path.join(folder, "a.img"), 32 * MIB, holes=False)
    with daemon.Daemon(folder, image, extra=EXTRA) as server:
        path = server.socket_path
        before = daemon.resident_bytes(server.pid)
        good = raw_nbd.attached(path)
        for kind in ("reader", "writer"):
            hogs = []
            for _ in range(HOGS):
                s = raw_nbd.attached(path)
                if kind == "reader":  # asks for 16 MiB and never reads
                    s.sendall(b"".join(raw_nbd.request(raw_nbd.READ, i, i * MIB, MIB) for i in range(16)))
                else:  # says that 16 MiB follow, and sends some
                    s.sendall(raw_nbd.request(raw_nbd.WRITE, 1, 0, 16 * MIB, b"x" * 4096))
                hogs.append(s)
            for _ in range(50):
                assert raw_nbd.works(good, 4096), f"a small request beside slow {kind}s"
            good.settimeout(60)
            assert raw_nbd.works(good, 16 * MIB), f"a large request beside slow {kind}s"
            grown = daemon.resident_bytes(server.pid) - before
            # The budget, each one's own 64 KiB and receive buffer (1 MiB), and buffers kept for reuse.
            assert grown < 2 * BUDGET + (HOGS + 1) * (MIB + 65536) + 64 * MIB, f"{grown >> 20} MiB"
            for s in hogs:
                s.close()
        # A crowd that costs its owner 28 bytes a head: the cuts must not take one stall time each.
        hogs = [raw_nbd.attached(path) for _ in range(CROWD)]
        for s in hogs:
            s.sendall(raw_nbd.request(raw_nbd.WRITE, 1, 0, 2 * MIB))
        good.settimeout(CROWD / 2)
        assert raw_nbd.works(good, 16 * MIB), "a large request beside a crowd of silent writers"
        for s in hogs:
            s.close()
        daemon.until(lambda: "keeps memory that others wait for" in server.log(), "who was cut, and why")
        daemon.until(lambda: len(server.get("/v1/clients")["clients"]) == 1, "the others to be gone")
        assert raw_nbd.works(good, 16 * MIB)
