# SPDX-License-Identifier: Apache-2.0
"""A recorded disk whose store is away, silent or not mounted when the daemon starts is not given up: it is named once,
shown as late, and tried again until it is there, with its move, or until it is detached, served by hand, or the daemon
ends. It is in the way of no other disk, nor of another daemon. One whose image is another's now is given up."""
import os
import socket

import daemon
from state_folder import StateFolder
from successor import ready

NOT_YET = "was served before, and is not served yet"
SIZE = 4 << 20


def late(host):
    return host.shown("status")["daemon"]["late_disks"]


def disks(host):
    return [each["name"] for each in host.shown("ls", "disks")["disks"]]


def image(folder, name):
    return daemon.make_image(os.path.join(folder, name + ".img"), SIZE)


def said(host):
    """What it has said of disks that are late, this life and before."""
    return [line for line in host.process.log().splitlines() if NOT_YET in line]


def ends_each_connection(path, times):
    """A server that is there, and of no use."""
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(path)
        door.listen(8)
        door.settimeout(daemon.START_SECONDS)
        for _ in range(times):
            door.accept()[0].close()
    os.unlink(path)


def away_then_there(folder, host):
    store = daemon.qemu_nbd(folder, image(folder, "a"))
    try:
        host.start()
        host.ok("serve", "vm1", "--source", store.uri)
        host.ok("serve", "vm2", "--source", image(folder, "b"))
        host.kill()
        store.kill()
        os.unlink(store.socket_path)
        host.start()
        assert disks(host) == ["vm2"] and late(host) == ["vm1"]
        assert "'vm1' is late" in host.ok("ls", "disks")
        assert "'vm1' is late" in host.cli("status", "vm1").stderr
        # Or that it is being added, while it is tried.
        move = ("migrate", "vm1", "--to", os.path.join(folder, "c.img"))
        daemon.until(lambda: "'vm1' is late" in host.cli(*move).stderr, "a move to be told that it is late")
        assert len(said(host)) == 1 and '"disk":"vm1"' in said(host)[0], said(host)
        ends_each_connection(store.socket_path, 3)
        store = daemon.qemu_nbd(folder, os.path.join(folder, "a.img"))
        daemon.until(lambda: "vm1" in disks(host), "the store that was away")
        assert not late(host)
        reasons = [line[line.index(NOT_YET):] for line in said(host)]
        assert all(before != after for before, after in zip(reasons, reasons[1:])), reasons
        daemon.ok("qemu-io", "-f", "raw", "-c", "read 0 64k", host.uri())
    finally:
        store.kill()


def silent_then_there(folder, host):
    with daemon.qemu_nbd(folder, image(folder, "a")) as store:
        host.start()
        host.ok("serve", "vm1", "--source", store.uri)
        host.kill()
        store.freeze()
        host.start()
        daemon.until(lambda: len(said(host)) == 1, "its time to pass")
        store.thaw()
        daemon.until(lambda: "vm1" in disks(host), "the store that was silent")
        assert not late(host)


def asked_for_early(folder, host):
    """By a client that comes back before the disk: it waits, and hears that the disk is late; nobody accuses it."""
    path = os.path.join(folder, "n.sock")
    asks = ("qemu-io", "-r", "-f", "raw", "-c", "read 0 64k", f"nbd+unix:///vm1?socket={path}")
    with daemon.qemu_nbd(folder, image(folder, "a")) as store:
        host.start("--listen", "unix:" + path)
        host.ok("serve", "vm1", "--source", store.uri)
        host.kill()
        os.unlink(path)
        store.freeze()
        host.process = daemon.Process(
            [daemon.built("blockmigd"), "--state-dir", host.state, "--listen", "unix:" + path], host.log)
        daemon.until(lambda: daemon.greets(path, b""), "the listener")
        answer = daemon.run(*asks)
        assert answer.returncode != 0 and "is late" in answer.stderr, answer
        store.thaw()
        daemon.until(lambda: daemon.run(*asks).returncode == 0, "the disk")
        assert "asked for a disk that is not here" not in host.process.log(), host.process.log()


def mounted_late(folder, host):
    """With a move, which goes on."""
    path, target = image(folder, "a"), os.path.join(folder, "c.img")
    host.start()
    host.ok("serve", "vm1", "--source", path)
    host.ok("migrate", "vm1", "--to", target, "--mode", "dbt", "--bwlimit", "1MiB/s", "--on-restart", "resume", "--detach")
    daemon.until(lambda: host.shown("status", "vm1")["bytes_copied"], "the move to be recorded")
    host.kill()
    os.rename(path, path + ".away")
    host.start()
    assert late(host) == ["vm1"] and not disks(host)
    os.rename(path + ".away", path)
    daemon.until(lambda: "vm1" in disks(host), "the image that was away")
    daemon.until(lambda: host.shown("status", "vm1")["state"] == "done", "its move")
    assert daemon.same(path, target)


def detached(folder, host):
    path = image(folder, "a")
    host.start()
    host.ok("serve", "vm1", "--source", path)
    host.kill()
    os.rename(path, path + ".away")
    host.start()
    assert late(host) == ["vm1"]
    host.ok("detach", "vm1")
    assert not late(host)
    assert host.cli("detach", "vm1").returncode == 4
    host.stop()
    os.rename(path + ".away", path)
    host.start()
    assert not late(host) and not disks(host)
    host.ok("serve", "vm1")
    host.kill()
    os.rename(path, path + ".away")
    host.start()
    host.ok("detach", "vm1", "--forget")
    assert not late(host)
    assert "not known here" in host.cli("serve", "vm1").stderr


def served_by_hand(folder, host):
    """From elsewhere, with one that is silent, so that a try is under way."""
    with daemon.qemu_nbd(folder, image(folder, "a")) as store:
        host.start()
        host.ok("serve", "vm1", "--source", store.uri)
        host.kill()
        store.freeze()
        host.start()
        other = image(folder, "b")
        host.ok("serve", "vm1", "--source", other, "--force-source")
        assert disks(host) == ["vm1"] and not late(host)
        store.thaw()
        host.ok("detach", "vm1")
        assert not disks(host) and not late(host)


def ends_and_is_wanted_still(folder, host):
    path = image(folder, "a")
    host.start()
    host.ok("serve", "vm1", "--source", path)
    host.kill()
    os.rename(path, path + ".away")
    for _ in range(2):
        host.start()
        assert late(host) == ["vm1"]
        host.stop()
        assert host.process.process.returncode == 0, host.process.log()
    os.rename(path + ".away", path)
    host.start()
    assert disks(host) == ["vm1"]


def beside_a_handover(folder, host):
    path = image(folder, "a")
    host.start()
    host.ok("serve", "vm1", "--source", path)
    host.ok("serve", "vm2", "--source", image(folder, "b"))
    host.kill()
    os.rename(path, path + ".away")
    host.start()
    before = host.process
    host.process = daemon.Process([daemon.built("blockmigd"), "--state-dir", host.state, "--replace"],
                                  os.path.join(folder, "next.log"))
    assert ready(host.process), host.process.log() + before.log()
    assert before.process.wait(30) == 0
    daemon.until(lambda: late(host) == ["vm1"] and disks(host) == ["vm2"], "the disks of the daemon before")
    os.rename(path + ".away", path)
    daemon.until(lambda: "vm1" in disks(host), "the image that was away")


def another_has_it_now(folder, host):
    path = image(folder, "a")
    host.start()
    host.ok("serve", "vm1", "--source", path)
    host.stop()
    with StateFolder(os.path.join(folder, "other")) as other:
        other.start()
        other.ok("serve", "x", "--source", path, "--force-source")
        host.start()
        assert not disks(host)
        daemon.until(lambda: "is not now" in host.process.log() or late(host) == ["vm1"], "a word of it")
        other.stop()
    daemon.until(lambda: "is not now" in host.process.log(), "its end")
    assert not late(host) and not disks(host)


daemon.need("qemu-nbd", "qemu-io")
for story in (away_then_there, silent_then_there, asked_for_early, mounted_late, detached, served_by_hand, ends_and_is_wanted_still,
              beside_a_handover, another_has_it_now):
    with daemon.scratch() as scratch, StateFolder(os.path.join(scratch, "s")) as state:
        story(scratch, state)
