# SPDX-License-Identifier: Apache-2.0
"""Connections on several threads serve themselves from the page cache while their disk moves (I2, I3, I4, I5).

Six connections on three loops, which come and go; the disk moves to and fro in every mode. No write is lost,
the stores are equal, and no read sees half of a sector, although threads read and write the same ones.
"""
import os

import moves
from moves import daemon

MODES = ("dbt", "mirror", "cold", "mirror", "dbt")

for cache in ("map", "buffered"):
    with moves.scene("--renew", "20", "--connections", "6", "--largest", "256k", size=24 * moves.MIB + moves.ODD,
                     extra=("--threads", "3", "--cache", cache), holes=False) as scene:
        scene.guest_goes_on()
        for number, mode in enumerate(MODES):
            target = scene.path(f"{cache}{number}.img")
            job = scene.disk.migrate(target, mode, "--max-downtime", "2s")
            assert job["state"] == "done", job
            scene.guest_goes_on()
        scene.guest_is_on(target)
        scene.end()
        assert scene.final["torn"] == 0, scene.final
        names = [open(f"/proc/{scene.disk.pid}/task/{task}/comm", encoding="ascii").read()
                 for task in os.listdir(f"/proc/{scene.disk.pid}/task")]
        assert sum(name.startswith("blockmig-io-") for name in names) == 2, names
