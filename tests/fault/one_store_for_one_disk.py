# SPDX-License-Identifier: Apache-2.0
"""Two requests for one NBD export at the same moment, to serve it or to move there: one of them gets it (I3)."""
import os
import threading

import moves
from moves import daemon
from state_folder import StateFolder

SLOW_OPEN = "delay-open=1"  # both requests have looked who uses it before either has it open


def at_once(*asked):
    """The status codes of what is asked in threads of their own."""
    codes = []
    threads = [threading.Thread(target=lambda ask=ask: codes.append(ask()[0])) for ask in asked]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return codes


def accepted(codes):
    return sum(code == 200 for code in codes)


daemon.need("nbdkit")
with daemon.scratch() as folder, StateFolder(os.path.join(folder, "state")) as here:
    here.start()
    image = daemon.make_image(os.path.join(folder, "shared.img"), 4 * moves.MIB)
    for name in ("a", "b"):
        own = daemon.make_image(os.path.join(folder, name + ".img"), 4 * moves.MIB)
        assert here.serve(name, "file://" + own)[0] == 200
    with daemon.nbdkit(folder, "--filter=delay", "file", image, SLOW_OPEN, name="remote") as remote:
        served = at_once(lambda: here.serve("x", remote.uri), lambda: here.serve("y", remote.uri))
        assert accepted(served) == 1, ("two disks on one export", served)
        for disk in here.shown("ls", "disks")["disks"]:
            if disk["store"] == remote.uri:
                here.ok("detach", disk["name"], "--forget")
        mixed = at_once(lambda: here.serve("z", remote.uri), lambda: here.migrate("a", remote.uri))
        assert accepted(mixed) == 1, ("a disk on another one's target", mixed)
        here.stop()
