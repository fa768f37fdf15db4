# SPDX-License-Identifier: Apache-2.0
"""A move whose disk is late after a restart waits for it: it is shown so, its watcher goes on watching, and it can be
paused and aborted, which a restart remembers. One that was to end with its daemon says that it did."""
import os
import subprocess

import daemon
from state_folder import StateFolder

SIZE = 8 << 20


def job(host):
    return host.shown("status", "vm1")


def begin(folder, host, *options):
    """A move under way; then the daemon dies, and the next one does not find the image."""
    path = daemon.make_image(os.path.join(folder, "a.img"), SIZE, holes=False)
    host.start()
    host.ok("serve", "vm1", "--source", path)
    host.ok("migrate", "vm1", "--to", os.path.join(folder, "b.img"), "--mode", "dbt", "--bwlimit", "1MiB/s", "--detach",
            *(options or ("--checkpoint-interval", "100ms")))
    daemon.until(lambda: job(host)["bytes_copied"] > 0, "the first bytes", pause=0.05)
    host.kill()
    os.rename(path, path + ".away")
    host.start()
    return path


def comes(host, path):
    os.rename(path + ".away", path)
    daemon.until(lambda: host.shown("ls", "disks")["disks"], "the disk", pause=0.05)


def is_shown_and_goes_on(folder, host):
    path = begin(folder, host)
    shown = job(host)
    assert shown["state"] == "paused" and path in shown["paused_because"], shown
    assert "error" not in shown or not shown["error"], shown
    watcher = subprocess.Popen([daemon.built("blockmig"), "--state-dir", host.state, "status", "vm1", "-w"],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    refused = host.cli("set", "vm1", "bwlimit=none")
    assert refused.returncode == 9 and "waits for its disk" in refused.stderr, refused
    comes(host, path)
    daemon.until(lambda: job(host)["state"] == "running", "the move", pause=0.05)
    host.ok("set", "vm1", "bwlimit=none")
    daemon.until(lambda: job(host)["state"] == "done", "its end", pause=0.05)
    assert daemon.same(path, os.path.join(folder, "b.img"))
    assert watcher.wait(timeout=daemon.START_SECONDS) == 0, "it did not see the move go on"


def is_paused(folder, host):
    path = begin(folder, host)
    host.ok("pause", "vm1")
    assert "operator" in job(host)["paused_because"], job(host)
    host.kill()
    host.start()
    assert "operator" in job(host)["paused_because"], job(host)
    comes(host, path)
    daemon.until(lambda: job(host)["attempt"] == 2, "the move", pause=0.05)
    assert job(host)["state"] == "paused", job(host)
    host.ok("resume", "vm1")
    host.ok("set", "vm1", "bwlimit=none")
    daemon.until(lambda: job(host)["state"] == "done", "its end", pause=0.05)


def is_aborted(folder, host):
    path = begin(folder, host)
    host.ok("abort", "vm1")
    assert job(host)["state"] == "aborted", job(host)
    assert host.cli("abort", "vm1").returncode == 9
    host.kill()
    host.start()
    assert job(host)["state"] == "aborted", job(host)
    comes(host, path)
    assert job(host)["state"] == "aborted", job(host)
    # What it had copied is nobody's.
    host.ok("migrate", "vm1", "--to", os.path.join(folder, "b.img"))
    assert daemon.same(path, os.path.join(folder, "b.img"))


def is_aborted_and_forgotten(folder, host):
    begin(folder, host)
    refused = host.cli("detach", "vm1", "--forget")
    assert refused.returncode == 9 and "blockmig abort vm1" in refused.stderr, refused
    host.ok("abort", "vm1")
    host.ok("detach", "vm1", "--forget")


def says_that_it_was_to_end(folder, host):
    path = begin(folder, host, "--on-restart", "abort")
    for _ in range(2):
        shown = job(host)
        assert shown["state"] == "failed" and "--on-restart abort" in shown["error"]["message"], shown
        if os.path.exists(path + ".away"):
            comes(host, path)
    host.kill()
    host.start()
    assert "--on-restart abort" in job(host)["error"]["message"], job(host)


for each in (is_shown_and_goes_on, is_paused, is_aborted, is_aborted_and_forgotten, says_that_it_was_to_end):
    with daemon.scratch() as scratch, StateFolder(os.path.join(scratch, "state")) as server:
        each(scratch, server)
