# SPDX-License-Identifier: Apache-2.0
"""Writes on connections that open during the switchover survive it, move after move (trap 1, I3) (M1, M7).

QEMU 7.2 acknowledges and then loses such a write. The client opens a connection every 2 ms and sends at
once on it; the disk moves to and fro; the client's history would show a lost write at its next read, and
the store that the disk is on is compared with the history after every few moves.
"""
import moves
from moves import daemon

MOVES = 40

with moves.scene("--renew", "2", "--connections", "6", "--writes", "70", "--largest", "64k",
                 "--rate", "3000", size=2 * moves.MIB + moves.ODD) as scene:
    here = scene.image
    for i in range(MOVES):
        there = scene.path(f"store{i}.img")
        job = scene.disk.migrate(there, "dbt" if i % 2 else "mirror", "--max-downtime", "1s")
        assert job["state"] == "done", job
        if i % 8 == 7:
            scene.guest_is_on(there)
        scene.client.clean_report()
        here = there
    scene.guest_is_on(here)
    opened = scene.client.report()["connections_opened"]
    assert opened > MOVES, f"only {opened} connections were opened: the test tests nothing"
