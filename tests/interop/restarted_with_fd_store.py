# SPDX-License-Identifier: Apache-2.0
"""A service manager's restart: blockmigd leaves its clients in the descriptor store, the next one finds them.

The test is the manager.
"""
import os
import signal
import socket
import types

import daemon
import systemd_store
from successor import control, ready, start

SIZE = 16 << 20
nbd = daemon.import_nbd(__file__)


def main(folder):
    image = daemon.make_image(os.path.join(folder, "a.img"), SIZE)
    path = os.path.join(folder, "nbd.sock")
    manager = systemd_store.DescriptorStore(os.path.join(folder, "notify"))
    server = manager.start(folder, "d0", "--disk", f"{daemon.EXPORT}={image}", "--listen", f"unix:{path}")
    try:
        daemon.until(lambda: manager.take().ready == 1 or not server.alive(), "READY=1")
        assert server.alive(), server.log()
        place = types.SimpleNamespace(socket_path=path, export=daemon.EXPORT)
        with daemon.Client(folder, place, "--connections", "3") as client:
            for i in range(3):
                client.clean_report()
                server.process.send_signal(signal.SIGTERM)
                assert server.process.wait(30) == 0, server.log()
                # Three clients, of which one may be at its change to a new connection; listener; state.
                assert len(manager.take().stored) - 1 - 1 in (3, 4), manager.stored
                server = manager.start(folder, f"d{i + 1}")
                daemon.until(lambda i=i: manager.take().ready == i + 2 or not server.alive(), "READY=1")
                assert not manager.take().stored, "a later start would find what is served already"
                print(client.clean_report())
            client.hold()
            assert client.check_file(image) == 0
    finally:
        server.stop()


class Host:
    """A daemon with a disk, and the manager that restarts it."""

    def __init__(self, folder, source):
        self.folder = folder
        self.path = os.path.join(folder, "nbd.sock")
        self.manager = systemd_store.DescriptorStore(os.path.join(folder, "notify"))
        self.lives = 0
        self.server = None
        self.start()
        control(folder, "serve", daemon.EXPORT, "--source", source)

    def start(self):
        self.lives += 1
        self.server = self.manager.start(self.folder, f"d{self.lives}", "--listen", f"unix:{self.path}")
        daemon.until(lambda: self.manager.take().ready == self.lives or not self.server.alive(), "READY=1")
        assert self.server.alive(), self.server.log()

    def end(self):
        self.server.process.send_signal(signal.SIGTERM)
        assert self.server.process.wait(60) == 0, self.server.log()
        assert self.manager.take().stored, self.server.log()

    def serves(self, disk):
        shown = daemon.last_json(control(self.folder, "ls", "disks", "-o", "json"))["disks"]
        return disk in [each["name"] for each in shown]

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.server.stop()


def image_that_was_away(folder):
    """A disk that the stored state does not name is recorded still, and served."""
    image = daemon.make_image(os.path.join(folder, "a.img"), 1 << 20)
    other = daemon.make_image(os.path.join(folder, "b.img"), 1 << 20)
    with Host(folder, image) as host:
        control(folder, "serve", "other", "--source", other)
        host.server.kill()
        os.rename(other, other + ".away")
        host.start()
        assert not host.serves("other"), host.server.log()
        os.rename(other + ".away", other)
        host.end()
        host.start()
        daemon.until(lambda: host.serves("other"), "the disk that was away")


def store_that_lost_a_write(folder):
    """Its last flush fails: its client hears of it, and is told nothing of a flush on that connection."""
    store = daemon.nbdkit(folder, "memory", "8M")
    try:
        with Host(folder, store.uri) as host:
            client = nbd.NBD()
            client.set_export_name(daemon.EXPORT)
            client.connect_unix(host.path)
            client.pwrite(b"B" * 4096, 4096)
            store.kill()
            os.unlink(store.socket_path)
            store = daemon.nbdkit(folder, "memory", "8M")
            host.end()
            host.start()
            try:
                client.flush()
            except nbd.Error:
                pass
            else:
                raise AssertionError("a flush was acknowledged, and the write is lost")
            daemon.until(lambda: host.serves(daemon.EXPORT), "the disk to be served again")
    finally:
        store.kill()


def without_a_manager(folder):
    """It says so at the start, and ends as without the option."""
    path = os.path.join(folder, "nbd.sock")
    image = daemon.make_image(os.path.join(folder, "a.img"), 1 << 20)
    server = start(folder, "d0", "--fd-store", "--listen", f"unix:{path}", "--disk", f"{daemon.EXPORT}={image}")
    try:
        assert ready(server), server.log()
        assert "no service manager started this" in server.log(), server.log()
        assert server.stop() == 0, server.log()
        assert "clients wait for the next start" not in server.log(), server.log()
        assert not os.path.exists(path)
    finally:
        server.stop()


def manager_that_is_gone(folder):
    """Before the end begins: it is an ordinary one."""
    with Host(folder, daemon.make_image(os.path.join(folder, "a.img"), 1 << 20)) as host:
        host.manager.socket.close()
        host.server.process.send_signal(signal.SIGTERM)
        assert host.server.process.wait(60) == 0, host.server.log()
        assert "clients are not kept" in host.server.log(), host.server.log()
        assert not os.path.exists(host.path)


def fill(manager):
    """Its queue, from as many senders as that takes: each has room for some only."""
    sent = True
    while sent:
        sent = False
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            try:
                while True:
                    sender.sendto(b"X=1", manager.path)
                    sent = True
            except BlockingIOError:
                pass


def manager_that_goes_away(folder):
    """In the middle of the end: it takes one message more, that of the end, and the next waits for it."""
    with Host(folder, daemon.make_image(os.path.join(folder, "a.img"), 1 << 20)) as host:
        client = nbd.NBD()
        client.set_export_name(daemon.EXPORT)
        client.connect_unix(host.path)
        fill(host.manager)
        host.server.process.send_signal(signal.SIGTERM)
        host.manager.socket.recv(65536)
        daemon.until(lambda: "handing over" in host.server.log(), "the clients to be parked")
        host.manager.socket.close()
        assert host.server.process.wait(60) == 1, host.server.log()
        assert "clients are cut, and not kept" in host.server.log(), host.server.log()
        assert not os.path.exists(host.path)
        try:
            client.pread(512, 0)
        except nbd.Error:
            pass
        else:
            raise AssertionError("a client that was cut is answered")


STORIES = [main, image_that_was_away, store_that_lost_a_write, without_a_manager, manager_that_is_gone,
           manager_that_goes_away]
for story in STORIES:
    with daemon.scratch() as scratch:
        story(scratch)
