# SPDX-License-Identifier: Apache-2.0
"""base:allocation follows the file: every hole that the filesystem knows is shown as hole and zero."""
import json
import os

import daemon
import served


def file_extents(path):
    """(offset, length, is_hole) by SEEK_DATA and SEEK_HOLE."""
    out, at, size = [], 0, os.path.getsize(path)
    with open(path, "rb") as f:
        while at < size:
            try:
                data = os.lseek(f.fileno(), at, os.SEEK_DATA)
            except OSError:
                data = size
            if data > at:
                out.append((at, data - at, True))
                at = data
            if at < size:
                hole = os.lseek(f.fileno(), at, os.SEEK_HOLE)
                out.append((at, hole - at, False))
                at = hole
    return out


def merged(extents):
    out = []
    for offset, length, hole in extents:
        if out and out[-1][2] == hole:
            out[-1] = (out[-1][0], out[-1][1] + length, hole)
        else:
            out.append((offset, length, hole))
    return out


daemon.need("nbdinfo")
with served.served_disk() as (_, server, image):
    os.sync()
    shown = json.loads(daemon.ok("nbdinfo", "--map=base:allocation", "--json", server.uri))
    shown = merged([(e["offset"], e["length"], e["type"] == 3) for e in shown])
    assert shown == file_extents(image), (shown[:10], file_extents(image)[:10])
    assert any(hole for _, _, hole in shown) and not all(hole for _, _, hole in shown)
