# SPDX-License-Identifier: Apache-2.0
"""SIGTERM while a request to the daemon, and a disk, wait for a filesystem that hangs: the daemon ends by
--stop-timeout, says what it gave up, and the other disks have ended in order."""
import os
import signal
import subprocess

import daemon
from hung_folder import HungFolder
from state_folder import StateFolder

SIZE = 8 << 20


def start_quietly(*command):
    return subprocess.Popen([str(c) for c in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def is_over(process):
    """Also where the kernel keeps a thread of it, which no signal can end."""
    if not process.alive():
        return True
    with open(f"/proc/{process.pid}/stat", encoding="ascii") as f:
        return f.read().rpartition(") ")[2][0] == "Z"


def end(server):
    """It must end by itself, with an error; what it said last, and its process, to be waited for."""
    ended = server.process
    ended.signal(signal.SIGTERM)
    daemon.until(lambda: is_over(ended), "the daemon to end", seconds=60)
    said = ended.log().strip().splitlines()[-1]
    assert "--stop-timeout" in said, said
    return said, ended


def in_another_life(server, image):
    """Everything else has ended in order: it is served again, with what was written."""
    server.start()
    daemon.until(lambda: server.cli("status", "vm1").returncode == 0, "the disk")
    daemon.ok("qemu-io", "-f", "raw", "-c", "read -P 7 0 64k", server.uri())
    server.ok("detach", "vm1")
    daemon.ok("qemu-io", "-f", "raw", "-c", "read -P 7 0 64k", image)
    server.kill()


def hung_request(folder):
    image = daemon.make_image(os.path.join(folder, "a.img"), SIZE)
    with HungFolder(folder) as hung, StateFolder(os.path.join(folder, "state")) as server:
        server.start("--stop-timeout", "1500ms")
        server.ok("serve", "vm1", "--source", image)
        daemon.ok("qemu-io", "-f", "raw", "-c", "write -P 7 0 64k", server.uri())
        hung.hang()
        with start_quietly(daemon.built("blockmig"), "--state-dir", server.state, "migrate", "vm1", "--to",
                           hung.at("t.img")) as asked:
            assert asked.wait(60) != 0  # told that the daemon is still busy with it
            said, ended = end(server)
        assert "POST /v1/jobs" in said, said
        in_another_life(server, image)
        hung.let_go()
        assert ended.process.wait(60) > 0, "what was given up is no success"


def hung_disk(folder):
    image = daemon.make_image(os.path.join(folder, "a.img"), SIZE)
    with HungFolder(folder) as hung, StateFolder(os.path.join(folder, "state")) as server:
        server.start("--stop-timeout", "1500ms")
        server.ok("serve", "vm1", "--source", image)
        server.ok("serve", "h", "--source", hung.disk, "--cache", "direct")
        daemon.ok("qemu-io", "-f", "raw", "-c", "write -P 7 0 64k", server.uri())
        hung.hang()
        with start_quietly("qemu-io", "-f", "raw", "-c", "read 1M 64k", server.uri("h")) as client:
            daemon.until(lambda: any(c["in_flight"] > 0 for c in server.shown("ls", "clients")["clients"]),
                         "a request that is not answered", pause=0.05)
            said, ended = end(server)
            assert client.wait(60) != 0, "a read that was given up was answered"
        assert "'h'" in said, said
        in_another_life(server, image)
        hung.let_go()
        assert ended.process.wait(60) > 0, "what was given up is no success"


daemon.need("qemu-io")
for story in (hung_request, hung_disk):
    with daemon.scratch() as here:
        story(here)
