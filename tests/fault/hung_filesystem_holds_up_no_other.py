# SPDX-License-Identifier: Apache-2.0
"""A disk on a filesystem that hangs (FUSE, as a network's would): its requests wait, those of another disk of the same
thread and control go on, and all is right when it comes back. A mapping there is served as buffered."""
import contextlib
import os
import select

import moves
import raw_nbd
from moves import daemon
from state_folder import StateFolder

SIZE = 64 * moves.MIB
BLOCK = 4096
# More than a loop has threads for one file, or the kernel's for one ring.
HUNG_READS = 40
COLD = 32 * moves.MIB


@contextlib.contextmanager
def fuse_file(folder):
    """(server that it hangs with, path)."""
    mount = os.path.join(folder, "mnt")
    path = os.path.join(mount, "a.img")
    os.makedirs(mount)
    with daemon.nbdkit(folder, "memory", str(SIZE)) as store:
        fuse = daemon.Process(["nbdfuse", path, "--unix", store.socket_path], os.path.join(folder, "fuse.log"))
        with fuse:
            daemon.until(lambda: os.path.exists(path) or not fuse.alive(), "the file")
            if not fuse.alive():
                daemon.skip("nbdfuse cannot mount here: " + fuse.log().strip()[-200:])
            yield store, path


@contextlib.contextmanager
def frozen(store):
    """No process that waits for it can be killed before it is thawed."""
    store.freeze()
    try:
        yield
    finally:
        store.thaw()


def ask(s, command, cookie, offset=0, length=0, payload=b""):
    s.sendall(raw_nbd.request(command, cookie, offset, length, payload))


def answered(s, command, offset=0, length=0, payload=b""):
    """The answer to one request, which must be a success."""
    ask(s, command, 1, offset, length, payload)
    error, cookie, data = raw_nbd.reply(s, length if command == raw_nbd.READ else 0)
    assert (error, cookie) == (0, 1), (command, error, cookie)
    return data


def write(s, offset, fill):
    answered(s, raw_nbd.WRITE, offset, BLOCK, fill * BLOCK)


def hangs(s):
    return not select.select([s], [], [], 0)[0]


def others_go_on(server, s, fill):
    write(s, 0, fill)
    assert answered(s, raw_nbd.READ, 0, BLOCK) == fill * BLOCK
    answered(s, raw_nbd.FLUSH)
    answered(s, raw_nbd.TRIM, BLOCK, 16 * BLOCK)
    server.ok("status")
    server.ok("ls", "disks")


def hang_and_come_back(server, store, hung, other):
    for fill in (b"1", b"2"):
        write(hung, 0, fill)
        answered(hung, raw_nbd.READ, 0, BLOCK)
        write(other, 0, fill)
    with frozen(store):
        ask(hung, raw_nbd.WRITE, 99, 0, BLOCK, b"3" * BLOCK)
        others_go_on(server, other, b"4")
        for i in range(HUNG_READS):
            ask(hung, raw_nbd.READ, 100 + i, COLD + i * 2 * BLOCK, 512)
        ask(hung, raw_nbd.FLUSH, 98)
        others_go_on(server, other, b"5")
        assert hangs(hung), "a request of the file that hangs was answered"
    left = {98, 99, *range(100, 100 + HUNG_READS)}
    while left:
        error, cookie = raw_nbd.struct.unpack(">4xIQ", raw_nbd.receive(hung, 16))
        assert error == 0, (error, cookie)
        if cookie >= 100:
            assert raw_nbd.receive(hung, 512) == bytes(512)
        left.remove(cookie)
    assert answered(hung, raw_nbd.READ, 0, BLOCK) == b"3" * BLOCK


def check(cache, loop):
    with daemon.scratch() as folder, fuse_file(folder) as (store, path), \
            StateFolder(os.path.join(folder, "s")) as server:
        other_path = daemon.make_image(os.path.join(folder, "b.img"), SIZE)
        server.start("--threads", "1", "--loop", loop)
        server.ok("serve", "a", "--source", path, "--cache", cache)
        server.ok("serve", "b", "--source", other_path, "--cache", cache)
        warned = f"{path} is on a filesystem that may hang: it is not mapped, but served as buffered"
        assert (warned in server.process.log()) == (cache == "map"), server.process.log()
        address = os.path.join(server.state, "nbd.sock")
        with raw_nbd.attached(address, "a") as hung, raw_nbd.attached(address, "b") as other:
            hang_and_come_back(server, store, hung, other)
        server.stop()


daemon.need("nbdfuse", "nbdkit")
if not os.access("/dev/fuse", os.R_OK | os.W_OK):
    daemon.skip("/dev/fuse cannot be opened")
for chosen in (("buffered", "auto"), ("map", "auto"), ("direct", "auto"), ("buffered", "portable")):
    print(*chosen, flush=True)
    check(*chosen)
