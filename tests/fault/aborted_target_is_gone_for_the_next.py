# SPDX-License-Identifier: Apache-2.0
"""A move to the place of one that was just aborted: what is cleared away there is never the new one's (I4, I9)."""
import fcntl
import os

import moves
from moves import daemon
from state_folder import StateFolder


def state_of(server, job):
    return server.request("GET", "/v1/jobs/" + job)[1]["state"]


def has_ended(server, job):
    return state_of(server, job) not in ("running", "paused")


def gives_up(server, job):
    """It ends within a while, as it must."""
    try:
        daemon.until(lambda: has_ended(server, job), "the second move to end", seconds=5)
    except AssertionError:
        return False
    return True


def gets_through(server, job):
    daemon.until(lambda: has_ended(server, job), "the second move to end")
    return state_of(server, job) == "done"


def move_there(server, target):
    """True once a move there has succeeded; one that is refused or fails is asked for again."""
    status, job = server.migrate("vm1", "file://" + target)
    if status != 200:
        return False
    daemon.until(lambda: has_ended(server, job["id"]), "the move to end")
    return state_of(server, job["id"]) == "done"


with daemon.scratch() as folder, StateFolder(os.path.join(folder, "state")) as here:
    here.start()
    image = daemon.make_image(os.path.join(folder, "source.img"), 4 * moves.MIB + moves.ODD)
    there = os.path.join(folder, "target.img")
    assert here.serve("vm1", "file://" + image)[0] == 200
    first = here.migrate("vm1", "file://" + there, bwlimit_bytes_per_second=500_000)[1]["id"]
    daemon.until(lambda: here.request("GET", "/v1/jobs/" + first)[1]["bytes_copied"] > 0, "the copy to begin")
    # Its stamp cannot be changed while somebody reads it: the aborted move is held up where it clears away.
    with open(there + ".blockmig-owner", "rb") as stamp:
        fcntl.flock(stamp, fcntl.LOCK_SH)
        assert here.request("POST", f"/v1/jobs/{first}/abort")[0] == 200
        daemon.until(lambda: has_ended(here, first), "the abort")
        status, second = here.migrate("vm1", "file://" + there)
        # What is there is the first one's still. (Where it is not, the second one waits for the stamp as well.)
        refused = status != 200 or gives_up(here, second["id"])
    if refused or not gets_through(here, second["id"]):
        daemon.until(lambda: move_there(here, there), "a move to succeed")
    assert os.path.exists(there), "the disk lives on a file without a name"
    here.stop()
    assert daemon.same(image, there)
