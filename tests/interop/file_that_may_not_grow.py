# SPDX-License-Identifier: Apache-2.0
"""Where no file may grow beyond a size (ulimit -f, LimitFSIZE=), one write fails with "no space": no disk is lost."""
import os

import daemon
import raw_nbd

MIB = 1 << 20
NO_SPACE = 28

with daemon.scratch() as folder:
    big = os.path.join(folder, "big.img")
    with open(big, "wb") as f:
        f.truncate(512 * MIB)
    small = daemon.make_image(os.path.join(folder, "small.img"), MIB)
    for loop in ("io_uring", "portable"):
        state = os.path.join(folder, loop)
        command = ("bash", "-c", 'ulimit -f 131072; exec "$0" "$@"', daemon.built("blockmigd"),
                   "--state-dir", state, "--disk", "big=" + big, "--disk", "small=" + small, "--loop", loop)
        with daemon.Process(command, os.path.join(folder, loop + ".log")) as server:
            path = os.path.join(state, "nbd.sock")
            daemon.until(lambda s=server: "blockmigd ready" in s.log() or not s.alive(), "the daemon")
            if loop == "io_uring" and not server.alive():
                print("no io_uring here: " + server.log())
                continue
            guest = raw_nbd.attached(path, "big")
            other = raw_nbd.attached(path, "small")
            for offset, error in ((0, 0), (256 * MIB, NO_SPACE), (4096, 0)):
                guest.sendall(raw_nbd.request(raw_nbd.WRITE, 1, offset, 4096, b"x" * 4096))
                assert raw_nbd.reply(guest)[0] == error, (loop, offset)
            assert raw_nbd.works(other) and raw_nbd.works(guest)
            assert server.stop() == 0, server.log()
