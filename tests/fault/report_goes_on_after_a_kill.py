# SPDX-License-Identifier: Apache-2.0
"""The report of a move that a restart goes on with has what was measured and decided before the kill (M23)."""
import os

import moves
from moves import daemon
from state_folder import StateFolder

SIZE = 16 * moves.MIB


def job(host):
    return host.shown("status", "vm1")


def check(folder, host):
    source, target = os.path.join(folder, "a.img"), os.path.join(folder, "b.img")
    daemon.make_image(source, SIZE, holes=False)
    host.start()
    host.ok("serve", "vm1", "--source", source)
    daemon.ok("qemu-io", "-f", "raw", "-c", "write 0 64k", "-c", "read 1M 64k", host.uri())
    host.ok("migrate", "vm1", "--to", target, "--mode", "auto", "--bwlimit", "1MiB/s", "--checkpoint-interval", "200ms",
            "--detach")
    daemon.until(lambda: job(host)["decisions"], "a decision")
    before = job(host)
    assert before["guest_before"]["requests"] > 0 and before["earlier_seconds"] == 0, before
    # Until it is recorded: within a second or two.
    daemon.until(lambda: job(host)["elapsed_seconds"] > 3, "it to be recorded")
    host.kill()
    host.start()
    daemon.until(lambda: job(host)["state"] == "running" and job(host)["resumed"], "the move to go on")
    after = job(host)
    assert after["guest_before"] == before["guest_before"], (before, after)
    told = [decision["what"] for decision in after["decisions"]]
    assert told[0] == before["decisions"][0]["what"] and "goes on" in told, told
    assert after["earlier_seconds"] > 0, after
    assert "before restarts" in host.ok("status", "vm1")
    host.stop()  # in order: it is suspended
    host.start()
    daemon.until(lambda: job(host)["state"] == "running", "the move to go on again")
    assert job(host)["earlier_seconds"] > after["earlier_seconds"], job(host)
    host.ok("set", "vm1", "bwlimit=none")
    daemon.until(lambda: job(host)["state"] == "done", "the end of the move")
    ended = job(host)
    assert [decision["what"] for decision in ended["decisions"]].count("goes on") == 2, ended
    host.stop()
    host.start()
    assert job(host)["decisions"] == ended["decisions"], "what is kept of a job that has ended"
    assert daemon.same(source, target)


with daemon.scratch() as scratch, StateFolder(os.path.join(scratch, "s")) as state:
    check(scratch, state)
