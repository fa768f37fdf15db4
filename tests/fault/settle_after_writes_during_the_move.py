# SPDX-License-Identifier: Apache-2.0
"""Blocks that change while a disk leaves its folder, and change back when it has left, are in the image when the
disk is settled into it; the manifest in between has no digest that is not the image's."""
import os
import random
import subprocess

import moves
from moves import daemon
from state_folder import StateFolder

daemon.need("nbdsh")
CHUNK = 65536
CHUNKS = 1024
HOLE = 8  # every such chunk is one
BEFORE = random.Random(1).randbytes(4096)
ROUNDS = 3
# Writes something else here and there until told to stop, then flushes.
OVERWRITE = """
import os, random, time
h.connect_uri(os.environ["URI"])
pick = random.Random(int(os.environ["SEED"]))
chunks = h.get_size() // 65536
print("begun", flush=True)
while not os.path.exists(os.environ["STOP"]):
    h.pwrite(b"\\xbb" * 4096, pick.randrange(chunks) * 65536)
    time.sleep(0.001)
h.flush()
"""
# What was there before the move.
RESTORE = """
import os
h.connect_uri(os.environ["URI"])
with open(os.environ["WANTED"], "rb") as wanted:
    for chunk in range(h.get_size() // 65536):
        wanted.seek(chunk * 65536)
        h.pwrite(wanted.read(4096), chunk * 65536)
h.flush()
"""


def make_image(path):
    with open(path, "wb") as f:
        for chunk in range(CHUNKS):
            if chunk % HOLE != 0:
                f.seek(chunk * CHUNK)
                f.write(BEFORE)
        f.truncate(CHUNKS * CHUNK)
    return path


def guest(program, **settings):
    env = dict(os.environ, PATH="/usr/bin:" + os.environ.get("PATH", ""), **settings)
    return subprocess.Popen(["nbdsh", "-c", program], env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)


def leave(server, folder, image, number):
    """To another store, under a guest that writes."""
    stop = os.path.join(folder, f"stop.{number}")
    writer = guest(OVERWRITE, URI=server.uri(), SEED=str(number), STOP=stop)
    try:
        assert writer.stdout.readline().strip() == b"begun"
        server.ok("migrate", "vm1", "--to", os.path.join(folder, f"local.{number}"), "--mode", "shared")
    finally:
        with open(stop, "wb"):
            pass
        assert writer.wait(timeout=60) == 0
    shown = server.shown("manifest", "show", image)
    assert shown["owner"] == "vm1" and not shown["changing"], shown
    checked = server.cli("manifest", "check", image)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def check(server, folder):
    image = make_image(os.path.join(folder, "shared", "vm1.img"))
    wanted = make_image(os.path.join(folder, "wanted"))
    server.start()
    server.ok("serve", "vm1", "--source", image)
    for number in range(ROUNDS):
        leave(server, folder, image, number)
        assert guest(RESTORE, URI=server.uri(), WANTED=wanted).wait(timeout=60) == 0
        if number == 1:
            server.kill()  # the settling daemon knows what the files say
            server.start()
            daemon.until(lambda: server.cli("ls", "disks").returncode == 0, "the disk to be served")
        server.ok("settle", "vm1", "--into", image)
        with open(image, "rb") as left, open(wanted, "rb") as right:
            lost = [chunk for chunk in range(CHUNKS) if left.read(CHUNK) != right.read(CHUNK)]
        assert not lost, f"round {number}: chunks {lost[:8]} … of {len(lost)} are not what was written and flushed"
    server.ok("detach", "vm1")
    server.ok("manifest", "check", image)


with daemon.scratch() as scratch:
    os.mkdir(os.path.join(scratch, "shared"))
    with StateFolder(os.path.join(scratch, "state")) as state:
        check(state, scratch)
