# SPDX-License-Identifier: Apache-2.0
"""A disk of the command line that cannot be served yet keeps no other one from being served: with several disks, beside
recorded ones, and where a daemon takes another's place it is named, tried again until it is there, and may be detached.
Where there is nothing else to serve, or what is said cannot be, the start fails as it must."""
import json
import os

import daemon
from successor import control, ready, start

NOT_FOUND, INVALID = 4, 2


def image(folder, name):
    return daemon.make_image(os.path.join(folder, name + ".img"), 1 << 20)


def disks(folder):
    return {each["name"] for each in json.loads(control(folder, "ls", "disks", "-o", "json"))["disks"]}


def late(folder):
    return json.loads(control(folder, "status", "-o", "json"))["daemon"]["late_disks"]


def at_a_plain_start(folder):
    """The store of one is away, then silent; a recorded disk is not down for it either."""
    store = daemon.nbdkit(folder, "memory", "8M")
    wanted = ("--disk", "vm1=" + store.uri, "--disk", "vm2=" + image(folder, "b"))
    server = start(folder, "d0", *wanted)
    try:
        assert ready(server), server.log()
        control(folder, "serve", "recorded", "--source", image(folder, "c"))
        server.stop()
        store.freeze()
        server = start(folder, "d1", *wanted)
        assert ready(server), server.log()
        assert disks(folder) == {"vm2", "recorded"} and late(folder) == ["vm1"], server.log()
        assert '"disk":"vm1"' in server.log() and "not served yet" in server.log(), server.log()
        store.thaw()
        daemon.until(lambda: "vm1" in disks(folder), "the store that was silent")
        assert not late(folder)
        server.stop()
        store.kill()
        os.unlink(store.socket_path)
        server = start(folder, "d2", *wanted)
        assert ready(server), server.log()
        assert disks(folder) == {"vm2", "recorded"} and late(folder) == ["vm1"], server.log()
        store = daemon.nbdkit(folder, "memory", "8M")
        daemon.until(lambda: "vm1" in disks(folder), "the store that was away")
    finally:
        server.stop()
        store.kill()


def one_that_hangs_alone(folder):
    with daemon.nbdkit(folder, "memory", "8M") as store:
        store.freeze()
        server = start(folder, "d0", "--disk", "vm1=" + store.uri)
        try:
            assert ready(server), server.log()
            assert late(folder) == ["vm1"]
            store.thaw()
            daemon.until(lambda: disks(folder) == {"vm1"}, "the store that was silent")
        finally:
            server.stop()


def beside_a_handover(folder):
    """A daemon of its own has the image at first. What is late is no obstacle for the next daemon."""
    busy = image(folder, "b")
    other = os.path.join(folder, "other")
    os.mkdir(other)
    servers = [start(other, "other", "--disk", "x=" + busy), start(folder, "d0", "--disk", "vm1=" + image(folder, "a"))]
    try:
        assert ready(servers[0]) and ready(servers[1])
        for name in ("d1", "d2"):
            servers.append(start(folder, name, "--replace", "--disk", "vm2=" + busy, "--disk",
                                 "vm3=" + image(folder, name)))
            assert ready(servers[-1]), servers[-1].log()
            assert disks(folder) == {"vm1", "vm3"} and late(folder) == ["vm2"], servers[-1].log()
            assert '"disk":"vm2"' in servers[-1].log() and "in use" in servers[-1].log(), servers[-1].log()
        servers[0].stop()
        daemon.until(lambda: "vm2" in disks(folder), "the image that is let go")
    finally:
        for server in servers:
            server.stop()


def detached(folder):
    path = os.path.join(folder, "b.img")
    server = start(folder, "d0", "--disk", "vm1=" + image(folder, "a"), "--disk", "vm2=" + path)
    try:
        assert ready(server), server.log()
        assert late(folder) == ["vm2"]
        control(folder, "detach", "vm2")
        assert not late(folder)
        control(folder, "serve", "vm2", "--source", image(folder, "b"))
        assert disks(folder) == {"vm1", "vm2"}
    finally:
        server.stop()


def what_fails_at_once(folder):
    there, missing = "vm1=" + image(folder, "a"), os.path.join(folder, "missing.img")
    for words, code in ((("--disk", "vm2=" + missing), NOT_FOUND),
                        (("--disk", "vm2=" + missing, "--disk", "vm3=" + missing), NOT_FOUND),
                        (("--disk", there, "--disk", "vm2=nonsense://x"), INVALID)):
        server = start(folder, f"d{code}{len(words)}", *words)
        assert server.process.wait(30) == code, server.log()


for story in (at_a_plain_start, one_that_hangs_alone, beside_a_handover, detached, what_fails_at_once):
    with daemon.scratch() as scratch:
        story(scratch)
