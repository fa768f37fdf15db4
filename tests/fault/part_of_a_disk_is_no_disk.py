# SPDX-License-Identifier: Apache-2.0
"""An image that is not whole (the rest is in a folder), or a mixture (its disk was on its way back), is handed out only
by force and with a warning, and is not returned to (M5)."""
import json
import os
import re

import moves
from moves import daemon
from state_folder import StateFolder

daemon.need("qemu-io")
SIZE = 16 * moves.MIB


def away(folder, name, state, hydrate="on-demand"):
    """The disk vm1 with data at rest; its images: (at rest, its own)."""
    os.mkdir(os.path.join(folder, name))
    image = daemon.make_image(os.path.join(folder, name, "a.img"), SIZE, holes=False)
    local = os.path.join(folder, name + ".local.img")
    state.start()
    state.ok("serve", "vm1", "--source", image)
    state.ok("migrate", "vm1", "--to", local, "--mode", "shared", "--hydrate", hydrate)
    return image, local


def refused(answer, *parts):
    assert answer.returncode == 9, answer
    for part in parts:
        assert part in answer.stderr, (part, answer.stderr)


def manifest(image):
    return json.loads(daemon.run(daemon.built("blockmig"), "manifest", "show", image, "-o", "json").stdout)


def test_of_an_overlay(folder):
    """The stamp says where the rest is, also after the owner was forced from it."""
    with StateFolder(os.path.join(folder, "s1")) as mine, StateFolder(os.path.join(folder, "t1")) as yours:
        image, local = away(folder, "overlay", mine)
        mine.end()
        yours.start()
        told = yours.cli("serve", "vm1", "--source", local)
        refused(told, "not whole", image)
        force = re.search(r"blockmig (force-own \S+ --epoch \d+ --owner \S+)", told.stderr).group(1).split()
        assert "NOT whole" in yours.ok(*force)
        refused(yours.cli("serve", "vm1", "--source", local), "not whole", image, "--force-source")
        yours.ok("serve", "vm1", "--source", local, "--force-source")
        yours.end()
        # Its owner does not take what somebody else has written to for what he knows the rest of.
        mine.start()
        refused(mine.cli("serve", "vm1"), "--force-source")


def test_of_a_whole_one(folder):
    """Once it is whole, the stamp says nothing of the kind."""
    with StateFolder(os.path.join(folder, "s2")) as mine, StateFolder(os.path.join(folder, "t2")) as yours:
        _, local = away(folder, "whole", mine)
        mine.ok("settle", "vm1")
        daemon.until(lambda: mine.shown("status", "vm1")["state"] == "done", "the disk to be whole")
        mine.end()
        yours.start()
        yours.ok("serve", "vm1", "--source", local)


def test_of_a_mixture(folder):
    """The settling is cut off, the disk's own store is lost: what is in the folder is of no instant."""
    with StateFolder(os.path.join(folder, "s3")) as mine, StateFolder(os.path.join(folder, "t3")) as yours:
        image, local = away(folder, "mixture", mine, "never")
        words = [word for at in range(0, 16) for word in ("-c", f"write -P 0x4e {at}M 64k")]
        daemon.ok("qemu-io", "-f", "raw", mine.uri(), *words)
        mine.ok("settle", "vm1", "--into", os.path.dirname(image), "--bwlimit", "256KiB/s", "--detach")
        daemon.until(lambda: manifest(image)["changing"], "the image to change")
        daemon.until(lambda: mine.shown("status", "vm1")["bytes_copied"] > 0, "some of it to be there", pause=0.05)
        mine.kill()
        os.rename(local, local + ".lost")
        mine.start()
        refused(mine.cli("serve", "vm1", "--source", image))
        yours.start()
        refused(yours.cli("serve", "vm1", "--source", image))
        mine.ok("serve", "vm1", "--source", image, "--force-source")
        assert "mixture of two instants" in mine.process.log(), mine.process.log()[-2000:]
        mine.end()
        mine.start()
        assert manifest(image)["changing"] and not manifest(image)["owner"], manifest(image)
        mine.end()


def test_of_a_replaced_part(folder):
    """Another file in the place of the old store, or of the new one, is not taken for what the disk has there."""
    with StateFolder(os.path.join(folder, "s4")) as mine:
        image = daemon.make_image(os.path.join(folder, "base.img"), SIZE, holes=False)
        target = os.path.join(folder, "new.img")
        mine.start()
        mine.ok("serve", "vm1", "--source", image)
        mine.ok("migrate", "vm1", "--to", target, "--mode", "postcopy", "--bwlimit", "256KiB/s", "--detach")
        daemon.until(lambda: mine.shown("ls", "disks")["disks"][0]["store"].endswith("new.img"), "the switchover")
        mine.end()
        for path in (image, target):
            os.rename(path, path + ".away")
            daemon.make_image(path, SIZE, seed=9)
            mine.start()
            refused(mine.cli("serve", "vm1"), "is not the file that disk 'vm1' had there", path)
            mine.end()
            os.rename(path + ".away", path)
        mine.start()
        assert mine.shown("ls", "disks")["disks"], mine.process.log()[-2000:]
        mine.ok("set", "vm1", "bwlimit=none")
        daemon.until(lambda: mine.shown("status", "vm1")["state"] == "done", "the disk to be whole")
        mine.ok("detach", "vm1")
        assert daemon.same(image, target)


def main():
    with daemon.scratch() as folder:
        test_of_an_overlay(folder)
        test_of_a_whole_one(folder)
        test_of_a_mixture(folder)
        test_of_a_replaced_part(folder)


main()
