# SPDX-License-Identifier: Apache-2.0
"""A `dbt` move that cannot converge: the guest dirties many times what the target takes."""
import contextlib
import re

import moves
from moves import daemon

GUEST = ("--writes", "100", "--largest", "64k", "--zeroes", "0", "--connections", "2")


@contextlib.contextmanager
def stalled_move(on_stall):
    """(scene, target, id of the job): running against a target that takes 8 MB/s."""
    daemon.need("nbdkit")
    with moves.scene(*GUEST, size=8 * moves.MIB + moves.ODD, holes=False) as scene:
        image = scene.empty_target()
        with daemon.nbdkit(scene.folder, "--filter=rate", "file", image, "rate=64M",
                           "burstiness=0.1") as target:
            yield scene, image, scene.disk.start_migration(target.uri, "dbt", "--on-stall", on_stall,
                                                           "--max-downtime", "300ms")
            scene.end()
            assert scene.disk.cli("stop").returncode == 0  # before the store that it may be on


def says_not_converging(text):
    """The words, and the two rates that they rest on."""
    return "not converging" in text and len(re.findall(r"\d", text)) >= 2
