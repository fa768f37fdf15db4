# SPDX-License-Identifier: Apache-2.0
"""A disk that moves to and fro in every mode, verified, under a client that checks all it reads: no mismatch, and neither
memory nor descriptors grow.

  soak.py [--minutes N]

Memory is judged by its slope: the first third of the rounds is a warm-up, and the median of the last third stands beside
that of the middle. A short run has too few rounds for that; there only a limit holds.

What grows in the warm-up: the reports of ended jobs, of which 128 are kept; the journal's buffers, until it writes them
out for the first time; and the holes in the heaps of the threads, ever more slowly.
"""
import argparse
import os
import statistics
import time

import moves
from moves import daemon

MODES = (("dbt",), ("mirror", "--verify", "full"), ("cold",), ("auto",), ("postcopy",),
         ("hybrid", "--verify", "full"), ("snapshot",), ("postcopy", "--reverse-mirror", "off"),
         ("shared", "--hydrate", "background"), ("settle",), ("return",))
USED_BYTES = 12 * moves.MIB  # of the disk, by the client; nobody writes to the rest, so it stays where it was left
ROUNDS_TO_WARM_UP = 1
MEMORY_MAY_GROW = 32 * moves.MIB  # over all, on a daemon of about 55 MiB
SLOPE_MAY_BE = 4 * moves.MIB  # from the middle third to the last
ROUNDS_WITH_A_SLOPE = 60  # before, the warm-up is in the middle third still
DESCRIPTORS_MAY_GROW = 12  # the journal's files come and go by four, by more when its clean-up is late


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def judge_slope(resident):
    """Of the memory at the end of each round."""
    third = len(resident) // 3
    middle, last = (int(statistics.median(part)) for part in (resident[third:-third], resident[-third:]))
    print(f"memory: {middle >> 20} MiB in the middle third, {last >> 20} in the last", flush=True)
    assert last - middle <= SLOPE_MAY_BE, f"{(last - middle) / third:.0f} bytes more with each round"


def forget(path):
    for left in (path, path + ".manifest", path + ".blockmig-owner", path + ".blockmig-backup"):
        if os.path.exists(left):
            os.unlink(left)


class Rest:
    """What the client does not use."""

    def __init__(self, image):
        self._content = self.of(image)

    @staticmethod
    def of(image):
        with open(image, "rb") as content:
            content.seek(USED_BYTES)
            return content.read()

    def is_in(self, image):
        assert self.of(image) == self._content, f"{image} has lost what nobody wrote to"


def move(scene, target, *words):
    job = scene.disk.migrate(target, *words, "--max-downtime", "2s")
    assert job["state"] == "done", (words, job)


def to_and_back(scene, before, target, mode):
    """There, and back with what has changed."""
    if mode == "return":
        move(scene, target, "dbt", "--keep-record")
        scene.guest_is_on(target)
        move(scene, before, "return")
    else:
        move(scene, target, "shared", "--hydrate", "never")
        settled = scene.disk.cli("settle", daemon.EXPORT, "--into", before)
        assert settled.returncode == 0, settled.stderr
    forget(target)


def move_to_and_fro(scene, rest, number, mode):
    """One move, or two, and what must hold after it."""
    before = scene.disk.served_store().removeprefix("file://")
    target = scene.path(f"place-{number}.img")
    if mode[0] in ("settle", "return"):
        to_and_back(scene, before, target, mode[0])
        target = before
    else:
        move(scene, target, *mode)
    scene.guest_is_on(target)
    rest.is_in(target)
    if before not in (target, scene.image):
        forget(before)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=0.4)
    arguments = parser.parse_args()
    end = time.monotonic() + 60 * arguments.minutes
    with moves.scene("--rate", "2000", "--connections", "3", "--length", str(USED_BYTES), patience=60 * arguments.minutes + 300,
                     extra=("--threads", "2")) as scene:
        number, rounds, highest, resident = 0, 0, None, []
        rest = Rest(scene.image)
        while rounds <= ROUNDS_TO_WARM_UP or time.monotonic() < end:
            for mode in MODES:
                move_to_and_fro(scene, rest, number, mode)
                number += 1
            rounds += 1
            scene.client.clean_report()
            now = (daemon.resident_bytes(scene.disk.pid), descriptors(scene.disk.pid))
            resident.append(now[0])
            print(f"round {rounds}: {number} moves, {now[0] >> 20} MiB, {now[1]} descriptors", flush=True)
            if rounds <= ROUNDS_TO_WARM_UP:
                highest = (now[0] + MEMORY_MAY_GROW, now[1] + DESCRIPTORS_MAY_GROW)
            else:
                assert now[0] <= highest[0] and now[1] <= highest[1], (now, highest)
        if rounds >= ROUNDS_WITH_A_SLOPE:
            judge_slope(resident)


main()
