# SPDX-License-Identifier: Apache-2.0
"""A copy that an incremental has left incomplete, by an abort or by the end of its daemon, is completed as long as
nobody has changed it since; one that somebody wrote to in the meantime is refused, since what its bitmap marks is
not all in which it differs (M12)."""
import filecmp
import json
import os

import moves
from moves import daemon
from state_folder import StateFolder

daemon.need("nbdsh")
SIZE = 16 * moves.MIB
SLOWLY = ("--since", "mon", "--bwlimit", "128KiB/s", "--detach")


def record():
    with open(copy + ".blockmig-backup", encoding="ascii") as f:
        return json.load(f)


def left():
    told = record()
    return told["state"] == "incomplete" and told["image"] != ""


def change():
    """A byte where no bitmap looks; returns how to undo it."""
    facts = os.stat(copy)
    with open(copy, "r+b") as f:
        f.seek(SIZE - 1)
        before = f.read(1)
        f.seek(SIZE - 1)
        f.write(bytes([before[0] ^ 1]))
    os.utime(copy, ns=(facts.st_atime_ns, facts.st_mtime_ns + 1))
    return facts, before


def undo(facts, before):
    with open(copy, "r+b") as f:
        f.seek(SIZE - 1)
        f.write(before)
    os.utime(copy, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def begin(host):
    host.ok("backup", "vm1", copy, *SLOWLY)
    daemon.until(lambda: host.shown("status", "vm1")["bytes_copied"] > 0, "the first bytes")
    assert record()["state"] == "incomplete" and record()["image"] == "", record()


with daemon.scratch() as folder:
    image = daemon.make_image(os.path.join(folder, "vm1.img"), SIZE, holes=False)
    copy = os.path.join(folder, "copy.img")
    with StateFolder(os.path.join(folder, "state")) as host:
        host.start()
        host.ok("serve", "vm1", "--source", image)
        host.ok("backup", "vm1", copy, "--bitmap", "mon")
        daemon.nbdsh("-u", host.uri(), "-c", "for i in range(64): h.pwrite(b'a' * 65536, i * 65536)",
                     "-c", "h.flush()")
        begin(host)
        host.ok("abort", "vm1")
        daemon.until(left, "the record to say how the copy was left")
        was = change()
        done = host.cli("backup", "vm1", copy, "--since", "mon")
        assert done.returncode == 9 and "was changed since" in done.stderr, (done.returncode, done.stderr)
        undo(*was)

        begin(host)
        host.stop()
        assert left(), record()
        was = change()
        host.start()
        daemon.until(lambda: host.shown("status", "vm1")["state"] == "failed", "the job to refuse the copy")
        assert "was changed since" in host.ok("status", "vm1"), host.ok("status", "vm1")
        undo(*was)
        host.ok("backup", "vm1", copy, "--since", "mon")
        assert filecmp.cmp(image, copy, shallow=False)
