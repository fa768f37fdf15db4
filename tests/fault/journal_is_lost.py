# SPDX-License-Identifier: Apache-2.0
"""The journal's filesystem takes nothing any more, not even the removal of a file: the guest is served on without an
error, also where nothing has been written for a while; the move is aborted. After a restart nothing is believed of
what was recorded before: the source's stamp says so, or the target's where only that is a file. Between two NBD
stores a restart believes it, and finds the difference before the switchover."""
import contextlib
import os

from journal_host import Host
from medium import Medium
from moves import daemon


def lose_the_journal(host, medium):
    host.move("dbt", "--bwlimit", "1MiB/s")
    medium.cut()
    host.write_everywhere()
    host.write_everywhere(pause=0.1)
    assert host.cli("abort", "vm1").returncode == 0
    assert host.ended()["state"] == "aborted", host.job()
    host.write_everywhere()


def come_back(host, medium):
    host.kill()
    medium.unmount()
    refused = medium.mount()
    assert not refused, refused
    host.everything_is_served_after()
    if host.source_uri == host.source:
        with open(host.log, encoding="utf-8") as log:
            assert "recorded of the move's progress is not believed" in log.read()


def difference_is_found(host, medium):
    host.kill()
    medium.unmount()
    assert not medium.mount()
    host.start()
    host.cli("set", "vm1", "bwlimit=none")
    ended = host.ended()
    assert ended["state"] == "failed" and "verification failed" in str(ended["error"]), ended
    host.write(3)
    host.end()
    with open(host.source, "rb") as image:
        assert image.read() == host.known


def lose_what_bitmaps_rest_on(host, medium):
    """Nothing can say of a persistent bitmap on an NBD store that it misses writes: they fail, and the log says why."""
    before = host.saves()
    host.ok("bitmap", "add", "vm1", "daily")
    daemon.until(lambda: host.saves() >= before + 2, "the bitmap, and then the quiet disk, to be recorded")
    medium.cut()
    for _ in range(2):
        try:
            host.write(1)
        except AssertionError:
            continue
        raise AssertionError("a bitmap that a restart believes misses a write (I5)")
    with open(host.log, encoding="utf-8") as log:
        said = [line for line in log if "where nothing was written for a while fail" in line]
    assert len(said) == 1 and "start the daemon again" in said[0], said
    host.kill()
    medium.unmount()
    assert not medium.mount()
    host.start()
    host.write(1)


def lose_it_with(source, target="none"):
    """Which of both is a file, or an NBD export; without a target a bitmap takes the move's place."""
    with contextlib.ExitStack() as scene:
        place = scene.enter_context(daemon.scratch())
        disk = Medium(place)
        why_not = disk.mount()
        if why_not:
            daemon.skip("cannot mount an XFS image here: " + why_not)
        scene.callback(disk.unmount)
        here = scene.enter_context(Host(place, disk.folder))
        if source == "nbd":
            here.source_uri = scene.enter_context(daemon.nbdkit(place, "file", here.source, name="source")).uri
        if target != "none":  # one that an abort does not take away
            with open(here.target, "wb") as image:
                image.truncate(os.path.getsize(here.source))
        if target == "nbd":
            here.target_uri = scene.enter_context(daemon.nbdkit(place, "file", here.target, name="target")).uri
        here.serve()
        daemon.ok("sync", "-f", here.state)
        if target == "none":
            lose_what_bitmaps_rest_on(here, disk)
            return
        lose_the_journal(here, disk)
        if source == target == "nbd":
            difference_is_found(here, disk)
        else:
            come_back(here, disk)


daemon.need("nbdsh", "nbdkit", "mkfs.xfs", "xfs_io", "mount")
lose_it_with("file", "file")
lose_it_with("nbd", "file")
lose_it_with("nbd", "nbd")
lose_it_with("nbd")
