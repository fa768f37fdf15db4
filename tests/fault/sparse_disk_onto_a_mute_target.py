# SPDX-License-Identifier: Apache-2.0
"""A sparse disk of 64 GiB onto a server that cannot say what it has allocated, and holds something: the holes are
zeroed there without being read here (trap 9)."""
import os

import moves
from moves import daemon

SIZE = 64 << 30
PIECE = 2 * moves.MIB
DATA = (0, SIZE // 3 // PIECE * PIECE, SIZE - PIECE)
POISON = (SIZE // 2, SIZE - 64 * moves.MIB)


def put(path, places):
    with open(path, "wb") as f:
        f.truncate(SIZE)
        for place in places:
            f.seek(place)
            f.write(bytes([1 + place // PIECE % 250]) * PIECE)


def at(path, place):
    with open(path, "rb") as f:
        f.seek(place)
        return f.read(PIECE)


daemon.need("nbdkit")
with daemon.scratch() as folder:
    for mode in ("cold", "dbt", "mirror"):
        source, image = (os.path.join(folder, mode + end) for end in (".img", ".target"))
        put(source, DATA)
        put(image, POISON)
        with daemon.nbdkit(folder, "--filter=noextents", "file", image, name="mute-" + mode) as target, \
                daemon.Daemon(folder, source, name=mode) as disk:
            job = disk.migrate(target.uri, mode)
            assert job["state"] == "done" and job["bytes_zero"] > SIZE - 64 * moves.MIB, job
            disk.cli("stop")
        for place in DATA:
            assert at(source, place) == at(image, place), f"differs at {place}"
        for place in POISON:
            assert not any(at(image, place)), f"what was in the target at {place} is still there (trap 9)"
        assert os.stat(image).st_blocks * 512 < 64 * moves.MIB
        os.unlink(source)
        os.unlink(image)
