# SPDX-License-Identifier: Apache-2.0
"""The Linux kernel as our client, set up by nbd-client inside a guest: by GO and by EXPORT_NAME (-g), by netlink
and by ioctl (-L), with one connection and with four (-C), with blocks of 512 and 4096 bytes."""
import os
import re

import daemon
import guest

DISK_BYTES = 64 << 20
# name, what nbd-client is given besides
WAYS = (("go", "-N disk0"), ("export_name", "-g -N disk0"), ("ioctl", "-L -N disk0"),
        ("four", "-N disk0 -C 4"), ("blocks", "-N disk0 -b 4096 -C 2"))
PART_BYTES = 4 << 20  # each way writes a part of its own
NETWORK = """
ifconfig lo up
ifconfig eth0 10.0.2.15 up
connected() { [ "$(cat /sys/block/nbd0/size)" = %d ]; }
patiently() { i=0; until "$@"; do i=$((i + 1)); [ $i -lt 100 ]; usleep 100000; done; }
""" % (DISK_BYTES // 512)
ONE_WAY = """
echo "guest: way {name}"
nbd-client 10.0.2.2 {port} /dev/nbd0 {options}
patiently connected
dd if=/dev/urandom of=/tmp/data bs=64k count={count} 2>/dev/null
dd if=/tmp/data of=/dev/nbd0 bs=64k seek={seek} conv=fsync 2>/dev/null
echo 3 > /proc/sys/vm/drop_caches
dd if=/dev/nbd0 of=/tmp/back bs=64k skip={seek} count={count} 2>/dev/null
cmp /tmp/data /tmp/back
mv /tmp/back /tmp/{name}
sha256sum /tmp/{name}
nbd-client -d /dev/nbd0
patiently eval '[ ! -e /sys/block/nbd0/pid ]'
"""
FILE_SYSTEM = """
echo "guest: file system"
nbd-client 10.0.2.2 {port} /dev/nbd0 -N disk1 -C 4
patiently connected
mkfs.ext4 -q -F -E nodiscard /dev/nbd0
mount -t ext4 -o discard /dev/nbd0 /mnt
dd if=/dev/urandom of=/mnt/kept bs=64k count=100 conv=fsync 2>/dev/null
dd if=/dev/urandom of=/mnt/gone bs=64k count=100 conv=fsync 2>/dev/null
rm /mnt/gone
sync
sha256sum /mnt/kept
umount /mnt
nbd-client -d /dev/nbd0
"""


def script(port):
    count = PART_BYTES // 65536
    ways = [ONE_WAY.format(name=name, port=port, options=options, count=count, seek=i * count)
            for i, (name, options) in enumerate(WAYS)]
    return NETWORK + "".join(ways) + FILE_SYSTEM.format(port=port)


def digest(path, offset, size):
    import hashlib  # pylint: disable=import-outside-toplevel
    with open(path, "rb") as f:
        f.seek(offset)
        return hashlib.sha256(f.read(size)).hexdigest()


def main():
    guest.kernel()
    with daemon.scratch() as folder:
        disks = [os.path.join(folder, f"disk{i}.img") for i in range(2)]
        for path in disks:
            with open(path, "wb") as f:
                f.truncate(DISK_BYTES)
        with daemon.Daemon(folder, disks[0], listen="tcp:127.0.0.1:0") as server:
            added = server.cli("serve", "disk1", "--source", disks[1])
            assert added.returncode == 0, added.stderr
            port = re.search(r"nbd://127\.0\.0\.1:(\d+)/", added.stdout + server.log()).group(1)
            # Without a route: the guest reaches the host's loopback as 10.0.2.2, and nothing else.
            with guest.Guest(folder, script(port), ["nbd-client", "mkfs.ext4"],
                             ["virtio_pci", "virtio_net", "nbd"],
                             qemu=["-nic", "user,model=virtio-net-pci"]) as g:
                written = guest.sums(g.finish())
            daemon.until(lambda: not server.get("/v1/clients")["clients"], "the guest's connections to end")
        for i, (name, _) in enumerate(WAYS):
            assert digest(disks[0], i * PART_BYTES, PART_BYTES) == written[f"/tmp/{name}"], name
        checked = daemon.run("e2fsck", "-fn", disks[1])
        assert checked.returncode == 0, checked.stdout + checked.stderr
        assert "/mnt/kept" in written


if __name__ == "__main__":
    main()
