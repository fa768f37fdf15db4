# SPDX-License-Identifier: Apache-2.0
"""A daemon is started again while the store of one of its disks hangs: it answers and serves the others, says
which one is late, and serves that when its store has come back, unless it was detached meanwhile."""
import os

import daemon
from hung_folder import HungFolder
from state_folder import StateFolder
from successor import refused

SIZE = 8 << 20
BUSY = 5  # exit code


def served(server, disk):
    return daemon.run("nbdinfo", server.uri(disk), timeout=20).returncode == 0


def is_late(server):
    """All that can be said of the disk while it hangs."""
    assert "not answered in 5 s" in server.process.log(), server.process.log()
    answer = server.cli("serve", "aaa")
    assert answer.returncode == BUSY and "'aaa' is being added" in answer.stderr, answer


daemon.need("nbdinfo")
with daemon.scratch() as folder, HungFolder(folder) as hung, StateFolder(os.path.join(folder, "s")) as server:
    image = daemon.make_image(os.path.join(folder, "b.img"), SIZE)
    server.start("--stop-timeout", "1s")
    server.ok("serve", "aaa", "--source", hung.disk)
    server.ok("serve", "bbb", "--source", image)
    server.kill()
    hung.hang()
    server.start("--stop-timeout", "1s")
    assert served(server, "bbb"), "a disk whose store is well"
    is_late(server)
    assert "'aaa' is being added" in refused(folder, "successor"), "it would be lost on the way"
    assert served(server, "bbb")
    hung.let_go()
    daemon.until(lambda: served(server, "aaa"), "the late disk")
    assert server.cli("detach", "bbb").returncode == 0

    server.ok("serve", "bbb", "--source", image)
    server.kill()
    hung.hang()
    server.start("--stop-timeout", "1s")
    server.process.process.terminate()
    assert server.process.process.wait(timeout=60) != 0
    assert "disk 'aaa'" in server.process.log().strip().splitlines()[-1], server.process.log()
    hung.let_go()
    server.start()
    assert served(server, "aaa") and served(server, "bbb"), "what was late is not forgotten"
    server.kill()
    hung.hang()
    server.start("--stop-timeout", "1s")
    assert server.cli("detach", "bbb").returncode == 0
    server.ok("detach", "aaa")
    assert not server.shown("status")["daemon"]["late_disks"]
    hung.let_go()
    server.ok("serve", "bbb", "--source", image)  # the loop has had its turn
    server.stop()
    server.start()
    assert served(server, "bbb") and not served(server, "aaa"), "it was detached"
    answer = server.cli("serve", "aaa")
    assert answer.returncode == 0 and served(server, "aaa"), answer
    server.kill()
    hung.hang()
    server.start("--stop-timeout", "1s")
    answer = server.cli("detach", "aaa", "--forget")
    assert answer.returncode == BUSY and "has not answered" in answer.stderr, answer
    hung.let_go()
    daemon.until(lambda: server.cli("detach", "aaa", "--forget").returncode == 0, "the disk to be forgotten")
    server.stop()
