# SPDX-License-Identifier: Apache-2.0
"""The daemon ends just after a disk has become whole, or has left the layer that fetched: the next one knows that the
move is done, and lets go of what the disk fetched from."""
import os
import random
import struct
import threading

import moves
from moves import daemon
from state_folder import StateFolder

daemon.need("qemu-io", "nbdkit")
SIZE = 32 * moves.MIB


def job(server):
    return server.shown("status", "vm1")


def store(server):
    return server.shown("ls", "disks")["disks"][0]["store"]


def write_until(stop, server):
    """A guest whose writes have to be hashed at the end, from a store that is slow to read."""
    dice = random.Random(7)
    while not stop.is_set():
        commands = []
        for _ in range(50):
            commands += ["-c", f"write {dice.randrange(SIZE // 4096) * 4096} 4k"]
        daemon.run("qemu-io", "-f", "raw", *commands, server.uri())


def whole_and_not_told(folder, end):
    """False: the guest wrote so little that the job ended first, and nothing was seen."""
    old, new = (os.path.join(folder, name) for name in ("old.img", "new.img"))
    daemon.make_image(old, SIZE, holes=False)
    with open(new, "wb") as image:
        image.truncate(SIZE)
    stop = threading.Event()
    with daemon.nbdkit(folder, "--filter=delay", "file", new, "rdelay=100ms") as kit, \
            StateFolder(os.path.join(folder, "state")) as server:
        server.start()
        server.ok("serve", "vm1", "--source", old)
        guest = threading.Thread(target=write_until, args=(stop, server))
        guest.start()
        try:
            server.ok("migrate", "vm1", "--to", kit.uri, "--mode", "postcopy", "--detach")
            daemon.until(lambda: job(server)["phase"] == "ended" or (job(server)["phase"] == "hydrating" and
                                                                    job(server)["remaining_bytes"] == 0), "all to be there")
            threading.Event().wait(0.3)  # until that is recorded
            if job(server)["phase"] != "hydrating":
                return False
            end(server)
        finally:
            stop.set()
            guest.join()
        server.start()
        daemon.until(lambda: server.shown("ls", "disks")["disks"], "the disk", pause=0.05)
        assert store(server) == kit.uri and job(server)["state"] == "done", job(server)
        server.ok("migrate", "vm1", "--to", old, "--mode", "dbt", "--verify", "none")
    return True


def is_stamped_current(image):
    """The last thing that is done about a switchover before the job ends (blockmig/journal/FORMAT.md)."""
    try:
        with open(image + ".blockmig-owner", "rb") as stamp:
            slots = [stamp.read(16384) for _ in range(2)]
    except FileNotFoundError:
        return False
    good = [slot for slot in slots if slot[:8] == b"BMOWNER\n"]
    newest = max(good, key=lambda slot: struct.unpack_from("<Q", slot, 16), default=None)
    return newest is not None and newest[10] == 1


def layer_left_and_not_told(folder):
    os.mkdir(os.path.join(folder, "shared"))
    a, b, c = (os.path.join(folder, name) for name in ("shared/a.img", "b.img", "c.img"))
    daemon.make_image(a, SIZE, holes=False)
    with StateFolder(os.path.join(folder, "state")) as server:
        server.start()
        server.ok("serve", "vm1", "--source", a)
        server.ok("migrate", "vm1", "--to", b, "--mode", "shared", "--hydrate", "never")
        server.ok("migrate", "vm1", "--to", c, "--mode", "dbt", "--detach")
        daemon.until(lambda: is_stamped_current(c), "the switchover", pause=0)
        server.kill()
        server.start()
        daemon.until(lambda: server.shown("ls", "disks")["disks"], "the disk", pause=0.05)
        assert store(server).endswith("c.img") and job(server)["state"] == "done", job(server)
        shown = daemon.run(daemon.built("blockmig"), "manifest", "show", a, "-o", "json")
        assert '"owner":"vm1"' not in shown.stdout.replace(" ", ""), shown
        server.ok("migrate", "vm1", "--to", a, "--mode", "dbt")


def hydration_of_a_restart(folder):
    """A hydration that a restart has gone on with, and nobody asked for."""
    old, new = (os.path.join(folder, name) for name in ("old.img", "new.img"))
    daemon.make_image(old, SIZE, holes=False)
    with StateFolder(os.path.join(folder, "state")) as server:
        server.start()
        server.ok("serve", "vm1", "--source", old)
        server.ok("migrate", "vm1", "--to", new, "--mode", "postcopy", "--detach", "--bwlimit", "1MiB/s")
        daemon.until(lambda: job(server)["phase"] == "hydrating", "the switchover")
        server.kill()
        server.start()
        daemon.until(lambda: server.shown("ls", "disks")["disks"], "the disk", pause=0.05)
        server.ok("set", "vm1", "bwlimit=none")
        daemon.until(lambda: job(server)["state"] == "done", "the end of the move")
        move = ("migrate", "vm1", "--to", old, "--mode", "dbt")
        daemon.until(lambda: server.cli(*move).returncode == 0, "the old store to be let go")


def in_a_fresh_folder(scene, *arguments):
    with daemon.scratch() as folder:
        return scene(folder, *arguments)


for how in (StateFolder.kill, StateFolder.stop):
    assert any(in_a_fresh_folder(whole_and_not_told, how) for _ in range(5)), "the job always ended first"
in_a_fresh_folder(layer_left_and_not_told)
in_a_fresh_folder(hydration_of_a_restart)
