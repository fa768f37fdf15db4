# SPDX-License-Identifier: Apache-2.0
"""kill -9 of the daemon at random moments of a move under load: it serves again, the job goes on, nothing is lost.

  kill_campaign.py [--kills N] [--seed S]

Each round: a disk, a writer that notes what it was told, a move; one or more kills; then the move ends, and every
sector holds the last write that was acknowledged, or one that was under way.
"""
import argparse
import os
import random
import time

import lives
import moves
from moves import daemon

MODES = ("mirror", "dbt", "cold", "auto", "snapshot", "postcopy", "hybrid")


def one_round(pick, mode, kills):
    with daemon.scratch() as folder:
        source = lives.make_image(os.path.join(folder, "source.img"), 24 * moves.MIB // lives.BLOCK)
        target = os.path.join(folder, "target.img")
        log = os.path.join(folder, "writes")
        server = lives.Daemon(os.path.join(folder, "state"), os.path.join(folder, "blockmigd.log"))
        client = None
        try:
            server.start()
            served = server.cli("serve", "vm1", "--source", source)
            assert served.returncode == 0, served.stderr
            client = lives.writer(server, log, pick.randrange(1, 1000) * 1_000_000_000)
            moved = server.cli("migrate", "vm1", "--to", target, "--mode", mode, "--detach",
                               "--bwlimit", "12MiB/s", "--checkpoint-interval", "200ms")
            assert moved.returncode == 0, moved.stderr
            for life in range(kills):
                time.sleep(pick.uniform(0.0, 2.5))
                server.kill()
                client.wait()
                server.start()
                client = lives.writer(server, log, (1000 + life) * 1_000_000_000)
            server.wait_for_end()
            time.sleep(0.2)
            server.kill()
            client.wait()
            return lives.check(log, target)
        finally:
            for process in (client, server.process):
                if process is not None and process.poll() is None:
                    process.kill()
                    process.wait()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=4)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    arguments = parser.parse_args()
    daemon.need("nbdsh")
    pick = random.Random(arguments.seed)
    print(f"seed {arguments.seed}")
    done = 0
    while done < arguments.kills:
        mode = MODES[pick.randrange(len(MODES))]
        kills = min(pick.randrange(1, 4), arguments.kills - done)
        print(f"{mode}, {kills} kills", flush=True)
        blocks = one_round(pick, mode, kills)
        done += kills
        print(f"{done} kills: {mode}, {blocks} blocks written, nothing lost", flush=True)


main()
