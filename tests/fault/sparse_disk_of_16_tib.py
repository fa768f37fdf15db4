# SPDX-License-Identifier: Apache-2.0
"""A disk of 16 TiB with a few MiB of data costs its data: in every mode, also onto a target that held something."""
import contextlib
import os

import sparse_images
from moves import MIB, daemon
from sparse_images import MOST_BYTES, PIECE

TIB = 1 << 40
SIZE = 16 * TIB
DATA = (0, 3 * TIB + 65536, 9 * TIB, SIZE - PIECE)
POISON = (TIB, SIZE - 64 * MIB)  # where the disk is zeros
MODES = (("dbt", ()), ("mirror", ()), ("cold", ()), ("postcopy", ("--reverse-mirror", "on")),
         ("postcopy", ("--reverse-mirror", "off")), ("hybrid", ()), ("shared", ("--hydrate", "background")))


def move(folder, number, mode, options, poisoned):
    source, target = os.path.join(folder, f"{number}.img"), os.path.join(folder, f"{number}.target")
    sparse_images.put(source, SIZE, DATA)
    if poisoned:
        sparse_images.put(target, SIZE, POISON)
    with daemon.Daemon(folder, source, name=f"d{number}") as disk:
        job = disk.migrate(target, mode, *options)
        assert job["state"] == "done" and job["switched"] and job["size_bytes"] == SIZE, job
        moved = job["bytes_copied"] + job["hydration"]["bytes_hydrated"]
        assert moved <= MOST_BYTES, job
        # A bitmap of all its chunks alone would be 32 MiB.
        assert memory(disk.pid) < 160 * MIB, memory(disk.pid)
        sparse_images.check(source, target, DATA, POISON)
    for path in (source, target):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def memory(pid):
    """What the daemon had in memory at most."""
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        for line in f:
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024
    raise AssertionError("no VmHWM")


def takes_such_files(folder):
    path = os.path.join(folder, "try")
    try:
        with open(path, "wb") as f:
            f.truncate(SIZE)
        return True
    except OSError:
        return False
    finally:
        os.unlink(path)


def main():
    # ext4 ends one page before 16 TiB; tmpfs and XFS do not.
    for parent in (None, "/dev/shm"):
        if parent and not os.path.isdir(parent):
            continue
        with daemon.scratch(parent) as folder:
            if not takes_such_files(folder):
                continue
            for number, (mode, options) in enumerate(MODES):
                move(folder, number, mode, options, poisoned=number % 2 == 0)
                move(folder, 100 + number, mode, options, poisoned=number % 2 == 1)
            return
    daemon.skip("no file system here takes files of 16 TiB")


main()
