# SPDX-License-Identifier: Apache-2.0
"""A service manager's restart: blockmigd leaves its clients in the descriptor store, the next one finds them.

The test is the manager.
"""
import os
import signal
import types

import daemon
import systemd_store

SIZE = 16 << 20


def main(folder):
    image = daemon.make_image(os.path.join(folder, "a.img"), SIZE)
    path = os.path.join(folder, "nbd.sock")
    manager = systemd_store.DescriptorStore(os.path.join(folder, "notify"))
    server = manager.start(folder, "d0", "--disk", f"{daemon.EXPORT}={image}", "--listen", f"unix:{path}")
    try:
        daemon.until(lambda: manager.take().ready == 1 or not server.alive(), "READY=1")
        assert server.alive(), server.log()
        place = types.SimpleNamespace(socket_path=path, export=daemon.EXPORT)
        with daemon.Client(folder, place, "--connections", "3") as client:
            for i in range(3):
                client.clean_report()
                server.process.send_signal(signal.SIGTERM)
                assert server.process.wait(30) == 0, server.log()
                # Three clients, of which one may be at its change to a new connection; listener; state.
                assert len(manager.take().stored) - 1 - 1 in (3, 4), manager.stored
                server = manager.start(folder, f"d{i + 1}")
                daemon.until(lambda i=i: manager.take().ready == i + 2 or not server.alive(), "READY=1")
                assert not manager.take().stored, "a later start would find what is served already"
                print(client.clean_report())
            client.hold()
            assert client.check_file(image) == 0
    finally:
        server.stop()


with daemon.scratch() as scratch:
    main(scratch)
