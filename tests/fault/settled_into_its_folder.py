# SPDX-License-Identifier: Apache-2.0
"""A disk with data at rest goes back into its folder's image under load, over the deaths of its daemon; what is
damaged at rest is named before anything is written (M22)."""
import json
import os
import random
import shutil
import time

import lives
import moves
from moves import daemon

daemon.need("nbdsh")
BLOCKS = lives.BLOCKS
KILLS = 4


def manifest(image):
    """What it says, also where it tells that the image has changed since."""
    return json.loads(daemon.run(daemon.built("blockmig"), "manifest", "show", image, "-o", "json").stdout)


def job(server):
    shown = server.cli("status", "vm1", "-o", "json")
    return daemon.last_json(shown.stdout) if shown.returncode == 0 else {}


def store(server):
    shown = server.cli("ls", "disks", "-o", "json")
    disks = daemon.last_json(shown.stdout)["disks"] if shown.returncode == 0 else []
    return disks[0]["store"] if disks else ""


def start_again(server):
    server.start()
    daemon.until(lambda: store(server), "the disk to be served again", pause=0.05)


def flip(path, offset):
    with open(path, "r+b") as f:
        f.seek(offset)
        byte = f.read(1)[0]
        f.seek(offset)
        f.write(bytes([byte ^ 1]))


class Guest:
    """The writer of lives.py, begun anew with each life of the daemon."""

    def __init__(self, server, log):
        self.server, self.log, self.lives, self.process = server, log, 0, None

    def begin(self):
        self.lives += 1
        self.process = lives.writer(self.server, self.log, self.lives * 1_000_000_000)

    def end(self):
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
        if self.process is not None:
            self.process.wait()


def settle_over_deaths(server, guest, folder, image):
    pick = random.Random(4)
    for _ in range(KILLS):
        if job(server).get("state") not in ("running", "paused"):
            begun = server.cli("settle", "vm1", "--into", folder, "--bwlimit", "4MiB/s", "--detach")
            assert begun.returncode == 0, begun.stderr
        assert store(server).endswith("local.img"), store(server)
        time.sleep(pick.uniform(0.05, 0.7))
        assert manifest(image)["owner"] == "vm1", manifest(image)
        server.kill()
        guest.end()
        start_again(server)
        guest.begin()
    assert manifest(image)["changing"], manifest(image)
    checked = daemon.run(daemon.built("blockmig"), "manifest", "check", image)
    assert checked.returncode != 0 and "settled" in checked.stderr, checked.stderr
    if job(server).get("state") in ("running", "paused"):
        server.cli("set", "vm1", "bwlimit=none")
    else:
        server.cli("settle", "vm1", "--into", image, "--detach")
    daemon.until(lambda: store(server).endswith("source.img"), "the disk to be in its folder", seconds=120, pause=0.1)
    daemon.until(lambda: job(server)["state"] == "done", "the job to end", pause=0.1)


def refuse_a_stale_copy(stale, image, local):
    """Of the daemon's state as it was on the overlay: by the stamps, and without them by the manifest."""
    stale.start()
    served = stale.cli("serve", "vm1")
    assert served.returncode != 0 and "epoch" in served.stderr, served.stderr
    stale.kill()
    for path in (local, image):
        os.remove(path + ".blockmig-owner")
    stale.start()
    served = stale.cli("serve", "vm1")
    assert served.returncode != 0 and "somebody else has used it" in served.stderr, served.stderr
    stale.kill()


def check(server, guest, folder):
    image = lives.make_image(os.path.join(folder, "shared", "source.img"), BLOCKS)
    local = os.path.join(folder, "local.img")
    server.start()
    daemon.ok(*tool(server), "serve", "vm1", "--source", image)
    guest.begin()
    daemon.ok(*tool(server), "migrate", "vm1", "--to", local, "--mode", "shared")
    assert store(server).endswith("local.img") and manifest(image)["owner"] == "vm1"
    generation = manifest(image)["generation"]
    # Not where nothing of it rests, and not over what is damaged.
    wrong = server.cli("settle", "vm1", "--into", local)
    assert wrong.returncode != 0 and "not in" in wrong.stderr, wrong.stderr
    guest.end()
    rotten = find_rest(server, image)
    flip(image, rotten)
    damaged = server.cli("settle", "vm1", "--into", os.path.dirname(image))
    assert damaged.returncode != 0 and str(rotten - rotten % 65536) in damaged.stderr, damaged.stderr
    assert manifest(image)["generation"] == generation and not manifest(image)["changing"]
    flip(image, rotten)
    server.kill()
    stale = lives.Daemon(os.path.join(folder, "stale"), server.log)
    shutil.copytree(server.state, stale.state, ignore=shutil.ignore_patterns("*.sock"))
    start_again(server)
    guest.begin()
    settle_over_deaths(server, guest, os.path.dirname(image), image)
    lives.wait_for_writes(guest.log)  # that only the image gets
    guest.end()
    found = manifest(image)
    assert found["owner"] == "" and not found["changing"] and found["generation"] > generation, found
    again = server.cli("settle", "vm1", "--into", image)
    assert again.returncode != 0 and "whole" in again.stderr, again.stderr
    server.kill()
    refuse_a_stale_copy(stale, image, local)
    start_again(server)
    os.truncate(local, 0)
    # Acknowledged but not flushed, a write into what was absent may go with its daemon.
    assert lives.check(guest.log, image, BLOCKS, power_was_lost=True) > 0
    # Idle, it goes there and back with nothing to write, and the manifest is the image's.
    daemon.ok(*tool(server), "migrate", "vm1", "--to", local + ".2", "--mode", "shared")
    settled = daemon.ok(*tool(server), "settle", "vm1", "--into", image, "-o", "json")
    assert daemon.last_json(settled)["state"] == "done", settled
    daemon.ok(*tool(server), "detach", "vm1")
    checked = daemon.run(daemon.built("blockmig"), "manifest", "check", image, "-o", "json")
    assert checked.returncode == 0, checked.stdout + checked.stderr


def find_rest(server, image):
    """An offset that only the image has."""
    holes = daemon.nbdsh("-c", f"uri = 'nbd+unix:///vm1?socket={server.state}/nbd.sock'", "-c", """
h.add_meta_context("blockmig:hydration")
h.connect_uri(uri)
rest = []
def note(context, offset, entries, err):
    for length, flags in zip(entries[0::2], entries[1::2]):
        if flags:
            rest.append(offset)
        offset += length
h.block_status(h.get_size(), 0, note)
print(rest[0])
""")
    with open(image, "rb") as f:
        offset = int(holes.split()[-1])
        f.seek(offset)
        assert f.read(65536).strip(b"\0"), "a hole is never at rest"
    return offset + 4096 + 77


def tool(server):
    return daemon.built("blockmig"), "--state-dir", server.state


with daemon.scratch() as scratch:
    os.mkdir(os.path.join(scratch, "shared"))
    served = lives.Daemon(os.path.join(scratch, "state"), os.path.join(scratch, "blockmigd.log"))
    client = Guest(served, os.path.join(scratch, "writes"))
    try:
        check(served, client, scratch)
    finally:
        client.end()
        served.kill()
