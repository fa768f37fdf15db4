# SPDX-License-Identifier: Apache-2.0
"""kill -9 of the daemon in mid-hydration, again and again, under load (M17, M20): what was acknowledged (with the
reverse mirror) or flushed (without) is there, hydration goes on where it was, and at the end the new store alone is
the disk."""
import json
import os
import random
import struct
import threading

import moves  # noqa: F401  pylint: disable=unused-import  (finds the module below)
from moves import daemon

nbd = daemon.import_nbd(__file__)
SECTOR = 512
SECTORS = 16 * 2048 + 3
WRITTEN = SECTORS * 3 // 4  # the last quarter is left to the job, so that hydration outlasts the kills on any machine
KILLS = 3


def sector(value):
    return struct.pack("<Q", value) * (SECTOR // 8)


class Disk:
    """The daemon, one life after the other, and what a reader may see of each sector."""

    def __init__(self, folder, reverse):
        self.folder = folder
        self.reverse = reverse
        self.image = os.path.join(folder, "source.img")
        with open(self.image, "wb") as f:
            for i in range(SECTORS):
                f.write(sector(1 + i))
        self.allowed = [[1 + i] for i in range(SECTORS)]
        self.unflushed = set()
        self.next_value = 1 << 40
        self.dice = random.Random(5 + reverse)
        self.life = daemon.Daemon(folder, self.image)
        self.lives = 1

    def kill(self):
        self.life.kill()

    def serve_again(self):
        """As after a crash of the daemon: the journal knows where the disk is."""
        self.life.process.wait()
        self.unflushed.clear()  # may be lost: no later flush makes it durable
        self.lives += 1
        log = os.path.join(self.folder, f"life-{self.lives}.log")
        first = self.life
        again = daemon.Process([daemon.built("blockmig"), "serve", daemon.EXPORT, "--listen",
                                f"unix:{first.socket_path}", "--state-dir", first.state_dir], log)
        first.process = again.process
        first.log_path = log
        daemon.until(lambda: f"serving {daemon.EXPORT} at" in again.log() or not again.alive(), "the disk")
        assert again.alive(), again.log()[-2000:]

    def write(self, client):
        first = self.dice.randrange(WRITTEN)
        count = min(self.dice.choice((1, 8, 8, 300)), WRITTEN - first)
        self.next_value += 1
        value = self.next_value
        for i in range(first, first + count):
            self.allowed[i].append(value)
        client.pwrite(sector(value) * count, first * SECTOR)
        if self.reverse:
            for i in range(first, first + count):
                self.allowed[i] = [value]
        else:
            self.unflushed.update(range(first, first + count))

    def flush(self, client):
        client.flush()
        for i in self.unflushed:
            self.allowed[i] = self.allowed[i][-1:]
        self.unflushed.clear()

    def load(self):
        """Writes until the daemon is gone."""
        client = self.connect()
        try:
            while True:
                self.write(client)
                if self.dice.randrange(16) == 0:
                    self.flush(client)
        except nbd.Error:
            pass

    def connect(self):
        client = nbd.NBD()
        client.set_export_name(daemon.EXPORT)
        client.connect_unix(self.life.socket_path)
        return client

    def judge(self, content):
        """Every sector holds one of the values that it may; from now on it holds that one."""
        for i in range(SECTORS):
            seen = content[i * SECTOR:(i + 1) * SECTOR]
            value = struct.unpack("<Q", seen[:8])[0]
            assert seen == sector(value), f"sector {i} is torn or never written: {seen[:16].hex()}"
            assert value in self.allowed[i], f"sector {i} holds {value}, allowed: {self.allowed[i]}"
        self.unflushed.clear()

    def check(self):
        client = self.connect()
        content = b""
        for at in range(0, SECTORS * SECTOR, 1 << 20):
            content += bytes(client.pread(min(1 << 20, SECTORS * SECTOR - at), at))
        self.judge(content)
        for i in range(SECTORS):
            self.allowed[i] = [struct.unpack("<Q", content[i * SECTOR:i * SECTOR + 8])[0]]
        self.flush(client)  # what was seen, stays
        client.shutdown()


def run(folder, reverse):
    disk = Disk(folder, reverse)
    try:
        target = os.path.join(folder, "target.img")
        job = disk.life.start_migration(target, "postcopy", "--bwlimit", "64KiB/s", "--reverse-mirror",
                                        "on" if reverse else "off")
        daemon.until(lambda: disk.life.job(job)["phase"] == "hydrating", "the switchover")
        for _ in range(KILLS):
            job_now = disk.life.job(job)
            assert job_now["phase"] == "hydrating", job_now
            assert job_now["hydration"]["reverse_mirror"] == reverse, job_now
            assert job_now["hydration"]["depends_on"] == ("" if reverse else "both stores"), job_now
            worker = threading.Thread(target=disk.load)
            worker.start()
            worker.join(disk.dice.uniform(0.1, 0.5))
            disk.kill()
            worker.join()
            disk.serve_again()
        assert disk.life.job(job)["phase"] == "hydrating"
        assert disk.life.cli("set", job, "bwlimit=none").returncode == 0
        disk.check()
        ended = disk.life.wait_job(job, seconds=100)
        assert ended["state"] == "done" and ended["remaining_bytes"] == 0, ended
        assert disk.life.served_store().endswith(target)
        disk.check()
        # Hashed anew by its last life: what the report says is what the new store holds.
        seen = json.loads(daemon.ok(daemon.built("blockmig"), "verify", target, target, "-o", "json"))
        assert ended["digests"]["target"] == seen["a"]["digest"], (ended["digests"], seen)
        disk.life.stop()
        os.unlink(disk.image)  # nobody needs it any more
        with open(target, "rb") as f:
            disk.judge(f.read())
        disk.serve_again()
        disk.check()
    finally:
        disk.life.stop()


for mirrored in (True, False):
    with daemon.scratch() as scratch:
        run(scratch, mirrored)
