# SPDX-License-Identifier: Apache-2.0
"""A disk whose move has ended and whose data is still at rest elsewhere: its record stays, and nothing else gets
hold of the image that it rests in, by any name."""
import os
import shutil

import moves
from moves import daemon

SIZE = 8 * moves.MIB
BUSY, PRECONDITION = 5, 9


def refused(result, code, names):
    assert result.returncode == code and names in result.stderr, (result.returncode, result.stderr)


def check(disk, image, original, hydrate):
    cli = disk.cli
    moved = disk.migrate(image + ".local", "shared", "--hydrate", hydrate)
    assert moved["state"] == "done", moved
    refused(cli("detach", daemon.EXPORT, "--forget"), PRECONDITION, "blockmig settle")
    hard, link = image + ".hard", image + ".link"
    os.link(image, hard)
    os.symlink(image, link)
    other = daemon.make_image(image + ".other", SIZE, seed=2)
    daemon.ok(daemon.built("blockmig"), "serve", "other", "--source", other, "--state-dir", disk.state_dir)
    for name in (image, hard, link):
        # Its own base, too: nothing of it would be left to fetch.
        for who in ("other", daemon.EXPORT):
            refused(cli("migrate", who, "--to", name, "--mode", "dbt"), BUSY, "not whole without it")
        refused(cli("backup", "other", name), BUSY, "not whole without it")
        refused(cli("serve", "third", "--source", name), BUSY, "not whole without it")
    equal = cli("verify", disk.uri, original)
    assert equal.returncode == 0, equal.stderr
    daemon.ok(daemon.built("blockmig"), "settle", daemon.EXPORT, "--state-dir", disk.state_dir)
    # Whole: the image is nobody's.
    daemon.ok(daemon.built("blockmig"), "migrate", "other", "--to", hard, "--state-dir", disk.state_dir)
    equal = cli("verify", disk.uri, original)
    assert equal.returncode == 0, equal.stderr
    daemon.ok(daemon.built("blockmig"), "detach", "other", "--forget", "--state-dir", disk.state_dir)


with daemon.scratch() as scratch:
    for mode in ("on-demand", "never"):
        at = os.path.join(scratch, mode)
        os.mkdir(at)
        source = daemon.make_image(os.path.join(at, "a.img"), SIZE, holes=False)
        shutil.copy(source, source + ".original")
        with daemon.Daemon(at, source) as server:
            check(server, source, source + ".original", mode)
