# SPDX-License-Identifier: Apache-2.0
"""A disk that moves to and fro in every mode but `return` and `settle`, verified, under a client that checks all it
reads: no mismatch, and neither memory nor descriptors grow.

  soak.py [--minutes N]
"""
import argparse
import os
import time

import moves
from moves import daemon

MODES = (("dbt",), ("mirror", "--verify", "full"), ("cold",), ("auto",), ("postcopy",),
         ("hybrid", "--verify", "full"), ("snapshot",), ("postcopy", "--reverse-mirror", "off"),
         ("shared", "--hydrate", "background"))
ROUNDS_TO_WARM_UP = 1
MEMORY_MAY_GROW = 48 * moves.MIB  # caches of the journal and of the allocator, on a daemon of about 60 MiB
DESCRIPTORS_MAY_GROW = 12  # the journal's files come and go by four, by more when its clean-up is late


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def move_to_and_fro(scene, number, mode):
    """One move, and what must hold after it."""
    before = scene.disk.served_store().removeprefix("file://")
    target = scene.path(f"place-{number}.img")
    job = scene.disk.migrate(target, *mode, "--max-downtime", "2s")
    assert job["state"] == "done", (mode, job)
    scene.guest_is_on(target)
    if before == scene.image:
        return
    for left in (before, before + ".manifest", before + ".blockmig-owner"):
        if os.path.exists(left):
            os.unlink(left)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=0.4)
    arguments = parser.parse_args()
    end = time.monotonic() + 60 * arguments.minutes
    with moves.scene("--rate", "2000", "--connections", "3", patience=60 * arguments.minutes + 300,
                     extra=("--threads", "2")) as scene:
        number, rounds, highest = 0, 0, None
        while rounds <= ROUNDS_TO_WARM_UP or time.monotonic() < end:
            for mode in MODES:
                move_to_and_fro(scene, number, mode)
                number += 1
            rounds += 1
            scene.client.clean_report()
            now = (daemon.resident_bytes(scene.disk.pid), descriptors(scene.disk.pid))
            print(f"round {rounds}: {number} moves, {now[0] >> 20} MiB, {now[1]} descriptors", flush=True)
            if rounds <= ROUNDS_TO_WARM_UP:
                highest = (now[0] + MEMORY_MAY_GROW, now[1] + DESCRIPTORS_MAY_GROW)
            else:
                assert now[0] <= highest[0] and now[1] <= highest[1], (now, highest)


main()
