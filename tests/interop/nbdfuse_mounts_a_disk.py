# SPDX-License-Identifier: Apache-2.0
"""nbdfuse shows our export as a file: written, synced, read and unmounted.
Skipped where FUSE cannot be used."""
import os
import random

import daemon
import served

BLOCK = 4096


def mounted(folder, uri):
    """(process, path of the file) of an nbdfuse that is ready."""
    mount = os.path.join(folder, "mnt")
    os.makedirs(mount)
    process = daemon.Process(["nbdfuse", os.path.join(mount, "disk"), uri], os.path.join(folder, "nbdfuse.log"))
    return process, os.path.join(mount, "disk")


def overwrite(path, size):
    """Random writes through the file, synced; {offset: bytes} of what must be there."""
    rng = random.Random(7)
    written = {}
    with open(path, "r+b", buffering=0) as f:
        for _ in range(60):
            at = rng.randrange(size // BLOCK - 64) * BLOCK
            data = rng.randbytes(rng.choice((1, 16, 64)) * BLOCK)
            f.seek(at)
            f.write(data)
            written = {a: d for a, d in written.items() if a + len(d) <= at or a >= at + len(data)}
            written[at] = data
        f.seek(size - 512)  # the odd tail
        f.write(b"t" * 512)
        written = {a: d for a, d in written.items() if a + len(d) <= size - 512}
        written[size - 512] = b"t" * 512
        os.fsync(f.fileno())
    return written


def main():
    daemon.need("nbdfuse")
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        daemon.skip("/dev/fuse cannot be opened")
    with served.served_disk() as (folder, server, image):
        process, path = mounted(folder, server.uri)
        with process:
            daemon.until(lambda: os.path.exists(path) or not process.alive(), "nbdfuse's file")
            if not process.alive():
                assert "fuse" in process.log(), process.log()
                daemon.skip("nbdfuse cannot mount here: " + process.log().strip()[-200:])
            assert os.path.getsize(path) == served.ODD_SIZE, os.path.getsize(path)
            assert daemon.same(path, image), "the file is not the disk"
            written = overwrite(path, served.ODD_SIZE)
            for at, data in written.items():
                with open(image, "rb") as f:  # what was synced is in the store
                    f.seek(at)
                    assert f.read(len(data)) == data, f"wrong data at {at}"
            daemon.ok("dd", f"if={path}", f"of={folder}/copy", "bs=1M", "status=none")
            assert daemon.same(os.path.join(folder, "copy"), image), "dd reads something else"
            daemon.ok("umount", path if os.path.ismount(path) else os.path.dirname(path))
            daemon.until(lambda: not process.alive(), "nbdfuse to end")
        daemon.until(lambda: not server.get("/v1/clients")["clients"], "the connection to end")


if __name__ == "__main__":
    main()
