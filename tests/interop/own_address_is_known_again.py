# SPDX-License-Identifier: Apache-2.0
"""A listener that was handed over is known by the address that it was asked for: with --listen tcp::PORT or a host's
name the daemon that takes over, or is started with --fd-store, opens what is new, serves new disks, and takes no second
port where the kernel picks one. An address that another process has costs no other one."""
import json
import os
import signal
import socket

import daemon
import systemd_store
from successor import control, ready, start


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def disk(folder, number):
    return f"vm{number}=" + daemon.make_image(os.path.join(folder, f"{number}.img"), 1 << 20)


def disks(folder):
    return {each["name"] for each in json.loads(control(folder, "ls", "disks", "-o", "json"))["disks"]}


def listens(folder):
    return json.loads(control(folder, "status", "-o", "json"))["daemon"]["listen"]


def replaced(folder, address):
    one, two, three = (disk(folder, n) for n in (1, 2, 3))
    first = start(folder, "d0", "--tls", "off", "--listen", address, "--disk", one)
    assert ready(first), first.log()
    before = listens(folder)
    path = os.path.join(folder, "new.sock")
    new = start(folder, "d1", "--replace", "--tls", "off", "--listen", address, "--listen", f"unix:{path}",
                "--disk", one, "--disk", two)
    try:
        assert ready(new), new.log()
        assert disks(folder) == {"vm1", "vm2"}, new.log()
        assert listens(folder) == [*before, f"unix:{path}"], (before, listens(folder))
        assert daemon.greets(path)
        assert '"error"' not in new.log(), new.log()
        name, source = three.split("=")
        control(folder, "serve", name, "--source", source, "--listen", address)
        assert listens(folder) == [*before, f"unix:{path}"], listens(folder)
    finally:
        new.stop()
        first.stop()


def restarted(folder, address):
    manager = systemd_store.DescriptorStore(os.path.join(folder, "notify"))
    path = os.path.join(folder, "nbd.sock")
    arguments = ("--tls", "off", "--listen", f"unix:{path}", "--listen", address, "--disk", disk(folder, 1))
    server = manager.start(folder, "d0", *arguments)
    try:
        daemon.until(lambda: manager.take().ready == 1 or not server.alive(), "READY=1")
        before = listens(folder)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == 0, server.log()
        manager.take()
        server = manager.start(folder, "d1", *arguments, "--disk", disk(folder, 2))
        daemon.until(lambda: manager.take().ready == 2 or not server.alive(), "READY=1")
        assert disks(folder) == {"vm1", "vm2"}, server.log()
        assert listens(folder) == before, (before, listens(folder))
    finally:
        server.stop()


def one_that_another_has(folder):
    first = start(folder, "d0", "--disk", disk(folder, 1))
    assert ready(first), first.log()
    path = os.path.join(folder, "new.sock")
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = f"tcp:127.0.0.1:{other.getsockname()[1]}"
        new = start(folder, "d1", "--replace", "--listen", taken, "--listen", f"unix:{path}", "--disk", disk(folder, 2))
        try:
            assert ready(new), new.log()
            assert disks(folder) == {"vm1", "vm2"}, new.log()
            assert daemon.greets(path), new.log()
            assert taken in new.log() and '"error"' in new.log(), new.log()
        finally:
            new.stop()
            first.stop()


for story, asked in ((replaced, "tcp::{}"), (replaced, "tcp:localhost:{}"), (replaced, "tcp:127.0.0.1:{}"),
                     (replaced, "tcp::0"), (restarted, "tcp::{}"), (restarted, "tcp:localhost:{}")):
    with daemon.scratch() as scratch:
        story(scratch, asked.format(free_port()))
with daemon.scratch() as scratch:
    one_that_another_has(scratch)
