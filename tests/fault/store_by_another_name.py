# SPDX-License-Identifier: Apache-2.0
"""A loop device is the file that it is bound to, and a partition a part of its disk: never a target, or a second
disk, beside it."""
import os
import shutil

import moves
from moves import daemon

SIZE = 8 * moves.MIB
BUSY, PRECONDITION = 5, 9


class Loops:
    """Loop devices, detached whatever happens."""

    def __init__(self):
        self.devices = []

    def bind(self, *arguments):
        made = daemon.run("losetup", "-f", "--show", *arguments)
        if made.returncode != 0:
            daemon.skip("no loop devices here: " + made.stderr.strip())
        self.devices.append(made.stdout.strip())
        return self.devices[-1]

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        for device in self.devices:
            daemon.run("losetup", "-d", device)


def refused(result, code, *names):
    assert result.returncode == code, (result.returncode, result.stdout + result.stderr)
    for name in names:
        assert name in result.stderr, result.stderr


def target_is_the_source(folder, image, loop, again):
    """Each of the three on each other."""
    for source in (image, loop):
        with daemon.Daemon(folder, source, name="d-" + os.path.basename(source)) as disk:
            with daemon.Client(folder, disk, "--rate", "200", name=os.path.basename(source)) as client:
                for target in (image, loop, again):
                    for mode in ("dbt", "mirror", "cold", "postcopy"):
                        refused(disk.cli("migrate", daemon.EXPORT, "--to", target, "--mode", mode), PRECONDITION,
                                target, "lives on already")
                    if target != source:
                        refused(disk.cli("serve", "second", "--source", target), BUSY, f"'{daemon.EXPORT}'")
                client.clean_report()
                client.finish()
    plain = daemon.run(daemon.built("blockmig"), "migrate", image, "--to", again, "--state-dir",
                       os.path.join(folder, "plain"))
    refused(plain, PRECONDITION, "lives on already")


def halves(folder, loops):
    """Devices on two halves of one file are two stores; the file is both."""
    both = os.path.join(folder, "both.img")
    daemon.make_image(both, 2 * SIZE, holes=False)
    first = loops.bind("--sizelimit", str(SIZE), both)
    second = loops.bind("--offset", str(SIZE), both)
    with daemon.Daemon(folder, first, name="h") as disk:
        refused(disk.cli("migrate", daemon.EXPORT, "--to", both), PRECONDITION, "lives on already")
        assert disk.migrate(second, "dbt")["state"] == "done"
    with open(both, "rb") as f:
        assert f.read(SIZE) == f.read(SIZE), "the move is not whole"


def main():
    daemon.need("losetup")
    with daemon.scratch() as folder, Loops() as loops:
        image = daemon.make_image(os.path.join(folder, "a.img"), SIZE, holes=False)
        loop, again = loops.bind(image), loops.bind(image)
        target_is_the_source(folder, image, loop, again)
        halves(folder, loops)
        # A file on the same disk that is another one is a target like any other.
        other = shutil.copy(image, image + ".other")
        device = loops.bind(other)
        with daemon.Daemon(folder, loop, name="o") as disk:
            assert disk.migrate(device, "mirror")["state"] == "done"


main()
