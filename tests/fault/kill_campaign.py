# SPDX-License-Identifier: Apache-2.0
"""kill -9 of the daemon at random moments of a move under load: it serves again, the job goes on, nothing is lost.

  kill_campaign.py [--kills N] [--seed S]

Each round: a disk, a writer that notes what it was told, a move; one or more kills; then the move ends, and every
sector holds the last write that was acknowledged, or one that was under way.
"""
import argparse
import os
import random
import struct
import subprocess
import time

import moves
from moves import daemon

BLOCK = 4096
WRITER = """
import os, random, struct
h.connect_uri(os.environ["URI"])
log = os.open(os.environ["LOG"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
pick, number = random.Random(int(os.environ["FIRST"])), int(os.environ["FIRST"])
blocks = h.get_size() // 4096
hot = max(blocks // 16, 1)
while True:
    number += 1
    block = pick.randrange(hot if number % 4 else blocks)
    os.write(log, struct.pack("<cQQ", b"b", block, number))
    h.pwrite(struct.pack("<Q", number) * 512, block * 4096)
    os.write(log, struct.pack("<cQQ", b"a", block, number))
"""


class Daemon:
    """blockmigd in a folder, which keeps its state over kills."""

    def __init__(self, folder):
        self.folder = folder
        self.state = os.path.join(folder, "state")
        self.process = None

    def start(self):
        log = open(os.path.join(self.folder, "blockmigd.log"), "ab")
        self.process = subprocess.Popen([daemon.built("blockmigd"), "--state-dir", self.state],
                                        stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        log.close()
        daemon.until(lambda: self.cli("status").returncode == 0, "the daemon to answer", pause=0.05)

    def cli(self, *words, **keywords):
        return daemon.run(daemon.built("blockmig"), "--state-dir", self.state, *words, **keywords)

    def job(self):
        shown = self.cli("status", "job-1", "-o", "json")
        return daemon.last_json(shown.stdout) if shown.returncode == 0 else {"state": "unknown"}

    def kill(self):
        self.process.kill()
        self.process.wait()


def writer(folder, first):
    """A client that writes until its daemon is gone."""
    uri = f"nbd+unix:///vm1?socket={folder}/state/nbd.sock"
    env = dict(os.environ, URI=uri, LOG=os.path.join(folder, "writes"), FIRST=str(first),
               PATH="/usr/bin:" + os.environ.get("PATH", ""))  # libnbd's module is of that Python
    return subprocess.Popen(["nbdsh", "-c", WRITER], env=env, stdin=subprocess.DEVNULL,
                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def check(folder, image):
    """Every block holds the last acknowledged write, or one that began after it."""
    allowed = {}
    with open(os.path.join(folder, "writes"), "rb") as log:
        records = log.read()
    for kind, block, number in struct.iter_unpack("<cQQ", records[:len(records) // 17 * 17]):
        if kind == b"a":
            allowed[block] = {n for n in allowed[block] if n >= number}
        else:
            allowed.setdefault(block, {0}).add(number)
    with open(image, "rb") as content:
        for block, numbers in allowed.items():
            content.seek(block * BLOCK)
            words = set(struct.unpack("<512Q", content.read(BLOCK)))
            assert 0 in numbers or words <= numbers, (image, block, sorted(words)[:4], sorted(numbers))
    return len(allowed)


def one_round(pick, mode, kills):
    """The number of kills."""
    with daemon.scratch() as folder:
        source = daemon.make_image(os.path.join(folder, "source.img"), 24 * moves.MIB, holes=True)
        target = os.path.join(folder, "target.img")
        server, client = Daemon(folder), None
        try:
            server.start()
            served = server.cli("serve", "vm1", "--source", source)
            assert served.returncode == 0, served.stderr
            client = writer(folder, pick.randrange(1, 1000) * 1_000_000_000)
            moved = server.cli("migrate", "vm1", "--to", target, "--mode", mode, "--detach",
                               "--bwlimit", "12MiB/s", "--checkpoint-interval", "200ms")
            assert moved.returncode == 0, moved.stderr
            for _ in range(kills):
                time.sleep(pick.uniform(0.0, 2.5))
                server.kill()
                client.wait()
                server.start()
                client = writer(folder, pick.randrange(1000, 2000) * 1_000_000_000)
            daemon.until(lambda: server.job()["state"] not in ("running", "paused"), "the move to end",
                         seconds=120, pause=0.1)
            ended = server.job()
            assert ended["state"] == "done", ended
            time.sleep(0.2)
            server.kill()
            client.wait()
            return check(folder, target)
        finally:
            for process in (client, server.process):
                if process is not None and process.poll() is None:
                    process.kill()
                    process.wait()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=4)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    arguments = parser.parse_args()
    daemon.need("nbdsh")
    pick = random.Random(arguments.seed)
    print(f"seed {arguments.seed}")
    done = 0
    while done < arguments.kills:
        mode = ("mirror", "dbt", "cold")[pick.randrange(3)]
        kills = min(pick.randrange(1, 4), arguments.kills - done)
        blocks = one_round(pick, mode, kills)
        done += kills
        print(f"{done} kills: {mode}, {blocks} blocks written, nothing lost", flush=True)


main()
