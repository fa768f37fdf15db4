# SPDX-License-Identifier: Apache-2.0
"""The service manager passes the socket of a .socket unit at every start, beside what is stored: it is listened on
once, however often the daemon is restarted, and clients that came by it go on."""
import json
import os
import signal
import socket

import daemon
import raw_nbd
import systemd_store
from successor import control


def main(folder):
    image = daemon.make_image(os.path.join(folder, "a.img"), 1 << 20)
    manager = systemd_store.DescriptorStore(os.path.join(folder, "notify"))
    path = os.path.join(folder, "unit.sock")
    own = os.path.join(folder, "own.sock")
    with socket.socket(socket.AF_UNIX) as unit:
        unit.bind(path)
        unit.listen(50)
        clients = []
        for life in range(1, 4):
            manager.stored["zz.socket"] = os.dup(unit.fileno())
            server = manager.start(folder, f"d{life}", "--disk", f"vm1={image}", "--listen", f"unix:{own}")
            try:
                daemon.until(lambda n=life: manager.take().ready == n or not server.alive(), "READY=1")
                assert server.alive(), server.log()
                os.close(manager.stored.pop("zz.socket"))
                uris = json.loads(control(folder, "ls", "disks", "-o", "json"))["disks"][0]["uris"]
                assert sorted(uri.rsplit("/", 1)[1] for uri in uris) == ["own.sock", "unit.sock"], uris
                clients += [raw_nbd.attached(place, "vm1") for place in (path, own)]
                assert all(raw_nbd.works(client) for client in clients), server.log()
                server.process.send_signal(signal.SIGTERM)
                assert server.process.wait(60) == 0, server.log()
                # Its own listener, the clients, the state.
                assert len(manager.take().stored) == 1 + len(clients) + 1, manager.stored
            finally:
                server.stop()


with daemon.scratch() as scratch:
    main(scratch)
