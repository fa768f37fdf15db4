# SPDX-License-Identifier: Apache-2.0
"""CVE-2023-5215 (libnbd): a server that claims 2^63 bytes and more made negative sizes. As a store of ours such a
server is refused with a reason, as source and as target, and what was served before goes on."""
import os

import daemon
import hostile_server

SIZES = (2**63, 2**63 + 4096, 2**64 - 1, 2**64 - 512)


def main():
    with daemon.scratch() as folder:
        image = daemon.make_image(os.path.join(folder, "disk.img"), 1 << 20)
        with daemon.Daemon(folder, image) as server:
            for i, size in enumerate(SIZES):
                with hostile_server.HostileServer(folder, f"h{i}") as hostile:
                    hostile.size = size
                    added = server.cli("serve", f"bad{i}", "--source", hostile.uri, timeout=60)
                    assert added.returncode not in (0, 2) and added.returncode > 0, (size, added)
                    moved = server.cli("migrate", daemon.EXPORT, "--to", hostile.uri, timeout=60)
                    assert moved.returncode not in (0, 2) and moved.returncode > 0, (size, moved)
                    assert moved.stderr.strip(), "no reason"
            assert server.alive() and server.served_store() == f"file://{image}", server.served_store()
            assert daemon.greets(server.socket_path)


if __name__ == "__main__":
    main()
