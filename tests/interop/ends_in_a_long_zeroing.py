# SPDX-License-Identifier: Apache-2.0
"""SIGTERM while gigabytes of zeros are written out to a slow file that cannot be zeroed otherwise: the daemon gives
that up after --stop-timeout, also as the file answers all the time."""
import os
import subprocess

import daemon
import raw_nbd

WRITE_ZEROES = 6
GIB = 1 << 30


def slow_store(folder):
    """Takes its time for every write."""
    path = os.path.join(folder, "slow.sock")
    return daemon.NbdServer(["nbdkit", "-f", "-U", path, "eval", f"get_size=echo {2 * GIB}",
                             "pread=head -c $3 /dev/zero", "pwrite=sleep 0.1; cat >/dev/null"], path,
                            os.path.join(folder, "slow.log"))


def main(folder):
    mount = os.path.join(folder, "mnt")
    os.mkdir(mount)
    file = os.path.join(mount, "nbd")
    with slow_store(folder) as store:
        with daemon.Process(["nbdfuse", mount, f"nbd+unix:///?socket={store.socket_path}"],
                            os.path.join(folder, "fuse.log")) as fuse:
            daemon.until(lambda: os.path.exists(file) or not fuse.alive(), "the file")
            if not fuse.alive():
                daemon.skip("cannot mount FUSE here")
            try:
                with daemon.Daemon(folder, file, extra=("--stop-timeout", "1500ms")) as server:
                    client = raw_nbd.attached(server.socket_path)
                    client.sendall(raw_nbd.request(WRITE_ZEROES, 1, 0, GIB))
                    daemon.until(lambda: server.get("/v1/clients")["clients"][0]["in_flight"], "the request")
                    server.process.terminate()
                    assert server.process.wait(timeout=60) != 0, "what was given up is no success"
                    given_up = server.log().count("is given up (--stop-timeout)")
                    assert given_up == 1, server.log()
            finally:
                subprocess.run(["umount", "-l", mount], check=False)


daemon.need("nbdkit", "nbdfuse", "umount")
with daemon.scratch() as scratch:
    main(scratch)
