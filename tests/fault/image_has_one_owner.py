# SPDX-License-Identifier: Apache-2.0
"""An image has one owner, also across kill -9, moves and state folders (M6): everybody else is refused, and told by
whom, where the disk is, and what to do (I3)."""
import os
import re
import shutil

import moves
from moves import daemon
from state_folder import StateFolder


class Folder(StateFolder):
    """A state folder and the daemons that work in it, one after the other."""

    def serve(self, image, disk="vm1", *words):
        return self.cli("serve", disk, "--source", image, *words)

    def disk(self, name="vm1"):
        return next(disk for disk in self.shown("ls", "disks")["disks"] if disk["name"] == name)

    def refused(self, image, *parts, disk="vm1", words=()):
        """Serving it fails for a precondition; the message."""
        answer = self.serve(image, disk, *words)
        assert answer.returncode == 9, answer
        for part in parts:
            assert part in answer.stderr, (part, answer.stderr)
        return answer.stderr


def stamp_of(image):
    return image + ".blockmig-owner"


def test_of_the_crash(folder, image, mine, yours):
    """The folder that had it takes it up; another one needs proof, which a living owner makes void."""
    mine.start()
    assert mine.serve(image).returncode == 0
    owner = mine.shown("status")["daemon"]["owner"]
    alive = yours.cli("force-own", image, "--epoch", "1", "--owner", owner)
    assert alive.returncode == 5 and "lives" in alive.stderr, alive
    mine.kill()
    yours.start()
    told = yours.refused(image, "disk 'vm1'", mine.state, f"--epoch 1 --owner {owner}")
    yours.refused(image, owner, words=("--force-source",))  # that gives up one's own only
    mine.start()  # takes it up without a question
    assert mine.disk()["epoch"] == 1 and mine.disk()["stamp"] == "stamped", mine.disk()
    mine.kill()
    for proof in ((), ("--epoch", "2", "--owner", owner), ("--epoch", "1", "--owner", "somebody")):
        unproven = yours.cli("force-own", image, *proof)
        assert unproven.returncode == 9 and f"--epoch 1 --owner {owner}" in unproven.stderr, unproven
    yours.refused(image)
    command = re.search(r"blockmig (force-own \S+ --epoch \d+ --owner \S+)", told).group(1).split()
    yours.ok(*command)
    assert yours.serve(image).returncode == 0
    mine.start()  # its journal still names the image: it must not come between
    assert mine.cli("status", "vm1").returncode != 0, "two daemons have one image"
    mine.end()
    yours.kill()
    mine.start()
    assert mine.cli("status", "vm1").returncode != 0, "it took what somebody else had taken"
    mine.end()
    yours.start()
    yours.ok("detach", "vm1", "--forget")
    assert not os.path.exists(stamp_of(image)), "a stamp is left of a forgotten disk"
    yours.end()
    shutil.rmtree(mine.state)
    shutil.rmtree(yours.state)


def test_of_the_move(folder, image, mine, yours):
    """What a move has left is served by nobody any more, not even with an older copy of the journal."""
    target = os.path.join(folder, "target.img")
    mine.start()
    assert mine.serve(image).returncode == 0
    mine.end()
    old_journal = mine.state + ".old"
    shutil.copytree(mine.state, old_journal, ignore=lambda _, names: [n for n in names if n.endswith(".sock")])
    mine.start()
    mine.ok("migrate", "vm1", "--to", target, "--mode", "dbt")
    assert mine.disk()["epoch"] == 2
    yours.start()
    yours.refused(image, "was left by disk 'vm1'", target, "epoch 2")
    yours.refused(image, target, words=("--read-only",))
    mine.refused(image, target, disk="vm2")
    mine.kill()
    yours.refused(target, "disk 'vm1'", mine.state)
    clash = yours.serve(daemon.make_image(os.path.join(folder, "other.img"), 8 * moves.MIB), "vm2")
    assert clash.returncode == 0, clash
    over = yours.cli("migrate", "vm2", "--to", target)
    assert over.returncode == 9 and "name another target" in over.stderr, over  # somebody's only copy
    # A journal from before the move does not bring the old store back.
    new_journal = mine.state + ".new"
    os.rename(mine.state, new_journal)
    os.rename(old_journal, mine.state)
    mine.start()
    assert mine.cli("status", "vm1").returncode != 0, "a stale journal has served the old store"
    assert "journal is older" in mine.process.log(), mine.process.log()[-2000:]
    mine.end()
    shutil.rmtree(mine.state)
    os.rename(new_journal, mine.state)
    mine.start()
    assert mine.disk()["store"].endswith(target), mine.disk()
    # In order, and by whom it likes: the next one is not asked anything.
    mine.ok("detach", "vm1")
    mine.end()
    assert yours.serve(target).returncode == 0
    assert yours.disk()["epoch"] == 3, yours.disk()
    # The owner may overwrite what it has left, and a copy of an instant belongs to nobody.
    backup = os.path.join(folder, "backup.img")
    yours.ok("migrate", "vm1", "--to", backup, "--mode", "snapshot", "--point-in-time")
    assert not os.path.exists(stamp_of(backup))
    yours.ok("migrate", "vm1", "--to", image, "--mode", "cold")
    yours.refused(target, "was left by disk 'vm1'", image, disk="vm3")
    assert yours.serve(target, "vm3", "--force-source").returncode == 0
    yours.end()


def test_of_the_read_only(folder, mine, yours):
    """What a disk that was served read-only has left is nobody's, as what any other has left."""
    mine.start()
    yours.start()
    for name, before in (("released", True), ("unstamped", False)):
        image, target = (os.path.join(folder, f"{name}-{part}.img") for part in ("source", "target"))
        daemon.make_image(image, 8 * moves.MIB)
        if before:
            assert mine.serve(image, name).returncode == 0
            mine.ok("detach", name)
        assert mine.serve(image, name, "--read-only").returncode == 0
        mine.ok("migrate", name, "--to", target)
        mine.ok("detach", name)
        assert mine.cli("serve", name).returncode == 0
        yours.refused(image, f"was left by disk '{name}'", target, disk=name)
    mine.end()
    yours.end()


def test_of_the_copy(folder, image, mine):
    """A copy without a daemon leaves no stamps."""
    copy = os.path.join(folder, "copy.img")
    mine.ok("migrate", image, "--to", copy)
    assert daemon.same(image, copy)
    assert not os.path.exists(stamp_of(copy)) and not os.path.exists(stamp_of(image))


def main():
    with daemon.scratch() as folder:
        mine, yours = (Folder(os.path.join(folder, name)) for name in ("mine", "yours"))
        try:
            image = daemon.make_image(os.path.join(folder, "source.img"), 8 * moves.MIB)
            test_of_the_copy(folder, image, mine)
            test_of_the_crash(folder, image, mine, yours)
            test_of_the_move(folder, image, mine, yours)
            test_of_the_read_only(folder, mine, yours)
        finally:
            for each in (mine, yours):
                each.kill()


main()
