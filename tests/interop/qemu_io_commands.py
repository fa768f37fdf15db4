# SPDX-License-Identifier: Apache-2.0
"""qemu-io: FUA writes, zero writes with and without unmap, discard, unaligned requests."""
import daemon
import served

STEPS = [
    "write -P 0xa5 0 256k", "read -P 0xa5 0 256k",
    "write -f -P 0x5a 64k 4k", "read -P 0x5a 64k 4k", "read -P 0xa5 68k 4k",
    "write -z 128k 64k", "read -P 0 128k 64k", "read -P 0xa5 192k 64k",
    "write -z -u 1M 1M", "read -P 0 1M 1M",
    "write -P 0x11 1000003 777", "read -P 0x11 1000003 777",
    "write -P 0x22 65530 13", "read -P 0x22 65530 13", "read -P 0x5a 65543 1000",
    "discard 2M 64k", "flush",
    "writev -P 0x33 4M 512 1024 4096", "readv -P 0x33 4M 512 1024 4096",
    "aio_write -P 0x44 5M 64k", "aio_write -P 0x55 6M 64k", "aio_flush",
    "read -P 0x44 5M 64k", "read -P 0x55 6M 64k",
]

daemon.need("qemu-io")
with served.served_disk() as (_, server, image):
    arguments = [word for step in STEPS for word in ("-c", step)]
    out = daemon.ok("qemu-io", "-f", "raw", *arguments, server.uri)
    assert "failed" not in out and "error" not in out.lower(), out
    wrong = daemon.run("qemu-io", "-f", "raw", "-c", "read -P 0x99 0 4k", server.uri)
    assert "Pattern verification failed" in wrong.stdout, "qemu-io would not notice wrong data"
    with open(image, "rb") as f:
        f.seek(6 << 20)
        assert f.read(65536) == b"\x55" * 65536, "the image itself does not hold the data"
