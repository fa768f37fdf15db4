# SPDX-License-Identifier: Apache-2.0
"""kill -9 of the daemon while its target is full, again and again: each life serves the disk and says what the job
lacks; with room the job ends, and everything is where it belongs."""
import os
import random
import time

import lives
import moves
from moves import daemon

daemon.need("nbdsh", "dd")
KILLS = 3
MODES = ("mirror", "dbt", "cold", "auto", "hybrid", "postcopy")
WRITERS_STOP = ("cold", "hybrid", "postcopy")  # they wait, or are told that the disk, which is there already, is full


def lacks_room(move):
    """The job has met the full target, in this life."""
    shown = move.server.job()
    assert shown["state"] in ("running", "paused", "unknown"), shown
    error = shown.get("error")
    return error and (error["code"] == "no-space" or "No space left" in error["message"])


def over_deaths(folder, mode, pick):
    here = moves.Scene(folder, None, None, None)
    with moves.small_filesystem(here, room_mib=40) as mount, lives.Move(folder, folder, mode, pick) as move:
        move.target = mount + "/target.img"
        move.begin()
        daemon.until(lambda: move.server.job()["phase"] != "preparing", "the copy to begin", pause=0.02)
        daemon.run("dd", "if=/dev/zero", f"of={mount}/hog", "bs=64k")  # until it is full
        for _ in range(KILLS):
            daemon.until(lambda: lacks_room(move), "the job to say that there is no room", seconds=60, pause=0.05)
            if mode not in WRITERS_STOP:
                lives.wait_for_writes(move.log)
            time.sleep(pick.uniform(0.0, 0.5))
            move.kill()
            move.live_again()
        daemon.until(lambda: lacks_room(move), "the job to say that there is no room", seconds=60, pause=0.05)
        os.unlink(mount + "/hog")
        move.server.cli("resume", "vm1")
        if move.client.poll() is not None:
            move.go_on()
        return move.end()


for number, mode_ in enumerate(MODES):
    with daemon.scratch() as scratch:
        print(mode_, over_deaths(scratch, mode_, random.Random(number)), "blocks written", flush=True)
