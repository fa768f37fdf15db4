# SPDX-License-Identifier: Apache-2.0
"""What is set of a running move (`set DISK max-downtime= bwlimit= priority=`) holds after a kill -9 of its daemon too, each
change by itself and the last of two, until the move has ended."""
import os

import moves
from moves import daemon
from state_folder import StateFolder


def running(host):
    return daemon.until(lambda: next((job for job in host.shown("ls", "jobs")["jobs"] if job["state"] == "running"), None),
                        "the move")


def facts(host):
    job = running(host)
    return job["max_downtime_ms"], job["bwlimit_bytes_per_second"], job["priority"]


def check(folder, host):
    image, target = (os.path.join(folder, name) for name in ("a.img", "b.img"))
    daemon.make_image(image, 16 * moves.MIB, holes=False)
    host.start()
    host.ok("serve", "vm1", "--source", image)
    host.ok("migrate", "vm1", "--to", target, "--mode", "dbt", "--max-downtime", "250ms", "--bwlimit", "1MiB/s", "--detach")
    assert facts(host)[:2] == (250, moves.MIB), facts(host)
    usual = facts(host)[2]
    daemon.until(lambda: running(host)["bytes_copied"], "the move to be recorded")
    host.ok("set", "vm1", "max-downtime=700ms")
    host.ok("set", "vm1", "max-downtime=2s")
    host.kill()
    host.start()
    assert facts(host) == (2000, moves.MIB, usual), facts(host)
    host.ok("set", "vm1", f"bwlimit={moves.MIB // 2}")
    host.kill()
    host.start()
    assert facts(host) == (2000, moves.MIB // 2, usual), facts(host)
    host.ok("set", "vm1", "bwlimit=none")
    daemon.until(lambda: host.shown("status", "vm1")["state"] == "done", "the end of the move")
    assert host.shown("status", "vm1")["max_downtime_ms"] == 2000
    assert daemon.same(image, target)


with daemon.scratch() as scratch, StateFolder(os.path.join(scratch, "s")) as state:
    check(scratch, state)
