# SPDX-License-Identifier: Apache-2.0
"""A daemon that is to take the place of another one in the middle of a move, and fails, or is killed, or sees the old
one killed: one of them has the disk, no client notices, and the move goes on there by what is recorded."""
import os
import socket

import replacing
from moves import daemon, MIB
from successor import Doomed, ready

TAKEN_BACK = "handed over was taken back"


def is_taken_back(host, times=1):
    daemon.until(lambda: host.server.log().count(TAKEN_BACK) >= times, "the old daemon to take it back")
    assert host.server.alive(), host.server.log()


def dies_at_once(folder, mode):
    """Before it listens, before it has read anything, and with everything in its hands; then one succeeds."""
    with replacing.Host(folder, mode) as host:
        host.begin()
        host.is_under_way()
        with socket.socket(socket.AF_UNIX) as asking:
            asking.connect(os.path.join(folder, "s", "control.sock"))
            asking.sendall(b"POST /v1/handover HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
            assert b" 200 " in asking.recv(100)
        daemon.until(lambda: "nobody takes over" in host.server.log(), "the old daemon to say so")
        host.is_under_way()
        assert host.job()["attempt"] == 1, "nothing was given up for nobody"
        for times in (1, 2):
            Doomed(folder, takes=times == 2).die()
            is_taken_back(host, times)
            host.goes_on(1 + times)
            host.is_under_way()
        host.replace()
        host.goes_on(4)
        host.end()


def does_not_open_everything(folder, mode):
    """It has left the move alone, which the old one goes on with."""
    with replacing.Host(folder, mode) as host:
        other = daemon.make_image(os.path.join(folder, "other.img"), MIB)
        host.cli("serve", "other", "--source", other)
        host.begin()
        host.is_under_way()
        doomed = Doomed(folder)
        os.rename(other, other + ".away")
        failed = doomed.hand_on("failed")
        assert failed.process.wait(30) != 0, failed.log()
        assert "takes its clients back: disk 'other'" in failed.log(), failed.log()
        assert "resumed from its record" not in failed.log(), "it was not its move yet"
        os.rename(other + ".away", other)
        is_taken_back(host)
        host.goes_on(2)
        assert host.job()["switched"] or host.job()["attempt"] == 2, host.job()
        host.end()


def is_killed_with_the_disks(folder, mode):
    """It has opened the disk, and waits for another one."""
    daemon.need("qemu-nbd")
    other = daemon.make_image(os.path.join(folder, "other.img"), MIB)
    with daemon.qemu_nbd(folder, other) as store, replacing.Host(folder, mode) as host:
        host.cli("serve", "other", "--source", store.uri)
        host.begin()
        host.is_under_way()
        doomed = Doomed(folder)
        store.freeze()

        def kill(following):
            daemon.until(lambda: "serving file://" in following.log(), "the disk to be opened")
            following.kill()
            store.thaw()
        doomed.hand_on("killed", meanwhile=kill)
        is_taken_back(host)
        host.goes_on(2)
        host.end()


def old_one_is_killed(folder, mode):
    """It has handed over, and does not hear what became of it."""
    with replacing.Host(folder, mode) as host:
        host.begin()
        host.is_under_way()
        doomed = Doomed(folder)
        host.server.kill()
        following = doomed.hand_on(f"d{len(host.servers)}")
        assert ready(following), following.log()
        host.servers.append(following)
        host.goes_on(2)
        host.end()


STORIES = {dies_at_once: ("dbt", "mirror", "cold", "hybrid", "snapshot"),
           does_not_open_everything: ("dbt", "postcopy", "return"),
           is_killed_with_the_disks: ("mirror", "postcopy"),
           old_one_is_killed: ("auto", "postcopy", "settle")}
for story, modes_ in STORIES.items():
    for mode_ in modes_:
        with daemon.scratch() as scratch:
            story(scratch, mode_)
        print(story.__name__, mode_)
