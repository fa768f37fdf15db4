# SPDX-License-Identifier: Apache-2.0
"""kill -9 of the daemon at named points and at random moments of a move under load (M3): it serves again, the job goes
on, nothing is lost.

  kill_campaign.py [--kills N] [--seed S]

Each round: a disk, a writer that notes what it was told, a move; one or more kills; then the move ends, and every
sector holds the last write that was acknowledged, or one that was under way. Every second kill is at a point of
kill_points.py; of 300 kills, each point must have been met.
"""
import argparse
import random
import time

import lives
from kill_points import Tour, Trap, start_held
from moves import daemon

MEETS_ALL = 300  # so many kills are enough


def live(move, is_first, *options):
    """The move begins, or goes on in another life."""
    if is_first:
        move.ask()
    else:
        move.live_again(*options)


def hurry(move, point):
    if point.hurries:
        move.server.cli("set", "vm1", "bwlimit=none")


def live_until(move, point, is_first, from_start):
    """One life that is to end at the point; whether it did."""
    options = ("--loop", point.loop)
    if point.is_late:
        live(move, is_first, *options)
        if point.phase:
            at = time.monotonic()
            while time.monotonic() < at + 5 and move.server.job().get("phase") != point.phase:
                time.sleep(0.02)
    elif not is_first:
        if from_start:
            start_held(move.server, *options)
        else:
            move.live_again(*options)
    with Trap(point, move) as trap:
        if point.is_late or (not is_first and not from_start):
            hurry(move, point)
            return trap.has_killed()
        if is_first:
            move.ask()
        else:
            move.server.process.thaw()
            if move.server.answers_or_dies():
                move.go_on()
        hurry(move, point)
        return trap.has_killed()


def one_round(pick, tour, mode, kills):
    with daemon.scratch() as folder, lives.Move(folder, folder, mode, pick) as move:
        points = [tour.next(mode) if pick.random() < 0.5 else None for _ in range(kills)]
        move.prepare(*(("--loop", points[0].loop) if points[0] else ()))
        for number, point in enumerate(points):
            if point is None:
                live(move, number == 0)
                time.sleep(pick.uniform(0.0, 2.5))
            elif live_until(move, point, number == 0, pick.random() < 0.5):
                tour.met[point.name] += 1
                print(f"  killed at: {point.name}", flush=True)
            else:
                print(f"  not reached, killed later: {point.name}", flush=True)
            move.kill()
        move.live_again()
        return move.end()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=4)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    arguments = parser.parse_args()
    daemon.need("nbdsh", "nbdcopy", "strace")
    pick = random.Random(arguments.seed)
    tour = Tour(pick)
    print(f"seed {arguments.seed}")
    done = 0
    while done < arguments.kills:
        mode = lives.MODES[pick.randrange(len(lives.MODES))]
        kills = min(pick.randrange(1, 4), arguments.kills - done)
        print(f"{mode}, {kills} kills", flush=True)
        blocks = one_round(pick, tour, mode, kills)
        done += kills
        print(f"{done} kills: {mode}, {blocks} blocks written, nothing lost", flush=True)
    for name, times in sorted(tour.met.items()):
        print(f"{times:4} at: {name}")
    assert done < MEETS_ALL or not tour.missed(), f"never met: {tour.missed()}"


main()
