# SPDX-License-Identifier: Apache-2.0
"""A restart has served a disk again. Who then asks for it with the wrong source is refused, and nothing has changed, also
for the restart after that; who asks for it with one more address, or otherwise, gets that, and so does that restart. (M3)"""
import os

import moves
from moves import daemon
from state_folder import StateFolder


def disks(host):
    return {disk["name"]: disk for disk in host.shown("ls", "disks")["disks"]}


def again(host):
    host.kill()
    host.start()


def with_another_source(folder, host):
    wrong = host.cli("serve", "vm1", "--source", os.path.join(folder, "typo.img"))
    assert wrong.returncode == 9 and "not at" in wrong.stderr, wrong
    for _ in range(2):
        assert "vm1" in disks(host), "a serve that was refused has taken the disk away"
        again(host)


def otherwise_where_it_cannot_be(host):
    wrong = host.cli("serve", "vm1", "--read-only", "--listen", "unix:/nonexistent/folder/sock")
    assert wrong.returncode != 0, wrong
    for _ in range(2):
        assert not disks(host)["vm1"]["read_only"], "a serve that was refused has changed the disk"
        again(host)


def at_one_more_address(folder, host):
    address = os.path.join(folder, "more.sock")
    host.ok("serve", "vm1", "--listen", "unix:" + address)
    for _ in range(2):
        assert daemon.greets(address) and daemon.greets(os.path.join(host.state, "nbd.sock"))
        again(host)


def with_another_description(host):
    host.ok("serve", "vm1", "--description", "of the bank")
    for _ in range(2):
        assert disks(host)["vm1"]["description"] == "of the bank"
        again(host)


with daemon.scratch() as scratch, StateFolder(os.path.join(scratch, "s")) as state:
    image = daemon.make_image(os.path.join(scratch, "a.img"), 4 * moves.MIB)
    state.start()
    state.ok("serve", "vm1", "--source", image, "--listen", f"unix:{state.state}/nbd.sock")
    again(state)
    with_another_source(scratch, state)
    otherwise_where_it_cannot_be(state)
    at_one_more_address(scratch, state)
    with_another_description(state)
