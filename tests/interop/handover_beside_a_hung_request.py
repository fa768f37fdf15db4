# SPDX-License-Identifier: Apache-2.0
"""A control request that hangs holds no handover up, and refuses none: it is left behind, and no client notices.

Neither --replace, nor one that fails and is taken back, nor a restart with --fd-store.
"""
import os
import signal
import subprocess
import types

import daemon
import systemd_store
from hung_folder import HungFolder
from successor import Doomed, control, ready, start

SIZE = 4 << 20


def is_over(process):
    """Also where the kernel keeps a thread of it, which no signal can end."""
    if not process.alive():
        return True
    with open(f"/proc/{process.pid}/stat", encoding="ascii") as f:
        return f.read().rpartition(") ")[2][0] == "Z"


def ask_in_vain(folder, hung):
    """A move to a path in a folder that hangs; who asks is told that the daemon is still busy with it."""
    asked = subprocess.run([daemon.built("blockmig"), "--state-dir", os.path.join(folder, "s"), "migrate",
                            daemon.EXPORT, "--to", hung.at("t.img")], timeout=60, check=False, capture_output=True)
    assert asked.returncode != 0 and b"busy with POST /v1/jobs" in asked.stderr, asked


def replaced(folder, image, path, hung):
    servers = [start(folder, "old", "--disk", f"{daemon.EXPORT}={image}", "--listen", f"unix:{path}")]
    try:
        assert ready(servers[0]), servers[0].log()
        place = types.SimpleNamespace(socket_path=path, export=daemon.EXPORT)
        with daemon.Client(folder, place, "--connections", "2") as client:
            hung.hang()
            ask_in_vain(folder, hung)
            Doomed(folder).die()
            daemon.until(lambda: "handed over was taken back" in servers[0].log(), "the old daemon to say so")
            client.clean_report()
            ask_in_vain(folder, hung)
            servers.append(start(folder, "new", "--replace"))
            assert ready(servers[1]), servers[1].log() + servers[0].log()
            daemon.until(lambda: is_over(servers[0]), "the old daemon's end")
            assert "left behind: POST /v1/jobs" in servers[0].log(), servers[0].log()
            hung.let_go()
            assert servers[0].process.wait(60) == 0, servers[0].log()
            check(folder, client, image)
    finally:
        hung.let_go()
        for server in servers:
            server.stop()


def check(folder, client, image):
    client.clean_report()
    daemon.until(lambda: client.clean_report()["requests"] > 0, "requests")
    client.hold()
    assert client.check_file(image) == 0
    assert not daemon.last_json(control(folder, "ls", "jobs", "-o", "json"))["jobs"], "it was given up"


def stored(folder, image, path, hung):
    manager = systemd_store.DescriptorStore(os.path.join(folder, "notify"))
    server = manager.start(folder, "d0", "--disk", f"{daemon.EXPORT}={image}", "--listen", f"unix:{path}")
    try:
        daemon.until(lambda: manager.take().ready == 1 or not server.alive(), "READY=1")
        place = types.SimpleNamespace(socket_path=path, export=daemon.EXPORT)
        with daemon.Client(folder, place, "--connections", "2") as client:
            hung.hang()
            ask_in_vain(folder, hung)
            server.signal(signal.SIGTERM)
            daemon.until(lambda: is_over(server), "the end")
            assert manager.take().stored, server.log()
            before, server = server, manager.start(folder, "d1")
            daemon.until(lambda: manager.take().ready == 2 or not server.alive(), "READY=1")
            assert server.alive(), server.log()
            hung.let_go()
            assert before.process.wait(60) == 0, before.log()
            check(folder, client, image)
    finally:
        hung.let_go()
        server.stop()


for story in (replaced, stored):
    with daemon.scratch() as scratch, HungFolder(scratch) as filesystem:
        disk = daemon.make_image(os.path.join(scratch, "a.img"), SIZE)
        story(scratch, disk, os.path.join(scratch, "nbd.sock"), filesystem)
