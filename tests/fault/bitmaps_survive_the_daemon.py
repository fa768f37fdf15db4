# SPDX-License-Identifier: Apache-2.0
"""A persistent bitmap over kill -9 under load, an orderly end, a move and --replace: no mark is missing, and little is
surplus. One of an image that somebody else changed is refused."""
import json
import os
import shutil
import subprocess
import time

import moves
from moves import daemon
from state_folder import StateFolder

daemon.need("nbdinfo", "nbdsh", "qemu-img")
CHUNK = 64 * 1024
SIZE = 256 * moves.MIB
WRITTEN = 8 * moves.MIB
WRITER = """
import os, random, struct
h.connect_uri(os.environ["URI"])
pick = random.Random(int(os.environ["SEED"]))
while True:
    h.pwrite(struct.pack("<Q", pick.getrandbits(63)) * 512, pick.randrange(%d) * 4096)
""" % (WRITTEN // 4096)


class Host(StateFolder):
    """blockmigd with one disk, which keeps its state over kills."""

    def bitmap(self, name="daily"):
        return next(b for b in self.shown("bitmap", "ls", "vm1")["bitmaps"] if b["name"] == name)

    def marked(self, name="daily"):
        """The marked chunks, as a client of the export sees them."""
        text = daemon.ok("nbdinfo", f"--map=qemu:dirty-bitmap:{name}", "--json", self.uri())
        chunks = set()
        for extent in json.loads(text):
            if extent["type"] == 1:
                chunks.update(range(extent["offset"] // CHUNK, (extent["offset"] + extent["length"]) // CHUNK))
        return chunks

    def load(self, seed):
        env = dict(os.environ, URI=self.uri(), SEED=str(seed), PATH="/usr/bin:" + os.environ.get("PATH", ""))
        return subprocess.Popen(["nbdsh", "-c", WRITER], env=env, stdin=subprocess.DEVNULL,
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def changed(image, before):
    with open(image, "rb") as now, open(before, "rb") as then:
        return {i for i in range(SIZE // CHUNK) if now.read(CHUNK) != then.read(CHUNK)}


def check_superset(host, image, before, when):
    marked, differs = host.marked(), changed(image, before)
    assert differs <= marked, (when, sorted(differs - marked))
    beyond = {chunk for chunk in marked if chunk * CHUNK >= WRITTEN + 4 * moves.MIB}
    assert not beyond, (when, "surplus", sorted(beyond))
    return marked


with daemon.scratch() as folder:
    image, target, before = (os.path.join(folder, name) for name in ("source.img", "target.img", "before.img"))
    daemon.make_image(image, SIZE, holes=True)
    host, writer = Host(os.path.join(folder, "state")), None
    try:
        host.start()
        host.ok("serve", "vm1", "--source", image)
        host.ok("bitmap", "add", "vm1", "daily")
        shutil.copyfile(image, before)
        time.sleep(1)  # its first checkpoint is made at once
        for seed in range(3):
            writer = host.load(seed)
            time.sleep(0.3 + 0.4 * seed)
            host.kill()
            writer.wait()
            host.start()
            check_superset(host, image, before, f"after kill {seed}")

        host.stop()
        host.start()
        marked = check_superset(host, image, before, "after an orderly end")
        host.stop()
        host.start()
        assert host.marked() == marked, "an orderly restart changes nothing"
        mapped = json.loads(daemon.ok("qemu-img", "map", "--output=json", "--image-opts",
                                      f"driver=nbd,server.type=unix,server.path={host.state}/nbd.sock,export=vm1,"
                                      "x-dirty-bitmap=qemu:dirty-bitmap:daily"))
        dirty = sum(extent["length"] for extent in mapped if not extent["data"])
        assert dirty == len(marked) * CHUNK, (dirty, len(marked) * CHUNK, "QEMU reads the same")

        writer = host.load(77)
        host.ok("migrate", "vm1", "--to", target, "--mode", "mirror", "--detach", "--bwlimit", "64MiB/s")
        job = lambda: host.shown("status", "job-1")
        daemon.until(lambda: job()["bytes_copied"] >= 16 * moves.MIB, "a part of the move")
        host.kill()
        writer.wait()
        host.start()
        daemon.until(lambda: job()["state"] not in ("running", "paused"), "the move to end", seconds=120, pause=0.1)
        assert job()["state"] == "done" and job()["attempt"] == 2, (job(), "it was to be killed in the middle")
        check_superset(host, target, before, "after a move with a kill")

        host.ok("bitmap", "add", "vm1", "gone", "--transient")
        host.ok("bitmap", "add", "vm1", "all", "--disabled", "--granularity", "1MiB")
        host.ok("bitmap", "merge", "vm1", "all", "daily")
        whole = host.bitmap("all")
        assert whole["dirty_bytes"] >= host.bitmap()["dirty_bytes"] and not whole["recording"], whole
        host.kill()
        host.start()
        names = {b["name"] for b in host.shown("bitmap", "ls", "vm1")["bitmaps"]}
        assert names == {"daily", "all"}, names
        assert host.bitmap("all")["dirty_chunks"] == whole["dirty_chunks"], host.bitmap("all")

        replaced = host.marked()
        host.ok("bitmap", "add", "vm1", "kept", "--transient")
        old = host.process
        host.start("--replace")
        old.process.wait(timeout=60)
        assert host.marked() == replaced and not host.bitmap("kept")["persistent"]

        host.stop()
        with open(target, "r+b") as content:  # somebody else
            content.write(b"x")
        host.start()
        found = host.bitmap()
        assert "changed while it was not served" in found["inconsistent"], found
        shown = json.loads(daemon.ok("nbdinfo", "--json", host.uri()))["exports"][0]
        assert "qemu:dirty-bitmap:daily" not in shown.get("contexts", []), shown
        refused = host.cli("bitmap", "merge", "vm1", "all", "daily")
        assert refused.returncode != 0 and "inconsistent" in refused.stderr, refused.stderr
        host.ok("bitmap", "rm", "vm1", "daily")
        host.ok("bitmap", "add", "vm1", "daily")
        host.stop()
    finally:
        host.kill()
        if writer is not None and writer.poll() is None:
            writer.kill()
            writer.wait()
