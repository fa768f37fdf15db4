# SPDX-License-Identifier: Apache-2.0
"""Power losses in mid-move (M2, M8, M20): what was flushed is there, the disk is served again, the job goes on.

  power_loss_campaign.py [--losses N] [--seed S]

In every mode; a copy of one instant must be that. The disk, its target and the daemon's journal are on an XFS of
their own, which is shut down under the running daemon without its log: what was not made durable is gone. Then it is
mounted again.
"""
import argparse
import os
import random
import time

import lives
from medium import Medium
from moves import daemon


def one_round(pick, mode, losses, folder, medium):
    with lives.Move(medium.folder, folder, mode, pick) as move:
        move.begin()
        for _ in range(losses):
            time.sleep(pick.uniform(0.0, 2.5))
            move.power_goes()
            medium.cut()
            move.kill()
            medium.unmount()
            refused = medium.mount()
            assert not refused, refused
            move.live_again()
        return move.end(power_was_lost=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--losses", type=int, default=3)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    arguments = parser.parse_args()
    daemon.need("nbdsh", "nbdcopy", "mkfs.xfs", "xfs_io", "mount")
    pick = random.Random(arguments.seed)
    print(f"seed {arguments.seed}")
    done = 0
    while done < arguments.losses:
        mode = lives.MODES[pick.randrange(len(lives.MODES))]
        losses = min(pick.randrange(1, 4), arguments.losses - done)
        print(f"{mode}, {losses} power losses", flush=True)
        with daemon.scratch() as folder:
            medium = Medium(folder)
            refused = medium.mount()
            if refused:
                daemon.skip("cannot mount an XFS image here: " + refused)
            try:
                blocks = one_round(pick, mode, losses, folder, medium)
            finally:
                medium.unmount()
        done += losses
        print(f"{done} power losses: {mode}, {blocks} blocks written, nothing lost", flush=True)


main()
