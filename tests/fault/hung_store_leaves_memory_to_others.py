# SPDX-License-Identifier: Apache-2.0
"""Requests to a disk whose store does not answer do not use up the memory that those to other disks need (I10)."""
import os

import moves
import raw_nbd
from moves import daemon

MIB = moves.MIB
LIMITS = ("--limit", "total-bytes-in-flight=8MiB", "--limit", "bytes-in-flight=16MiB", "--limit", "stall-time=1s")

daemon.need("nbdkit")
with daemon.scratch() as folder, daemon.nbdkit(folder, "memory", str(64 * MIB)) as store:
    image = daemon.make_image(os.path.join(folder, "a.img"), 8 * MIB, holes=False)
    with daemon.Daemon(folder, image, extra=LIMITS) as server:
        assert server.cli("serve", "slow", "--source", store.uri).returncode == 0
        slow = raw_nbd.attached(server.socket_path, "slow")
        store.freeze()
        slow.sendall(b"".join(raw_nbd.request(raw_nbd.READ, i, i * MIB, MIB) for i in range(16)))
        good = raw_nbd.attached(server.socket_path)
        for _ in range(20):
            for length in (256 * 1024, MIB, 2 * MIB):
                good.sendall(raw_nbd.request(raw_nbd.READ, 1, 0, length))
                assert raw_nbd.reply(good, length)[0] == 0
        store.thaw()
        for _ in range(16):
            assert raw_nbd.reply(slow, MIB)[0] == 0, "they have waited, and lost nothing"
