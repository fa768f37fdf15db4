# SPDX-License-Identifier: Apache-2.0
"""MULTI_CONN: what one connection wrote and was told, every other one reads."""
import daemon
import served

SCRIPT = """
others = []
for i in range(4):
    o = nbd.NBD()
    o.connect_uri(URI)
    assert o.can_multi_conn()
    others.append(o)
for round in range(50):
    writer = others[round % 4]
    block = bytes([round]) * 4096
    writer.pwrite(block, round * 4096)
    for reader in others:
        assert reader.pread(4096, round * 4096) == block, round
others[1].flush()
others[0].shutdown()
assert others[2].pread(4096, 0) == bytes(4096)
"""

with served.served_disk() as (_, server, _):
    daemon.nbdsh("-c", f"URI = {server.uri!r}" + SCRIPT)
