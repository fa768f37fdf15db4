# SPDX-License-Identifier: Apache-2.0
"""blockmigd --replace in the middle of a move, of every mode, twice: no client notices, and the move goes on to its end.

What the daemon before has recorded is not copied again, also where it ended just after it had copied that.
"""
import json
import os

import replacing
from moves import daemon, MIB

MODES = ("cold", "dbt", "mirror", "auto", "snapshot", "backup", "postcopy", "hybrid", "shared", "settle", "return")


def every_mode(folder, mode):
    options = {"shared": ("--hydrate", "background"), "postcopy": ("--reverse-mirror", "off")}.get(mode, ())
    with replacing.Host(folder, mode) as host:
        host.begin(*options)
        for attempt in (2, 3):
            host.is_under_way()
            if mode == "backup":
                host.client.hold()  # its instant is after this
            host.replace()
            host.goes_on(attempt)
        if mode == "backup":
            host.is_under_way()
            copy = dict(host.job())
            assert copy["point_in_time"], copy
        ended = host.end()
        if mode == "backup":
            with open(host.target + ".blockmig-backup", encoding="ascii") as record:
                assert json.load(record)["state"] == "complete"
        print(mode, "went on as of attempt", ended["attempt"])


def only_the_difference(folder, mode):
    """Nobody writes, so the difference is what had not been copied: what is recorded is as of the hand-over."""
    with replacing.Host(folder, mode) as host:
        host.client.hold()
        host.begin("--checkpoint-interval", "1h")
        host.is_under_way(12 * MIB)
        copied = host.job()["bytes_copied"]
        host.replace()
        host.goes_on(2)
        host.client.resume()
        daemon.until(lambda: host.job()["resumed"], "it to be resumed")
        left = host.job()["bytes_total"]
        assert left <= replacing.SIZE - copied + 4 * MIB, (left, copied)
        host.end()


def several_at_once(folder):
    """A paused one stays paused, one that is to wait waits, the others go on."""
    with replacing.Host(folder, "mirror") as host:
        jobs = {}
        for name, words in (("paused", ()), ("waits", ("--on-restart", "pause"))):
            image = daemon.make_image(os.path.join(folder, name + ".img"), 8 * MIB, seed=len(name))
            host.cli("serve", name, "--source", image)
            told = host.cli("migrate", name, "--to", image + ".new", "--mode", "dbt", "--bwlimit", "1MiB/s", "--detach",
                            "-o", "json", *words)
            jobs[name] = daemon.last_json(told)["id"]
        host.begin()
        host.is_under_way()
        host.cli("pause", "paused")
        host.replace()
        host.goes_on(2)

        def job(name):
            return daemon.last_json(host.cli("status", jobs[name], "-o", "json"))
        for name in jobs:
            daemon.until(lambda name=name: job(name)["state"] == "paused", f"{name} to be paused")
        assert "an operator" in job("paused")["paused_because"], job("paused")
        assert "--on-restart pause" in job("waits")["paused_because"], job("waits")
        assert "blockmig resume waits" in host.servers[0].log(), "the old daemon says so before"
        for name in jobs:
            host.cli("set", name, "bwlimit=none")
            host.cli("resume", name)
            daemon.until(lambda name=name: job(name)["state"] == "done", f"the end of {name}")
        host.end()


for mode_ in MODES:
    with daemon.scratch() as scratch:
        every_mode(scratch, mode_)
for mode_ in ("dbt", "mirror"):
    with daemon.scratch() as scratch:
        only_the_difference(scratch, mode_)
with daemon.scratch() as scratch:
    several_at_once(scratch)
