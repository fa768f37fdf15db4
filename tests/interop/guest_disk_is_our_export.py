# SPDX-License-Identifier: Apache-2.0
"""A QEMU guest whose disk is our export: it writes and syncs while the disk moves, and reads all of it back after
a second boot, from the store that the disk has moved to."""
import os
import re

import daemon
import guest

DISK_BYTES = 192 << 20
FILES = 24
WRITING = f"""
mkfs.ext4 -q -F /dev/vda
mount -t ext4 /dev/vda /mnt
echo "guest: writing"
i=0
while [ $i -lt {FILES} ]; do
  dd if=/dev/urandom of=/mnt/f$i bs=64k count=$((1 + i % 40)) conv=fsync 2>/dev/null
  i=$((i + 1))
done
rm /mnt/f3 /mnt/f5
dd if=/dev/zero of=/mnt/zeros bs=1M count=8 conv=fsync 2>/dev/null
sha256sum /mnt/f* /mnt/zeros
umount /mnt
dd if=/dev/vda of=/dev/null bs=1M 2>/dev/null
"""
READING = """
mount -t ext4 -o ro /dev/vda /mnt
sha256sum /mnt/f* /mnt/zeros
umount /mnt
"""


def boot(folder, server, script, name):
    disk = (f"driver=nbd,node-name=d0,server.type=unix,server.path={server.socket_path},export={server.export},"
            "discard=unmap,detect-zeroes=unmap")
    return guest.Guest(folder, script, ["mkfs.ext4"], ["virtio_pci", "virtio_blk"], name=name,
                       qemu=["-blockdev", disk, "-device", "virtio-blk-pci,drive=d0"])


def main():
    guest.kernel()
    with daemon.scratch() as folder:
        source = os.path.join(folder, "source.img")
        target = os.path.join(folder, "target.img")
        with open(source, "wb") as f:
            f.truncate(DISK_BYTES)
        with daemon.Daemon(folder, source) as server:
            with boot(folder, server, WRITING, "first") as first:
                first.wait_for("guest: writing")
                job = server.wait_job(server.start_migration(target, "mirror", "--verify", "full"))
                assert job["state"] == "done", job
                written = guest.sums(first.finish())
            assert len(written) == FILES - 2 + 1, written
            assert server.served_store() == f"file://{target}", server.served_store()
            with boot(folder, server, READING, "second") as second:
                assert guest.sums(second.finish()) == written, "the second boot reads other files"
            copy = os.path.join(folder, "copy.img")
            daemon.ok("nbdcopy", server.uri, copy)
            assert daemon.same(copy, target), "the export is not what its store holds"
        checked = daemon.run("e2fsck", "-fn", copy)
        assert checked.returncode == 0, checked.stdout + checked.stderr
        assert re.search(r"\d+/\d+ files", checked.stdout), checked.stdout


if __name__ == "__main__":
    main()
