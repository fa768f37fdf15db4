# SPDX-License-Identifier: Apache-2.0
"""A restart with --fd-store where the store of one disk does not come back: the others go on at once, the late one
is named, and its clients wait, connected, until it is back, over further restarts too, or until it is detached. One
that hangs in a request at the end loses its own clients, and a disk that is migrated none."""
import os
import signal

import daemon
import systemd_store
from hung_folder import HungFolder
from lost_store import client_of
from successor import control

SIZE = 8 << 20


class Host:
    """A daemon with a disk `vm1` whose client must not notice anything, and another one, which its manager restarts."""

    def __init__(self, folder, other, *options):
        self.folder = folder
        self.image = daemon.make_image(os.path.join(folder, "a.img"), SIZE)
        self.manager = systemd_store.DescriptorStore(os.path.join(folder, "notify"))
        self.options = options
        self.lives = 0
        self.server = None
        self.start("--listen", f"unix:{folder}/nbd.sock")
        control(folder, "serve", "vm1", "--source", self.image)
        control(folder, "serve", "other", "--source", other)
        self.client = client_of(folder, "vm1", self.image)
        self.other = client_of(folder, "other", other)

    def end(self):
        self.server.process.send_signal(signal.SIGTERM)
        assert self.server.process.wait(60) == 0, self.server.log()
        assert self.manager.take().stored, self.server.log()

    def start(self, *options):
        self.lives += 1
        self.server = self.manager.start(self.folder, f"d{self.lives}", *self.options, *options)
        daemon.until(lambda: self.manager.take().ready == self.lives or not self.server.alive(), "READY=1")
        assert self.server.alive(), self.server.log()

    def late(self):
        return daemon.last_json(control(self.folder, "status", "-o", "json"))["daemon"]["late_disks"]

    def goes_on_without(self, why):
        """One disk is late, which is said; the other one's client works."""
        assert self.late() == ["other"], self.server.log()
        assert '"disk":"other"' in self.server.log() and why in self.server.log(), self.server.log()
        assert "'other' is late" in control(self.folder, "status")
        for client in (self.client, self.other):
            client.clean_report()
        daemon.until(lambda: self.client.clean_report()["requests"] > 0, "the other disk's requests")
        assert self.other.clean_report()["requests"] == 0

    def goes_on(self):
        daemon.until(lambda: not self.late(), "the late disk")
        for client in (self.client, self.other):
            client.clean_report()
            daemon.until(lambda c=client: c.clean_report()["requests"] > 0, "requests")

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.client.stop()
        self.other.stop()
        self.server.stop()
        if kind is not None:
            print(self.server.log()[-4000:])


def store_that_is_silent(folder):
    daemon.need("qemu-nbd")
    image = daemon.make_image(os.path.join(folder, "b.img"), SIZE)
    with daemon.qemu_nbd(folder, image) as store, Host(folder, store.uri) as host:
        control(folder, "bitmap", "add", "other", "marks")
        host.end()
        store.freeze()
        host.start()
        host.goes_on_without("not served yet")
        host.end()
        host.start()
        host.goes_on_without("not served yet")
        store.thaw()
        host.goes_on()
        assert "marks" in control(folder, "bitmap", "ls", "other")
        host.other.hold()
        assert host.other.check_file(image) == 0


def folder_that_hangs(folder):
    with HungFolder(folder) as hung, Host(folder, hung.disk) as host:
        host.end()
        hung.hang()
        host.start()
        host.goes_on_without("has not answered")
        hanging = host.server
        hanging.signal(signal.SIGTERM)
        daemon.until(lambda: "clients wait for the next start" in hanging.log(), "the end, though something hangs")
        assert host.manager.take().stored, hanging.log()
        host.start()
        host.goes_on_without("has not answered")
        hung.let_go()
        assert hanging.process.wait(60) == 0, hanging.log()
        host.goes_on()
        host.other.hold()
        assert host.other.check_file(hung.disk) == 0


def image_that_is_away(folder):
    image = daemon.make_image(os.path.join(folder, "b.img"), SIZE)
    with Host(folder, image) as host:
        host.end()
        os.rename(image, image + ".away")
        host.start()
        host.goes_on_without("No such file")
        os.rename(image + ".away", image)
        host.goes_on()
        host.end()
        os.rename(image, image + ".away")
        host.start()
        host.goes_on_without("No such file")
        control(folder, "detach", "other")
        daemon.until(lambda: host.other.report()["errors"] > 0, "its client to hear of it")
        assert not host.late()
        os.rename(image + ".away", image)
        control(folder, "serve", "other", "--source", image)
        host.client.hold()
        assert host.client.check_file(host.image) == 0


def store_that_hangs_at_the_end(folder):
    daemon.need("qemu-nbd")
    image = daemon.make_image(os.path.join(folder, "b.img"), SIZE)
    with daemon.qemu_nbd(folder, image) as store, Host(folder, store.uri, "--stop-timeout", "2s") as host:
        store.freeze()
        daemon.until(lambda: host.other.clean_report()["requests"] == 0, "its client to wait", pause=0.5)
        host.end()
        host.start()
        host.client.clean_report()
        daemon.until(lambda: host.client.clean_report()["requests"] > 0, "the other disk's requests")
        daemon.until(lambda: host.other.report()["errors"] > 0, "its own client to hear of it")
        store.thaw()
        daemon.until(lambda: not host.late(), "the late disk")
        host.client.hold()
        assert host.client.check_file(host.image) == 0


def disk_that_is_migrated(folder):
    image, target = (os.path.join(folder, name) for name in ("b.img", "c.img"))
    daemon.make_image(image, SIZE)
    with Host(folder, image) as host:
        control(folder, "migrate", "other", "--to", target, "--mode", "mirror", "--bwlimit", "1MiB/s", "--detach")
        host.end()
        host.start()
        host.goes_on()
        assert '"job":"job-1"' in host.server.log(), host.server.log()  # it goes on
        control(folder, "set", "other", "bwlimit=none")
        daemon.until(lambda: "c.img" in control(folder, "ls", "disks"), "the end of the move")
        host.goes_on()
        for client, file in ((host.client, host.image), (host.other, target)):
            client.hold()
            assert client.check_file(file) == 0


with daemon.scratch() as scratch:
    for story in (store_that_is_silent, folder_that_hangs, image_that_is_away, store_that_hangs_at_the_end,
                  disk_that_is_migrated):
        place_of_it = os.path.join(scratch, story.__name__)
        os.mkdir(place_of_it)
        story(place_of_it)
