# SPDX-License-Identifier: Apache-2.0
"""kill -9 of the daemon at random moments of a move under load (M3): it serves again, the job goes on, nothing is lost.

  kill_campaign.py [--kills N] [--seed S]

Each round: a disk, a writer that notes what it was told, a move; one or more kills; then the move ends, and every
sector holds the last write that was acknowledged, or one that was under way.
"""
import argparse
import random
import time

import lives
from moves import daemon


def one_round(pick, mode, kills):
    with daemon.scratch() as folder, lives.Move(folder, folder, mode, pick) as move:
        move.begin()
        for _ in range(kills):
            time.sleep(pick.uniform(0.0, 2.5))
            move.kill()
            move.live_again()
        return move.end()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=4)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    arguments = parser.parse_args()
    daemon.need("nbdsh", "nbdcopy")
    pick = random.Random(arguments.seed)
    print(f"seed {arguments.seed}")
    done = 0
    while done < arguments.kills:
        mode = lives.MODES[pick.randrange(len(lives.MODES))]
        kills = min(pick.randrange(1, 4), arguments.kills - done)
        print(f"{mode}, {kills} kills", flush=True)
        blocks = one_round(pick, mode, kills)
        done += kills
        print(f"{done} kills: {mode}, {blocks} blocks written, nothing lost", flush=True)


main()
