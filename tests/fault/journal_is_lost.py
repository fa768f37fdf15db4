# SPDX-License-Identifier: Apache-2.0
"""The journal's filesystem takes nothing any more, not even the removal of a file: the guest is served on without an
error, also where nothing has been written for a while; the move is aborted. After a restart nothing is believed of
what was recorded before."""
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
    with open(host.log, encoding="utf-8") as log:
        assert "recorded of the move's progress is not believed" in log.read()


daemon.need("nbdsh", "mkfs.xfs", "xfs_io", "mount")
with daemon.scratch() as place:
    disk = Medium(place)
    why_not = disk.mount()
    if why_not:
        daemon.skip("cannot mount an XFS image here: " + why_not)
    try:
        with Host(place, disk.folder) as here:
            here.serve()
            daemon.ok("sync", "-f", here.state)
            lose_the_journal(here, disk)
            come_back(here, disk)
    finally:
        disk.unmount()
