# SPDX-License-Identifier: Apache-2.0
"""A job that waits for its source has been aborted, and its daemon is killed before it can end: a restart ends it, and
serves the disk from its source. (M3)"""
import os

import moves
from moves import daemon
from state_folder import StateFolder


def rate(host):
    return host.shown("status", "job-1")["rate_bytes_per_second"]


def is_ending(host):
    shown = host.shown("status", "job-1")
    assert shown["state"] == "running", shown
    return "waits until the source has answered" in shown["verdict"]


def check(folder, source, host):
    host.start()
    host.ok("serve", "vm1", "--source", source.uri)
    host.ok("migrate", "vm1", "--to", os.path.join(folder, "b.img"), "--mode", "dbt", "--bwlimit", "1MiB/s", "--detach")
    daemon.until(lambda: rate(host), "the copy to begin")
    source.freeze()
    daemon.until(lambda: not rate(host), "the copy to wait for the source")
    host.ok("abort", "vm1")
    daemon.until(lambda: is_ending(host), "the job to say what it waits for")
    host.kill()
    source.thaw()
    host.start()
    daemon.until(lambda: host.shown("status", "job-1")["state"] == "aborted", "the job to be ended")
    assert daemon.ok("nbdinfo", "--size", host.uri()).strip() == str(4 * moves.MIB)


daemon.need("nbdkit", "nbdinfo")
with daemon.scratch() as scratch:
    image = daemon.make_image(os.path.join(scratch, "a.img"), 4 * moves.MIB, holes=False)
    with daemon.nbdkit(scratch, "file", image) as peer, StateFolder(os.path.join(scratch, "s")) as state:
        check(scratch, peer, state)
