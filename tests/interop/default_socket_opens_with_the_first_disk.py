# SPDX-License-Identifier: Apache-2.0
"""blockmigd's default NBD socket is not there before a disk is: whoever gets through finds the disk."""
import os
import socket

import daemon


def accepts(path):
    """True if somebody listens there; between a socket's file and its listening everyone is refused."""
    with socket.socket(socket.AF_UNIX) as s:
        return s.connect_ex(path) == 0


daemon.need("nbdinfo")
with daemon.scratch() as folder:
    image = daemon.make_image(os.path.join(folder, "a.img"), 1 << 20)
    state = os.path.join(folder, "state")
    control, nbd = os.path.join(state, "control.sock"), os.path.join(state, "nbd.sock")
    with daemon.Process([daemon.built("blockmigd"), "--state-dir", state],
                        os.path.join(folder, "d.log")):
        daemon.until(lambda: accepts(control), "the control socket")
        assert not os.path.exists(nbd), "listens without a disk"
        serve = daemon.Process([daemon.built("blockmig"), "serve", daemon.EXPORT, "--source", image,
                                "--state-dir", state], os.path.join(folder, "serve.log"))
        daemon.until(lambda: accepts(nbd), "the NBD socket", pause=0)
        found = daemon.ok("nbdinfo", "--size", f"nbd+unix:///{daemon.EXPORT}?socket={nbd}")
        assert int(found) == 1 << 20, found
        assert serve.process.wait(30) == 0, serve.log()
