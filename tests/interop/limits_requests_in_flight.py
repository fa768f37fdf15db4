# SPDX-License-Identifier: Apache-2.0
"""requests-in-flight bounds what a client has in a store that does not answer; the rest waits, and is served."""
import os

import daemon
import raw_nbd

LIMIT, ASKED, BLOCK = 3, 10, 4096

daemon.need("qemu-nbd")
with daemon.scratch() as folder:
    image = daemon.make_image(os.path.join(folder, "a.img"), 1 << 20, holes=False)
    with daemon.qemu_nbd(folder, image) as peer, \
            daemon.Daemon(folder, peer.uri, extra=("--limit", f"requests-in-flight={LIMIT}")) as disk:
        client = raw_nbd.attached(disk.socket_path)
        peer.freeze()
        for cookie in range(ASKED):
            client.sendall(raw_nbd.request(0, cookie, cookie * BLOCK, BLOCK))

        def in_flight():
            return disk.get("/v1/clients")["clients"][0]["in_flight"]
        daemon.until(lambda: in_flight() == LIMIT, "as many as may be in flight")
        for _ in range(20):
            assert in_flight() == LIMIT, in_flight()
        peer.thaw()
        for _ in range(ASKED):
            assert len(raw_nbd.receive(client, 16 + BLOCK)) == 16 + BLOCK
        client.close()
