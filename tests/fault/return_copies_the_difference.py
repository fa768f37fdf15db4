# SPDX-License-Identifier: Apache-2.0
"""Mode return (M24, M25): a disk that has moved, was written to and lost its daemon goes back with what has changed,
and is refused where that is not known or the old store is not what it left."""
import os
import shutil

import moves
from moves import daemon
from state_folder import StateFolder

daemon.need("qemu-io", "nbdinfo")
SIZE = 64 * moves.MIB
CHUNK = 65536
REGION = 4 * moves.MIB  # of the activity log


class Server(StateFolder):
    """blockmigd with its state in a folder, one life after the other."""

    def disk(self):
        return self.shown("ls", "disks")["disks"][0]

    def migrate(self, target, *words):
        self.ok("migrate", "vm1", "--to", target, *words)
        return self.job()

    def job(self):
        return self.shown("status", "vm1")

    def refused(self, target, part):
        answer = self.cli("migrate", "vm1", "--to", target, "--mode", "return")
        assert answer.returncode == 9 and part in answer.stderr, (part, answer)

    def write(self, chunks, pattern):
        commands = []
        for chunk in chunks:
            commands += ["-c", f"write -P {pattern} {chunk * CHUNK + 512} 4k"]
        daemon.ok("qemu-io", "-f", "raw", *commands, self.uri())


def same(one, other):
    with open(one, "rb") as a, open(other, "rb") as b:
        return a.read() == b.read()


def check(server, folder):
    a, b, c = (os.path.join(folder, name) for name in ("a.img", "b.img", "c.img"))
    daemon.make_image(a, SIZE)
    server.start()
    server.ok("serve", "vm1", "--source", a)
    assert server.disk()["return_to"] == "", server.disk()
    server.migrate(b, "--keep-record")
    assert server.disk()["return_to"].endswith(a) and server.disk()["bitmaps"] == [], server.disk()
    # One percent of it, then the daemon dies: what is copied more are the regions that were active.
    chunks = range(195, 195 + SIZE // CHUNK // 100)
    server.write(chunks, 0x5E)
    server.kill()
    server.start()
    known = server.disk()["return_bytes"]
    assert len(chunks) * CHUNK <= known <= 2 * REGION, known
    assert "way back" in server.ok("status", "vm1"), server.ok("status", "vm1")
    hidden = server.cli("bitmap", "add", "vm1", ".return-9")
    assert hidden.returncode == 2 and "name '.return-9'" in hidden.stderr, hidden
    assert ".return" not in daemon.ok("nbdinfo", server.uri()), "clients see the record"
    back = server.migrate(a, "--mode", "return", "--keep-record")
    assert back["state"] == "done" and len(chunks) * CHUNK <= back["bytes_copied"] <= known, back
    assert same(a, b), "the disk is not what it was"
    # There again, after an orderly end: then nothing but what was written is copied.
    server.write([7, 9], 0x6F)
    server.end()
    server.start()
    again = server.migrate(b, "--mode", "return", "--keep-record")
    assert again["bytes_copied"] == 2 * CHUNK, again
    assert same(a, b)
    # Aborted, it can be tried again; killed, it goes on.
    server.write([7, 11, 13], 0x71)
    server.migrate(a, "--mode", "return", "--bwlimit", "8KiB/s", "--detach")
    server.ok("abort", "vm1")
    daemon.until(lambda: server.job()["state"] == "aborted", "the abort", pause=0.05)
    daemon.until(lambda: server.cli("migrate", "vm1", "--to", a, "--mode", "return", "--keep-record", "--bwlimit",
                                    "8KiB/s", "--detach").returncode == 0, "another try", pause=0.05)
    daemon.until(lambda: server.job()["bytes_copied"] > 0, "its first bytes", pause=0.05)
    server.kill()
    server.start()
    daemon.until(lambda: server.cli("set", "vm1", "bwlimit=1GiB/s").returncode == 0, "it to go on", pause=0.05)
    daemon.until(lambda: server.job()["state"] == "done", "the move back to end", pause=0.05)
    assert server.disk()["store"].endswith("a.img") and same(a, b), server.disk()
    server.ok("migrate", "vm1", "--mode", "return", "--keep-record")  # without --to: where it comes from
    assert server.disk()["store"].endswith("b.img") and same(a, b), server.disk()
    # The disk's own image is put back from a copy while its daemon is dead: nothing marks what differs.
    server.kill()
    shutil.copyfile(b, c)
    os.replace(c, b)
    server.start()
    assert server.disk()["return_lost"] and not server.disk()["return_to"], server.disk()
    server.refused(a, "is not known any more")
    server.migrate(a, "--mode", "mirror", "--keep-record")
    server.migrate(b, "--mode", "return", "--keep-record")
    # Whoever has written to what was left, or replaced it, has ended the way back.
    with open(a, "r+b") as image:
        image.write(b"other")
    server.refused(a, "somebody has changed")
    daemon.make_image(c, SIZE)
    server.refused(c, "nothing says that it has left")
    os.replace(c, a)
    server.refused(a, "nothing says that it has left")
    assert server.disk()["store"].endswith(b), server.disk()
    server.migrate(a, "--mode", "dbt")
    assert same(a, b)
    server.refused(b, "--keep-record")


def forgotten(server, folder):
    """The epochs of a disk that was forgotten begin again: what it left then is not what it has left now."""
    a, b, c = (os.path.join(folder, name) for name in ("a.img", "b.img", "c.img"))
    daemon.make_image(a, 8 * moves.MIB)
    server.start()
    server.ok("serve", "vm1", "--source", a)
    server.migrate(b, "--keep-record")
    server.write([3], 0x5E)
    server.ok("detach", "vm1", "--forget")
    server.ok("serve", "vm1", "--source", b)
    server.migrate(c, "--keep-record")
    server.refused(a, "not with what is recorded of the changes since")
    assert server.migrate(b, "--mode", "return")["state"] == "done"
    assert same(b, c)


with daemon.scratch() as scratch:
    again = Server(os.path.join(scratch, "state"))
    try:
        forgotten(again, scratch)
    finally:
        again.end()
with daemon.scratch() as scratch:
    daemons = Server(os.path.join(scratch, "state"))
    try:
        check(daemons, scratch)
    finally:
        daemons.end()
