# SPDX-License-Identifier: Apache-2.0
"""kill -9 at a sync of the stamp while an image is taken over from another daemon: the next life goes on, whatever
of stamp and journal is there (I7)."""
import os
import shutil
import subprocess

import moves
from moves import daemon
from state_folder import StateFolder

daemon.need("strace")
SYNCS = 2  # of one thread, as strace counts: the second is not always met


def ended_at(stamp, sync, state, folder):
    """A life that is killed at that sync of the stamp; False: it had fewer, and has ended in order."""
    words = ["strace", "-f", "-qq", "-P", stamp, "-e", "trace=fsync", "-e", f"inject=fsync:signal=KILL:when={sync}",
             "-o", os.path.join(folder, "strace"), daemon.built("blockmigd"), "--state-dir", state.state]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    daemon.until(lambda: process.poll() is not None or state.cli("status").returncode == 0, "a life or its end")
    try:
        process.wait(1)
        return True
    except subprocess.TimeoutExpired:
        state.ok("stop")
        process.wait(30)
        return False


def main():
    with daemon.scratch() as folder:
        image = daemon.make_image(os.path.join(folder, "a.img"), 4 * moves.MIB)
        stamp = image + ".blockmig-owner"
        mine = os.path.join(folder, "mine")
        with StateFolder(mine) as first, StateFolder(os.path.join(folder, "yours")) as second:
            for state in (first, second):
                state.start()
                state.ok("serve", "vm1", "--source", image)
                state.end()
        shutil.copy(stamp, stamp + ".kept")
        killed = 0
        for sync in range(1, SYNCS + 1):
            shutil.copy(stamp + ".kept", stamp)
            state = StateFolder(os.path.join(folder, f"life{sync}"))
            shutil.copytree(mine, state.state, ignore=shutil.ignore_patterns("*.sock"))
            killed += ended_at(stamp, sync, state, folder)
            with state:
                state.start()
                state.ok("serve", "vm1")
                assert state.shown("ls", "disks")["disks"][0]["epoch"] == 3, state.shown("ls", "disks")
        assert killed >= 1, "no life was cut off"


main()
