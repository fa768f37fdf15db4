# SPDX-License-Identifier: Apache-2.0
"""Clients see what is not in the new store yet as blockmig:hydration, and what is allocated as
qemu:allocation-depth."""
import json
import os

import daemon

CHUNK = 64 * 1024
SIZE = 64 * CHUNK
WRITTEN = 5


def chunks(disk, context):
    """{chunk: type} by that context; no extent may end within a chunk."""
    shown = {}
    for extent in json.loads(daemon.ok("nbdinfo", f"--map={context}", "--json", disk.uri)):
        assert extent["offset"] % CHUNK == extent["length"] % CHUNK == 0, extent
        first = extent["offset"] // CHUNK
        shown.update(dict.fromkeys(range(first, first + extent["length"] // CHUNK), extent["type"]))
    return shown


daemon.need("nbdinfo", "qemu-io")
with daemon.scratch() as folder:
    image = daemon.make_image(os.path.join(folder, "a.img"), SIZE, holes=False)
    with open(image, "r+b") as f:
        f.truncate(SIZE // 2)
        f.truncate(SIZE)
    with daemon.Daemon(folder, image) as disk:
        assert set(chunks(disk, "blockmig:hydration").values()) == {0}, "a whole disk"
        depth = chunks(disk, "qemu:allocation-depth")
        assert depth == {c: int(c < SIZE // CHUNK // 2) for c in range(SIZE // CHUNK)}, depth
        disk.migrate(os.path.join(folder, "local.img"), "shared", "--hydrate", "never")
        daemon.ok("qemu-io", "-f", "raw", disk.uri, "-c", f"write -P 7 {WRITTEN * CHUNK} {CHUNK}")
        absent = {c for c, there in chunks(disk, "blockmig:hydration").items() if there == 1}
        assert WRITTEN not in absent and WRITTEN + 1 in absent, absent
        assert len(absent) >= SIZE // CHUNK // 2 - 2, absent
        settled = disk.cli("settle", daemon.EXPORT)
        assert settled.returncode == 0, settled
        assert set(chunks(disk, "blockmig:hydration").values()) == {0}, "a settled disk"
