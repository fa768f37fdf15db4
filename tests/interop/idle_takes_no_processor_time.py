# SPDX-License-Identifier: Apache-2.0
"""A daemon that nobody asks for anything does nothing: with files, with stores on NBD servers, on each loop, with a
client that waits, and when the server of a store has gone."""
import os
import time

import daemon
import raw_nbd

SIZE = 4 << 20
WATCHED_SECONDS = 1.0
MOST = 0.25  # of a processor: a loop that spins takes all of it


def processor_seconds(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def is_idle(server, what):
    before, begun = processor_seconds(server.pid), time.monotonic()
    time.sleep(WATCHED_SECONDS)
    used = (processor_seconds(server.pid) - before) / (time.monotonic() - begun)
    assert used < MOST, f"{what}: {used:.2f} of a processor"


daemon.need("qemu-nbd", "qemu-io")
with daemon.scratch() as folder:
    for loop in ("io_uring", "portable"):
        image = daemon.make_image(os.path.join(folder, f"{loop}.img"), SIZE)
        with daemon.qemu_nbd(folder, image, name=loop + "-peer") as peer:
            with daemon.Daemon(folder, peer.uri, name=loop, extra=("--loop", loop)) as disk:
                daemon.ok("qemu-io", "-f", "raw", disk.uri, "-c", "write 0 1M", "-c", "read 0 1M", "-c", "flush")
                waiting = raw_nbd.attached(disk.socket_path)
                is_idle(disk, f"{loop}, a store on an NBD server")
                target = os.path.join(folder, loop + ".moved")
                peer.stop()
                is_idle(disk, f"{loop}, its server has gone")
                waiting.close()
                disk.kill()  # it would wait for its store
        with daemon.Daemon(folder, image, name=loop + "-file", extra=("--loop", loop)) as disk:
            disk.migrate(target, "mirror")
            is_idle(disk, f"{loop}, a file")
