# SPDX-License-Identifier: Apache-2.0
"""SIGTERM beside a store that does not answer waits for it; another one, a second or more later, ends the
daemon at once, and says so. What comes sooner belongs to the first: timeout(1) signals its child and the group. The
same while clients are stored for the next start, or handed over."""
import os
import signal
import subprocess
import time

import daemon
import systemd_store
from state_folder import StateFolder
from successor import Doomed, control, ready, start

WRITE = "h.pwrite(b'x' * 65536, 0)"

daemon.need("nbdsh", "qemu-nbd")
with daemon.scratch() as folder:
    remote = daemon.qemu_nbd(folder, daemon.make_image(os.path.join(folder, "served.img"), 8 << 20))
    with remote, StateFolder(os.path.join(folder, "state")) as server:
        server.start("--stop-timeout", "10min")
        server.ok("serve", "vm1", "--source", remote.uri)
        remote.freeze()
        env = dict(os.environ, PATH="/usr/bin:" + os.environ.get("PATH", ""))
        with subprocess.Popen(["nbdsh", "-u", server.uri(), "-c", WRITE], env=env,
                              stderr=subprocess.DEVNULL) as client:
            daemon.until(lambda: any(c["in_flight"] > 0 for c in server.shown("ls", "clients")["clients"]),
                         "a request that is not answered", pause=0.05)
            process = server.process.process
            process.send_signal(signal.SIGTERM)
            daemon.until(lambda: "stopping" in server.process.log(), "the end to begin")
            assert process.poll() is None, "it did not wait for its store"
            process.send_signal(signal.SIGTERM)
            time.sleep(1.5)
            assert process.poll() is None, "one request to stop that came twice was taken for two"
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=60) == 128 + signal.SIGTERM
            assert client.wait(timeout=60) != 0, "a write that was given up was acknowledged"
        assert "stopping at once (second signal)" in server.process.log(), server.process.log()


def ends_at_the_second(server, begun):
    server.signal(signal.SIGTERM)
    daemon.until(lambda: begun in server.log(), "the end to begin")
    time.sleep(1.5)
    assert server.alive(), "it did not wait for its store"
    server.signal(signal.SIGTERM)
    assert server.process.wait(timeout=60) == 128 + signal.SIGTERM, server.log()
    assert "stopping at once (second signal)" in server.log(), server.log()


with daemon.scratch() as folder:
    remote = daemon.qemu_nbd(folder, daemon.make_image(os.path.join(folder, "served.img"), 8 << 20))
    with remote:
        manager = systemd_store.DescriptorStore(os.path.join(folder, "notify"))
        with manager.start(folder, "stored", "--stop-timeout", "10min") as server:
            daemon.until(lambda: manager.take().ready == 1 or not server.alive(), "READY=1")
            control(folder, "serve", "vm1", "--source", remote.uri)
            remote.freeze()
            ends_at_the_second(server, "handing over 0 clients and 1 disks")
            remote.thaw()

        with start(folder, "replaced") as server:
            assert ready(server), server.log()
            control(folder, "serve", "vm1", "--source", remote.uri)
            successor = Doomed(folder)
            ends_at_the_second(server, "handing over 0 clients and 1 disks")
            successor.die()
