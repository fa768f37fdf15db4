# SPDX-License-Identifier: Apache-2.0
"""Mode shared: current data moves, the rest stays in its folder, is checked when it is fetched, and settles."""
import json
import os
import shutil
import threading
import time

import daemon

MIB = 1 << 20
SIZE = 24 * MIB + 1536
ROTTEN = 17 * MIB + 4321
# Longer than one fetch from a folder is given (5 s), so that it is seen to be asked again.
PATIENCE = 9


def allocated(path):
    return os.stat(path).st_blocks * 512


def manifest(image):
    return json.loads(daemon.run(daemon.built("blockmig"), "manifest", "show", image,
                                 "-o", "json").stdout)


def read(disk, offset, length):
    """What a client reads, or None where it gets an error."""
    result = daemon.run("qemu-io", "-f", "raw", "-r", disk.uri, "-c", f"read -v {offset} {length}")
    if "read failed" in result.stdout + result.stderr:
        return None
    dump = [line.split(":", 1)[1].strip()[:47] for line in result.stdout.splitlines()
            if line[8:9] == ":"]
    return bytes.fromhex("".join(dump).replace(" ", ""))


def equal(disk, original):
    return daemon.run(daemon.built("blockmig"), "verify", disk.uri, original).returncode == 0


def flip(path, offset):
    with open(path, "r+b") as f:
        f.seek(offset)
        byte = f.read(1)[0]
        f.seek(offset)
        f.write(bytes([byte ^ 1]))


def moved(folder, name, hydrate):
    """A disk whose image stays in a folder, after its move; (image, original, local, job)."""
    image = daemon.make_image(os.path.join(folder, name + ".img"), SIZE, holes=False)
    original, local = image + ".original", os.path.join(folder, name + ".local")
    shutil.copy(image, original)
    with daemon.Daemon(folder, image, name=name) as disk:
        # A guest's write, and its neighbourhood, are current data.
        daemon.ok("qemu-io", "-f", "raw", disk.uri, "-c", "write -P 0x33 3M 64k", "-c", "flush")
        with open(original, "r+b") as f:
            f.seek(3 * MIB)
            f.write(b"\x33" * 65536)
        job = disk.migrate(local, "shared", "--hydrate", hydrate, "--base-patience", f"{PATIENCE}s")
        assert job["state"] == "done" and job["switched"], job
        assert disk.served_store().endswith(local), disk.served_store()
        if hydrate != "background":
            assert job["bytes_at_rest"] > SIZE - 8 * MIB, job
            assert job["bytes_copied"] + job["bytes_at_rest"] >= SIZE - 65536, job
            assert job["hydration"]["depends_on"] == "the folder", job
            found = manifest(image)
            assert found["owner"] == daemon.EXPORT and found["owner_epoch"] == 2, found
            assert "depends" in daemon.run(daemon.built("blockmig"), "manifest", "make",
                                           image).stderr
            # A second rest could name only one of the two places that its data is in.
            again = disk.cli("migrate", daemon.EXPORT, "--to", local + ".third", "--mode", "postcopy")
            assert again.returncode != 0 and "settle it first" in again.stderr, again
            part = allocated(local)
            assert part < 8 * MIB, part
            assert equal(disk, original)
            assert (allocated(local) > SIZE - MIB) == (hydrate == "on-demand"), hydrate
            assert (allocated(local) == part) == (hydrate == "never"), hydrate
        assert equal(disk, original)
        if hydrate == "background":
            daemon.until(lambda: manifest(image)["owner"] == "", "the folder to be let go")
        os.kill(disk.pid, 9)
    return image, original, local


def main():
    daemon.need("qemu-io")
    with daemon.scratch() as folder:
        image, original, local = moved(folder, "b", "background")
        os.unlink(image)
        assert daemon.same(local, original)

        image, original, local = moved(folder, "d", "on-demand")
        # A disk that moves on as a whole needs the folder no more.
        with daemon.Daemon(folder, local, name="d") as disk:
            disk.migrate(local + ".third", "dbt")
            daemon.until(lambda: manifest(image)["owner"] == "", "the folder to be let go")
            assert equal(disk, original)

        image, original, local = moved(folder, "n", "never")
        # A restart goes on with the folder.
        with open(original, "rb") as f:
            f.seek(ROTTEN - ROTTEN % 512)
            right = f.read(512)
        with daemon.Daemon(folder, local, name="n") as disk:
            assert read(disk, ROTTEN - ROTTEN % 512, 512) == right
            flip(image, ROTTEN)
            begun = time.monotonic()
            assert read(disk, ROTTEN - ROTTEN % 512, 512) is None, "wrong data was served"
            assert time.monotonic() - begun > PATIENCE - 1, "an error before the patience was over"
            assert read(disk, 0, 512) is not None
            repair = threading.Timer(PATIENCE - 2, flip, (image, ROTTEN))
            repair.start()
            assert read(disk, ROTTEN - ROTTEN % 512, 512) == right, "repaired in time, and an error"
            repair.join()
            os.kill(disk.pid, 9)
        # Without the folder, or with another image in it, it is not served at all.
        for name in (image, image + ".manifest"):
            os.rename(name, name + ".away")
            refused = daemon.run(daemon.built("blockmig"), "serve", daemon.EXPORT, "--state-dir",
                                 os.path.join(folder, "n.state"), timeout=30)
            assert refused.returncode != 0 and image in refused.stderr, refused.stderr
            os.rename(name + ".away", name)
        shutil.copy(image, image + ".copy")
        os.rename(image + ".copy", image)
        refused = daemon.run(daemon.built("blockmig"), "serve", daemon.EXPORT, "--state-dir",
                             os.path.join(folder, "n.state"), timeout=30)
        assert refused.returncode != 0 and "replaced" in refused.stderr, refused.stderr
        daemon.ok(daemon.built("blockmig"), "manifest", "check", image, "--adopt")
        with daemon.Daemon(folder, local, name="n") as disk:
            settled = disk.cli("settle", daemon.EXPORT, "-o", "json")
            assert settled.returncode == 0, settled.stderr
            assert daemon.last_json(settled.stdout)["remaining_bytes"] == 0
            assert manifest(image)["owner"] == ""
            os.unlink(image)
            assert equal(disk, original)
            again = disk.cli("settle", daemon.EXPORT)
            assert again.returncode == 9 and "whole" in again.stderr, again.stderr
        assert daemon.same(local, original)


main()
