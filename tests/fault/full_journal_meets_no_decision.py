# SPDX-License-Identifier: Apache-2.0
"""The state's filesystem is full, to the last block, before a move, wherever in that block the journal's log ends: the
move may fail, but not by its decision, so the guest stays on its source and sees no error; so too where there is a
little room. On tmpfs and on ext4, which says only later what it has no room for."""
import contextlib
import os

import moves
from moves import daemon
from state_folder import StateFolder

daemon.need("nbdsh")
POSITIONS = 12
ROOMS_KIB = (4, 16, 48, 64, 80, 128, 512)
SIZE = 2 * moves.MIB
LONG = "t" * 180  # a decision is long where names are


@contextlib.contextmanager
def small_ext4(folder):
    image, mount = os.path.join(folder, "medium"), os.path.join(folder, "ext4")
    os.mkdir(mount)
    with open(image, "wb") as f:
        f.truncate(20 * moves.MIB)
    daemon.ok("mkfs.ext4", "-q", "-m", "0", image)
    if daemon.run("mount", "-o", "loop", image, mount).returncode != 0:
        daemon.skip("not allowed to mount a small filesystem")
    try:
        yield mount
    finally:
        daemon.until(lambda: daemon.run("umount", mount).returncode == 0, "the file system to be free")


def fill(path):
    """To the last block: what a filesystem holds back for what it has not placed yet is there again after a sync."""
    with open(path, "wb", buffering=0) as hog:
        for size in (65536, 4096, 4096, 4096, 1):
            with contextlib.suppress(OSError):
                while hog.write(b"x" * size) == size:
                    pass
            with contextlib.suppress(OSError):
                os.fsync(hog.fileno())


def moves_with_the_log_at(folder, mount, position, room=0):
    """Whether it moves, with so many bytes to spare; the guest is served either way."""
    hog = os.path.join(mount, "hog")
    with StateFolder(os.path.join(mount, f"state{position}-{room}"), os.path.join(folder, "log")) as host:
        host.start()
        host.ok("serve", "vm1", "--source", source)
        for i in range(position):
            host.ok("bitmap", "add", "vm1", f"bitmap{i}", "--disabled")
        fill(hog)
        os.truncate(hog, os.path.getsize(hog) - room)
        done = host.cli("migrate", "vm1", "--to", os.path.join(folder, f"{LONG}{position}-{room}.img"), "--mode", "cold")
        assert "owner of disk" not in done.stderr, (position, done.stderr)
        daemon.nbdsh("-u", host.uri(), "-c", "h.pwrite(b'g' * 4096, 0); h.flush()")
        os.unlink(hog)
        return done.returncode == 0


for kind in ("tmpfs", "ext4"):
    with daemon.scratch() as place:
        class Place:  # what small_filesystem() asks of a scene
            path = staticmethod(lambda name, place=place: os.path.join(place, name))

        with moves.small_filesystem(Place) if kind == "tmpfs" else small_ext4(place) as small:
            for at in range(POSITIONS):
                source = daemon.make_image(os.path.join(place, f"{at}.img"), SIZE, holes=False)
                assert not moves_with_the_log_at(place, small, at), f"{kind}: it is not full"
            moved = []
            for kib in ROOMS_KIB:
                source = daemon.make_image(os.path.join(place, f"room{kib}.img"), SIZE, holes=False)
                moved.append(moves_with_the_log_at(place, small, 3, kib * 1024))
            assert moved[-1], f"{kind}: there was room"
