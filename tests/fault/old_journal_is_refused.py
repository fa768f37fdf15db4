# SPDX-License-Identifier: Apache-2.0
"""An old copy of the state folder serves nothing that has been written to since, also where no epoch has changed: what
it has of present chunks and of a move's progress would take flushed writes back (I3, I5)."""
import os
import shutil

import moves
from moves import daemon
from state_folder import StateFolder

daemon.need("qemu-io")
SIZE = 16 * moves.MIB


class Folder(StateFolder):
    """A state folder that can be put back as it was."""

    def copy(self, name):
        kept = f"{self.state}.{name}"
        shutil.rmtree(kept, ignore_errors=True)
        shutil.copytree(self.state, kept, ignore=shutil.ignore_patterns("*.sock"))

    def put_back(self, name):
        shutil.rmtree(self.state)
        shutil.copytree(f"{self.state}.{name}", self.state)

    def io(self, *commands):
        words = [word for command in commands for word in ("-c", command)]
        done = daemon.run("qemu-io", "-f", "raw", self.uri(), *words)
        assert done.returncode == 0 and "failed" not in done.stdout, done

    def disks(self):
        return self.shown("ls", "disks")["disks"]

    def refused(self):
        """A life in which the disk is not served, and why not is said."""
        self.start()
        assert not self.disks(), self.disks()
        for words in ((), ("--read-only",)):
            answer = self.cli("serve", "vm1", *words)
            assert answer.returncode == 9 and "journal is older" in answer.stderr, answer
        refused = self.shown("status")["daemon"]["refused_disks"]
        assert [disk["disk"] for disk in refused] == ["vm1"] and "journal is older" in refused[0]["why"], refused
        assert "disk 'vm1' was served before, and is not now" in self.ok("status"), "the overview names it"
        self.end()


def test_of_data_at_rest(folder):
    """Which chunks are in the disk's own store, only the newest journal knows."""
    os.mkdir(os.path.join(folder, "rest"))
    image = daemon.make_image(os.path.join(folder, "rest", "a.img"), SIZE, holes=False)
    local = os.path.join(folder, "local.img")
    with Folder(os.path.join(folder, "shared")) as state:
        state.start()
        state.ok("serve", "vm1", "--source", image)
        state.ok("migrate", "vm1", "--to", local, "--mode", "shared")
        state.end()
        state.copy("old")
        state.start()
        state.io("write -P 0x4e 8M 64k", "flush")
        state.end()
        state.copy("new")
        state.put_back("old")
        state.refused()
        state.refused()  # a refusal makes it no newer
        state.put_back("new")
        state.start()
        state.io("read -P 0x4e 8M 64k")
        state.end()
        state.put_back("old")
        state.start()
        state.ok("serve", "vm1", "--source", local, "--force-source")
        state.io("read -P 0x4e 8M 64k")
        assert "is not whole" in state.process.log(), state.process.log()[-2000:]
        state.end()
        state.put_back("new")
        state.refused()


def test_of_a_move(folder):
    """What is recorded of a move lacks what was written after the copy."""
    image = daemon.make_image(os.path.join(folder, "m.img"), SIZE, seed=3, holes=False)
    target = os.path.join(folder, "n.img")
    with Folder(os.path.join(folder, "moving")) as state:
        state.start()
        state.ok("serve", "vm1", "--source", image)
        state.ok("migrate", "vm1", "--to", target, "--mode", "dbt", "--bwlimit", "4MiB/s",
                 "--checkpoint-interval", "100ms", "--detach")
        daemon.until(lambda: state.shown("status", "vm1")["checkpoints"] >= 2, "checkpoints", pause=0.05)
        state.kill()
        state.copy("old")
        state.start()
        state.io(*(f"write -P {65 + at} {at}M 64k" for at in range(0, 16, 2)), "flush")
        daemon.until(lambda: state.shown("status", "vm1")["checkpoints"] >= 1, "a checkpoint", pause=0.05)
        state.kill()
        state.copy("new")
        state.put_back("old")
        state.refused()
        state.put_back("new")
        state.start()
        state.ok("set", "vm1", "bwlimit=none")
        daemon.until(lambda: state.shown("status", "vm1")["state"] == "done", "the move to end")
        state.ok("detach", "vm1")
        state.end()
        assert daemon.same(image, target)


def test_from_before_a_job(folder):
    """A copy that was made while the daemon ran, before a job began."""
    image = daemon.make_image(os.path.join(folder, "j.img"), SIZE, seed=4)
    with Folder(os.path.join(folder, "job")) as state:
        state.start()
        state.ok("serve", "vm1", "--source", image)
        state.copy("old")
        state.ok("migrate", "vm1", "--to", os.path.join(folder, "j.copy"), "--mode", "snapshot", "--point-in-time")
        state.kill()
        state.put_back("old")
        state.refused()


def main():
    with daemon.scratch() as folder:
        test_of_data_at_rest(folder)
        test_of_a_move(folder)
        test_from_before_a_job(folder)


main()
