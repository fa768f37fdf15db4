# SPDX-License-Identifier: Apache-2.0
"""Clients that connect for as long as they can leave a daemon the descriptors that itself needs."""
import os
import resource

import daemon
import raw_nbd

FILES = 400  # soft and hard: the daemon cannot raise it
CLIENTS = 500

soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
if hard < 2048:
    daemon.skip("the hard limit of open files is too low for the clients")
with daemon.scratch() as folder:
    image = daemon.make_image(os.path.join(folder, "a.img"), 1 << 20)
    other = daemon.make_image(os.path.join(folder, "b.img"), 1 << 20)
    state = os.path.join(folder, "s")
    command = ("sh", "-c", f'ulimit -n {FILES} && exec "$0" "$@"', daemon.built("blockmigd"), "--state-dir", state,
               "--disk", "vm1=" + image)
    resource.setrlimit(resource.RLIMIT_NOFILE, (2048, hard))
    with daemon.Process(command, os.path.join(folder, "log")) as server:
        path = os.path.join(state, "nbd.sock")
        daemon.until(lambda: daemon.greets(path), "the daemon")
        good = raw_nbd.attached(path, "vm1")
        flood = []
        for _ in range(CLIENTS):
            try:
                flood.append(raw_nbd.attached(path, "vm1", 5))
            except (OSError, AssertionError, EOFError):
                break
        assert len(flood) >= FILES - 256 - 2, f"only {len(flood)} clients"
        assert len(flood) < FILES - 256, f"{len(flood)} clients have descriptors of the daemon's"
        assert raw_nbd.works(good)
        blockmig = (daemon.built("blockmig"), "--state-dir", state)
        daemon.ok(*blockmig, "serve", "vm2", "--source", other)
        daemon.ok(*blockmig, "bitmap", "add", "vm2", "b1")
        assert f"at most {FILES - 256} clients are served at a time" in server.log(), server.log()
        assert server.stop() == 0, server.log()
