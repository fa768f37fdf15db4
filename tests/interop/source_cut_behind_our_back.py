# SPDX-License-Identifier: Apache-2.0
"""Somebody cuts the file of a disk in use: what is gone is an error (never zeros, never the end of the daemon), what
is left is served, and other disks do not notice."""
import os

import daemon
import raw_nbd

SIZE = 8 << 20
LEFT = 2 << 20
EIO = 5


def answer(s, kind, offset, length, payload=b""):
    s.sendall(raw_nbd.request(kind, 7, offset, length, payload))
    error, _, data = raw_nbd.reply(s, length if kind == raw_nbd.READ else 0)
    return error, data


def cut_under(folder, cache, start):
    image = daemon.make_image(os.path.join(folder, f"{cache}.img"), SIZE, seed=start, holes=False)
    with open(image, "rb") as f:
        before = f.read()
    with daemon.Daemon(folder, image, name=cache, extra=("--cache", cache)) as server:
        other = daemon.make_image(os.path.join(folder, f"{cache}-other.img"), SIZE, seed=start + 1, holes=False)
        server.cli("serve", "other", "--source", other)
        s = raw_nbd.attached(server.socket_path)
        bystander = raw_nbd.attached(server.socket_path, "other")
        for at in range(0, SIZE, 1 << 20):  # all of it is known to be in memory
            assert answer(s, raw_nbd.READ, at, 1 << 20) == (0, before[at:at + (1 << 20)])

        os.truncate(image, LEFT)

        for length in (4096, 65536, 1 << 20):
            error, _ = answer(s, raw_nbd.READ, LEFT + (1 << 20), length)
            assert error == EIO, f"{cache}: a read of {length} bytes that are gone: {error}"
        assert answer(s, raw_nbd.READ, LEFT - (1 << 20), 1 << 20) == (0, before[LEFT - (1 << 20):LEFT])
        assert answer(s, raw_nbd.WRITE, 4096, 4096, b"x" * 4096)[0] == 0
        assert answer(s, raw_nbd.READ, 4096, 4096) == (0, b"x" * 4096)
        assert raw_nbd.works(bystander), f"{cache}: beside a file that was cut"
        assert server.alive()


with daemon.scratch() as scratch:
    for number, mode in enumerate(("map", "buffered", "direct")):
        cut_under(scratch, mode, 10 * number + 1)
