# SPDX-License-Identifier: Apache-2.0
"""A copy by the command line alone is whole when it reports done, and is refused where nobody could know that (M7)."""
import os
import shutil

import moves
from moves import daemon

SIZE = 8 * moves.MIB
USAGE, PRECONDITION = 2, 9


def copy(source, target, *options):
    """`blockmig migrate FILE --to TARGET` with no daemon about."""
    return daemon.run(daemon.built("blockmig"), "migrate", source, "--to", target, "--state-dir",
                      target + ".state", *options)


def refused(result, target, code, names):
    assert result.returncode == code and names in result.stderr, (result.returncode, result.stderr)
    assert not os.path.exists(target), "something was made all the same"


def modes(folder):
    image = daemon.make_image(os.path.join(folder, "a.img"), SIZE, holes=False)
    original = shutil.copy(image, image + ".original")
    target = os.path.join(folder, "copy.img")
    for hydrate in ((), ("--hydrate", "on-demand"), ("--hydrate", "never")):
        refused(copy(image, target, "--mode", "shared", *hydrate), target, USAGE, "--hydrate background")
    for mode in (("shared", "--hydrate", "background"), ("postcopy",), ("hybrid",), ("cold",)):
        made = copy(image, target, "--mode", *mode, "--bwlimit", "16MiB/s")
        assert made.returncode == 0, (mode, made.stderr)
        assert daemon.same(target, original) and daemon.same(image, original), mode
        os.remove(target)
    # What was left is nobody's.
    with daemon.Daemon(folder, image, name="after"):
        pass


def at_rest(folder):
    image = daemon.make_image(os.path.join(folder, "b.img"), SIZE, holes=False)
    original = shutil.copy(image, image + ".original")
    local, target = image + ".local", os.path.join(folder, "copy-b.img")
    with daemon.Daemon(folder, image, name="b") as disk:
        disk.migrate(local, "shared", "--hydrate", "never")
    for source in (image, local):
        refused(copy(source, target), target, PRECONDITION, f"disk '{daemon.EXPORT}'")
    assert "blockmig settle" in copy(local, target).stderr
    with daemon.Daemon(folder, local, name="b") as disk:
        daemon.ok(daemon.built("blockmig"), "settle", daemon.EXPORT, "--state-dir", disk.state_dir)
        disk.kill()
    # Killed: what it may still have had to do, nobody says; perhaps not even that the disk is whole, which the
    # stamp is told after the job's end.
    refused(copy(local, target), target, PRECONDITION, f"is the store of disk '{daemon.EXPORT}', wh")
    with daemon.Daemon(folder, local, name="b"):
        pass
    made = copy(local, target)
    assert made.returncode == 0, made.stderr
    assert daemon.same(target, original)


with daemon.scratch() as scratch:
    modes(scratch)
    at_rest(scratch)
