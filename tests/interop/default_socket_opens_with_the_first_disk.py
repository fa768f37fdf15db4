# SPDX-License-Identifier: Apache-2.0
"""blockmigd's default NBD socket is not there before a disk is: whoever gets through finds the disk."""
import os

import daemon

daemon.need("nbdinfo")
with daemon.scratch() as folder:
    image = daemon.make_image(os.path.join(folder, "a.img"), 1 << 20)
    state = os.path.join(folder, "state")
    control, nbd = os.path.join(state, "control.sock"), os.path.join(state, "nbd.sock")
    with daemon.Process([daemon.built("blockmigd"), "--state-dir", state],
                        os.path.join(folder, "d.log")):
        daemon.until(lambda: daemon.greets(control, b""), "the control socket")
        assert not os.path.exists(nbd), "listens without a disk"
        serve = daemon.Process([daemon.built("blockmig"), "serve", daemon.EXPORT, "--source", image,
                                "--state-dir", state], os.path.join(folder, "serve.log"))
        # Between its file and its listening everyone is refused: the first one who gets through.
        daemon.until(lambda: daemon.greets(nbd, b""), "the NBD socket", pause=0)
        found = daemon.ok("nbdinfo", "--size", f"nbd+unix:///{daemon.EXPORT}?socket={nbd}")
        assert int(found) == 1 << 20, found
        assert serve.process.wait(30) == 0, serve.log()
