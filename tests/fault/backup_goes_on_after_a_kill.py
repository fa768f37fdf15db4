# SPDX-License-Identifier: Apache-2.0
"""backup --since over kill -9 of the daemon: the copy says that it is incomplete, the restarted daemon completes it as
of a later instant, and the bitmap that begins with it marks what is written after."""
import filecmp
import json
import os
import shutil
import subprocess

import moves
from moves import daemon

daemon.need("nbdsh")
SIZE = 16 * moves.MIB


class Host:
    """blockmigd with one disk, which keeps its state over kills."""

    def __init__(self, folder):
        self.folder, self.state = folder, os.path.join(folder, "state")
        self.uri = f"nbd+unix:///vm1?socket={self.state}/nbd.sock"
        self.process = None

    def start(self):
        with open(os.path.join(self.folder, "blockmigd.log"), "ab") as log:
            self.process = subprocess.Popen([daemon.built("blockmigd"), "--state-dir", self.state],
                                            stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        daemon.until(lambda: daemon.run(daemon.built("blockmig"), "--state-dir", self.state, "status").returncode == 0,
                     "the daemon to answer", pause=0.05)

    def ok(self, *words):
        done = daemon.run(daemon.built("blockmig"), "--state-dir", self.state, *words)
        assert done.returncode == 0, (words, done.stderr)
        return done.stdout

    def job(self):
        return json.loads(self.ok("status", "vm1", "-o", "json"))

    def write(self, chunks, letter):
        daemon.nbdsh("-u", self.uri, "-c",
                     f"for chunk in {list(chunks)}: h.pwrite({letter!r} * 65536, chunk * 65536)", "-c", "h.flush()")

    def kill(self):
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
        if self.process is not None:
            self.process.wait()


with daemon.scratch() as folder:
    image = daemon.make_image(os.path.join(folder, "vm1.img"), SIZE, holes=False)
    copy, record = os.path.join(folder, "copy.img"), os.path.join(folder, "copy.img.blockmig-backup")
    host = Host(folder)
    try:
        host.start()
        host.ok("serve", "vm1", "--source", image)
        host.ok("backup", "vm1", copy, "--bitmap", "mon")
        assert filecmp.cmp(image, copy, shallow=False)
        host.write(range(0, 128, 2), b"a")
        started = json.loads(host.ok("backup", "vm1", copy, "--since", "mon", "--bitmap", "tue", "--bwlimit",
                                     "128KiB/s", "--detach", "-o", "json"))
        assert started["since"] == "mon", started
        daemon.until(lambda: host.job()["bytes_copied"] > 0, "the first bytes")
        assert host.job()["bytes_total"] == 64 * 65536, "more than what was written"
        host.kill()
        with open(record, encoding="ascii") as f:
            assert json.load(f)["state"] == "incomplete"
        host.start()
        daemon.until(lambda: host.job()["state"] == "running", "the job to go on")
        host.ok("set", "vm1", "bwlimit=none")
        daemon.until(lambda: host.job()["state"] == "done", "its end", pause=0.1)
        with open(record, encoding="ascii") as f:
            told = json.load(f)
        assert told["state"] == "complete" and {b["name"] for b in told["bitmaps"]} == {"mon", "tue"}, told
        assert filecmp.cmp(image, copy, shallow=False), "not the disk, which nobody wrote to meanwhile"
        # The bitmap that began with it is good for the next, also after another kill.
        host.ok("bitmap", "rm", "vm1", "mon")
        host.write([11], b"b")
        before = os.path.join(folder, "before.img")
        shutil.copyfile(image, before)
        host.kill()
        host.start()
        host.ok("backup", "vm1", copy, "--since", "tue")
        assert filecmp.cmp(before, copy, shallow=False)
    finally:
        host.kill()
