# SPDX-License-Identifier: Apache-2.0
"""A block device has no stamp: after a kill -9 nothing tells whether another daemon has used it meanwhile, so what is
recorded of a move to it, or from it, is not believed."""
import os

import moves
from moves import daemon
from state_folder import StateFolder

SIZE = 8 * moves.MIB


class Loop:
    """A loop device, detached whatever happens."""

    def __init__(self, file):
        made = daemon.run("losetup", "-f", "--show", file)
        if made.returncode != 0:
            daemon.skip("no loop devices here: " + made.stderr.strip())
        self.device = made.stdout.strip()

    def __enter__(self):
        return self.device

    def __exit__(self, kind, value, trace):
        daemon.run("losetup", "-d", self.device)


def content(path):
    with open(path, "rb") as file:
        return file.read(SIZE)


def begin(mine, source, target):
    """A move that has recorded a part of its progress when its daemon dies."""
    mine.start()
    mine.ok("serve", "vm1", "--source", source)
    mine.ok("migrate", "vm1", "--to", target, "--mode", "dbt", "--detach", "--bwlimit", "1MiB/s",
            "--checkpoint-interval", "100ms")
    daemon.until(lambda: mine.shown("status", "vm1")["bytes_copied"] > 3 * moves.MIB, "a part", seconds=60)
    before = mine.shown("status", "vm1")["checkpoints"]
    daemon.until(lambda: mine.shown("status", "vm1")["checkpoints"] >= before + 2, "its record", seconds=60)
    mine.kill()


def go_on(mine):
    mine.start()
    daemon.until(lambda: mine.cli("set", "vm1", "bwlimit=none").returncode == 0
                 or mine.shown("status", "vm1")["state"] == "done", "it to go on", seconds=60)
    daemon.until(lambda: mine.shown("status", "vm1")["state"] == "done", "the move", seconds=60)
    resumed = mine.shown("status", "vm1")["resumed"]
    mine.end()
    return resumed


def target_of_another(folder, device, mine, yours):
    one, other = (daemon.make_image(os.path.join(folder, name), SIZE, holes=False) for name in ("one", "other"))
    daemon.ok("qemu-io", "-f", "raw", "-c", f"write -P 0x77 0 {SIZE}", other)
    begin(mine, one, device)
    yours.start()
    yours.ok("serve", "vm2", "--source", other)
    yours.ok("migrate", "vm2", "--to", device)
    yours.end()
    resumed = go_on(mine)
    assert content(device) == content(one), "the target has another disk's chunks"
    assert not resumed


def source_of_another(folder, device, mine, yours):
    target = os.path.join(folder, "target")
    begin(mine, device, target)
    yours.start()
    yours.ok("serve", "vm2", "--source", device)
    daemon.ok("qemu-io", "-f", "raw", "-c", f"write -P 0x66 0 {SIZE}", "-c", "flush", yours.uri("vm2"))
    yours.end()
    resumed = go_on(mine)
    assert content(target) == content(device), "what another daemon has written is not at the target"
    assert not resumed


daemon.need("qemu-io", "losetup")
for story in (source_of_another, target_of_another):
    with daemon.scratch() as here, Loop(daemon.make_image(os.path.join(here, "backing"), SIZE, holes=False)) as loop, \
            StateFolder(os.path.join(here, "mine")) as me, StateFolder(os.path.join(here, "yours")) as you:
        story(here, loop, me, you)
