# SPDX-License-Identifier: Apache-2.0
"""backup --since over kill -9 of the daemon: the copy says that it is incomplete, the restarted daemon completes it as
of a later instant, and the bitmap that begins with it marks what is written after."""
import filecmp
import json
import os
import shutil

import moves
from moves import daemon
from state_folder import StateFolder

daemon.need("nbdsh")
SIZE = 16 * moves.MIB


class Host(StateFolder):
    """blockmigd with one disk, which keeps its state over kills."""

    def job(self):
        return self.shown("status", "vm1")

    def write(self, chunks, letter):
        daemon.nbdsh("-u", self.uri(), "-c",
                     f"for chunk in {list(chunks)}: h.pwrite({letter!r} * 65536, chunk * 65536)", "-c", "h.flush()")


with daemon.scratch() as folder:
    image = daemon.make_image(os.path.join(folder, "vm1.img"), SIZE, holes=False)
    copy, record = os.path.join(folder, "copy.img"), os.path.join(folder, "copy.img.blockmig-backup")
    host = Host(os.path.join(folder, "state"))
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
