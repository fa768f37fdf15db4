# SPDX-License-Identifier: Apache-2.0
"""blockmigd --replace where one disk could not be opened again: refused, by its name, and no client notices.

Where a store goes while the handover is under way, only its own clients wait: for as long as it is away, or until
the disk is detached.
"""
import os

import daemon
from lost_store import client_of
from successor import Doomed, control, ready, refused, start

SIZE = 8 << 20


def late(folder):
    return daemon.last_json(control(folder, "status", "-o", "json"))["daemon"]["late_disks"]


class Host:
    """A daemon with a disk `vm1` whose client must not notice anything, and another one."""

    def __init__(self, folder, other, *options):
        self.folder = folder
        self.image = daemon.make_image(os.path.join(folder, "a.img"), SIZE)
        path = os.path.join(folder, "nbd.sock")
        self.server = start(folder, "d0", "--listen", f"unix:{path}")
        assert ready(self.server), self.server.log()
        control(folder, "serve", daemon.EXPORT, "--source", self.image)
        control(folder, "serve", "other", "--source", other, *options)
        self.client = client_of(folder, daemon.EXPORT, self.image)
        self.other = client_of(folder, "other", other)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.client.stop()
        self.other.stop()
        self.server.stop()
        if kind is not None:
            print(self.server.log()[-4000:])

    def is_refused(self, name, why):
        """Nobody notices; the running daemon goes on."""
        said = refused(self.folder, name)
        assert "disk 'other'" in said and why in said, said
        assert self.server.alive(), self.server.log()
        self.client.clean_report()

    def is_replaced(self, name):
        following = start(self.folder, name, "--replace")
        assert ready(following), following.log()
        assert self.server.process.wait(20) == 0, self.server.log()
        self.server = following
        self.client.clean_report()
        self.other.clean_report()


def image_that_moves(folder):
    image = daemon.make_image(os.path.join(folder, "b.img"), SIZE)
    with Host(folder, image) as host:
        os.rename(image, image + ".away")
        host.is_refused("gone", "No such file")
        daemon.make_image(image, SIZE, seed=2)
        host.is_refused("another", "is not the image that is being served")
        host.other.clean_report()
        os.rename(image + ".away", image)
        host.is_replaced("d1")

        doomed = Doomed(folder)
        os.rename(image, image + ".away")
        refused_too = doomed.hand_on("d2")
        assert not ready(refused_too), "the old one goes on, and may do better"
        assert "takes its clients back: disk 'other'" in refused_too.log(), refused_too.log()
        daemon.until(lambda: "handed over was taken back" in host.server.log(), "the old daemon to say so")
        assert late(folder) == ["other"] and '"disk":"other"' in host.server.log(), host.server.log()
        host.client.clean_report()
        os.rename(image + ".away", image)
        daemon.until(lambda: not late(folder), "the late disk")
        for client, of in ((host.client, host.image), (host.other, image)):
            client.clean_report()
            client.hold()
            assert client.check_file(of) == 0


def store_that_is_silent(folder):
    daemon.need("qemu-nbd")
    image = daemon.make_image(os.path.join(folder, "c.img"), SIZE)
    with daemon.qemu_nbd(folder, image) as store, Host(folder, store.uri) as host:
        store.freeze()
        host.is_refused("silent", "does not answer")
        store.thaw()
        host.is_replaced("d1")

        between = Doomed(folder)
        store.freeze()
        following = between.hand_on("d2")
        assert ready(following), following.log()
        assert host.server.process.wait(20) == 0, host.server.log()
        host.server = following
        assert late(folder) == ["other"] and "has not answered" in following.log(), following.log()
        host.client.clean_report()
        daemon.until(lambda: host.client.clean_report()["requests"] > 0, "the other disk's requests")
        host.is_refused("late", "is being added")
        store.thaw()
        daemon.until(lambda: not late(folder), "the late disk")
        host.other.hold()
        assert host.other.check_file(image) == 0


with daemon.scratch() as scratch:
    for story in (image_that_moves, store_that_is_silent):
        place_of_it = os.path.join(scratch, story.__name__)
        os.mkdir(place_of_it)
        story(place_of_it)
