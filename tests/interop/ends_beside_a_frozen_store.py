# SPDX-License-Identifier: Apache-2.0
"""SIGTERM while the server of a store is frozen or gone: the daemon ends, by itself, and says what it gave up."""
import os
import subprocess

import daemon
from state_folder import StateFolder

WRITE = "h.pwrite(b'x' * 65536, 0)"


def ends(folder, take_away):
    remote = daemon.qemu_nbd(folder, daemon.make_image(os.path.join(folder, "served.img"), 8 << 20))
    with StateFolder(os.path.join(folder, "state")) as server:
        server.start("--stop-timeout", "1500ms")
        server.ok("serve", "vm1", "--source", remote.uri)
        take_away(remote)
        env = dict(os.environ, PATH="/usr/bin:" + os.environ.get("PATH", ""))
        with subprocess.Popen(["nbdsh", "-u", server.uri(), "-c", WRITE], env=env,
                              stderr=subprocess.DEVNULL) as client:
            def waits():
                shown = server.shown("ls", "clients")
                return any(c["in_flight"] > 0 for c in shown["clients"])
            daemon.until(waits, "a request that is not answered", pause=0.05)
            server.process.process.terminate()
            assert server.process.process.wait(timeout=60) != 0, "an end with unwritten data is no success"
            assert client.wait(timeout=60) != 0, "a write that was given up was acknowledged"
        assert "is given up (--stop-timeout)" in server.process.log(), server.process.log()
    remote.kill()


daemon.need("nbdsh", "qemu-nbd")
with daemon.scratch() as here:
    ends(here, lambda remote: remote.freeze())
with daemon.scratch() as here:
    ends(here, lambda remote: remote.kill())
