# SPDX-License-Identifier: Apache-2.0
"""A named bitmap goes with the disk: what was marked before the move is marked after it (QEMU leaves it)."""
import json

import moves
from moves import daemon

daemon.need("nbdinfo", "qemu-io")


def dirty(disk):
    text = daemon.ok("nbdinfo", "--map=qemu:dirty-bitmap:backup", "--json", disk.uri)
    return [(e["offset"], e["length"]) for e in json.loads(text) if e["type"] == 1]


with daemon.scratch() as folder:
    image = daemon.make_image(folder + "/source.img", 8 * moves.MIB)
    with daemon.Daemon(folder, image, extra=("--bitmap", "backup:64KiB")) as disk:
        assert dirty(disk) == [], dirty(disk)
        daemon.ok("qemu-io", "-f", "raw", "-c", "write -P 1 1M 4k", "-c", "write -z 3M 64k", disk.uri)
        expected = [(1 << 20, 65536), (3 << 20, 65536)]
        assert dirty(disk) == expected, dirty(disk)
        for mode in ("dbt", "mirror"):
            disk.migrate(f"{folder}/{mode}.img", mode)
            assert dirty(disk) == expected, (mode, dirty(disk))
            daemon.ok("qemu-io", "-f", "raw", "-c", f"write -P 2 {5 if mode == 'dbt' else 7}M 512",
                      disk.uri)
            expected.append(((5 if mode == "dbt" else 7) << 20, 65536))
            assert dirty(disk) == expected, (mode, dirty(disk))
