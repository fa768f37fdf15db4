# SPDX-License-Identifier: Apache-2.0
"""The image of a disk that is detached, or whose daemon has ended, is its only copy: neither a move nor a backup
writes over it, and a disk whose image was given to another one is not served from it (I3)."""
import os
import shutil

import moves
from moves import daemon
from state_folder import StateFolder

SIZE = 4 * moves.MIB


def refused(answer, *parts):
    assert answer.returncode == 9, answer
    for part in parts:
        assert part in answer.stderr, (part, answer.stderr)


def store_of(folder, disk):
    return next(each["store"] for each in folder.shown("ls", "disks")["disks"] if each["name"] == disk)


def test_of_the_same_folder(folder, mine, image, other):
    """By the journal, also under another name, and for copies that leave nothing behind."""
    link = os.path.join(folder, "link.img")
    os.link(other, link)
    mine.start()
    mine.ok("serve", "vm1", "--source", image)
    mine.ok("serve", "vm2", "--source", other)
    mine.ok("detach", "vm2")
    for name in (other, link):
        refused(mine.cli("migrate", "vm1", "--to", name, "--mode", "dbt"), "disk 'vm2'", "detach vm2 --forget")
    refused(mine.cli("migrate", "vm1", "--to", other, "--mode", "snapshot", "--point-in-time"), "disk 'vm2'")
    refused(mine.cli("backup", "vm1", other, "--bitmap", "mon"), "disk 'vm2'")
    assert not os.path.exists(other + ".blockmig-backup")
    assert daemon.same(other, other + ".orig")
    os.unlink(link)
    mine.ok("serve", "vm2")
    assert store_of(mine, "vm2").endswith(other)
    mine.ok("detach", "vm2")


def test_of_another_folder(mine, yours, other):
    """By the stamp; what is forgotten is free, and what was forced from its owner."""
    yours.start()
    yours.ok("serve", "vm3", "--source", other + ".orig")
    refused(yours.cli("migrate", "vm3", "--to", other), "disk 'vm2'", mine.state, "force-own")
    refused(yours.cli("migrate", "vm3", "--to", other, "--mode", "snapshot", "--point-in-time"), "disk 'vm2'")
    refused(yours.cli("migrate", other + ".orig2", "--to", other), "disk 'vm2'", "force-own")
    assert daemon.same(other, other + ".orig")
    yours.end()


def test_of_what_was_given_away(mine, other):
    """Whoever names an image that was released gets it; the disk that lived there hears of that."""
    mine.ok("serve", "vm4", "--source", other)
    mine.ok("detach", "vm4")
    refused(mine.cli("serve", "vm2"), "disk 'vm4'", "--force-source")
    mine.end()
    mine.start()
    refused(mine.cli("serve", "vm2"), "disk 'vm4'")
    mine.ok("serve", "vm4")
    # Its own old store is free for it, whatever the journal says of vm2.
    mine.ok("migrate", "vm4", "--to", other + ".new", "--mode", "cold", "--keep-record")
    mine.ok("migrate", "vm4", "--to", other, "--mode", "return")
    mine.ok("detach", "vm4")
    mine.ok("serve", "vm2", "--source", other, "--force-source")
    mine.ok("detach", "vm2")


def test_of_what_is_let_go(mine, image, other):
    """Forgotten without being served, the disk is no more, and its image free."""
    refused(mine.cli("migrate", "vm1", "--to", other), "disk 'vm2'")
    mine.ok("detach", "vm2", "--forget")
    assert not os.path.exists(other + ".blockmig-owner")
    assert mine.cli("detach", "vm2", "--forget").returncode == 4
    mine.cli("detach", "vm4", "--forget")
    mine.ok("migrate", "vm1", "--to", other, "--mode", "dbt")
    assert store_of(mine, "vm1").endswith(other)
    mine.end()
    assert daemon.same(image, other)


def main():
    with daemon.scratch() as folder:
        image = daemon.make_image(os.path.join(folder, "a.img"), SIZE, seed=1)
        other = daemon.make_image(os.path.join(folder, "b.img"), SIZE, seed=2)
        for copy in (".orig", ".orig2"):
            shutil.copy(other, other + copy)
        with StateFolder(os.path.join(folder, "mine")) as mine, StateFolder(os.path.join(folder, "yours")) as yours:
            test_of_the_same_folder(folder, mine, image, other)
            test_of_another_folder(mine, yours, other)
            test_of_what_was_given_away(mine, other)
            test_of_what_is_let_go(mine, image, other)


main()
