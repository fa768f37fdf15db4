# SPDX-License-Identifier: Apache-2.0
"""Jobs share what the daemon may copy by their priorities; limits and priorities are remembered after kill -9."""
import os

import daemon
from state_folder import StateFolder

MIB = 1 << 20
SIZE = 48 * MIB


class Server(StateFolder):
    """blockmigd with two disks to move, and its state in a folder."""

    def __init__(self, folder):
        super().__init__(os.path.join(folder, "state"))
        self.folder = folder

    def overview(self):
        return self.shown("status")

    def job(self, disk):
        return self.shown("status", disk)

    def daemon_rate(self):
        return self.overview()["daemon"]["bwlimit_bytes_per_second"]

    def move(self, disk, *options):
        self.ok("migrate", disk, "--to", os.path.join(self.folder, disk + ".target"), "--mode", "dbt",
                "--checkpoint-interval", "200ms", "--detach", *options)


def copied(server):
    return [server.job(disk)["bytes_copied"] for disk in ("a", "b")]


def share(server):
    """What each copies from now until the faster one has 12 MiB more."""
    before = copied(server)

    def gained():
        now = [after - first for after, first in zip(copied(server), before)]
        return now if max(now) > 12 * MIB else None
    return daemon.until(gained, "12 MiB more", seconds=60, pause=0.05)


def main():
    with daemon.scratch() as folder:
        server = Server(folder)
        server.start("--bwlimit", "8MiB/s")
        try:
            for disk in ("a", "b"):
                image = daemon.make_image(os.path.join(folder, disk + ".img"), SIZE, holes=False)
                server.ok("serve", disk, "--source", image)
            assert server.daemon_rate() == 8 * MIB
            assert "copies at most 8 MiB/s" in server.ok("status"), server.ok("status")
            server.move("a", "--priority", "high")
            server.move("b", "--priority", "low")
            daemon.until(lambda: min(copied(server)) > 0, "both to copy")
            high, low = share(server)
            assert high > 8 * low, (high, low)  # 16:1, less what a turn is worth
            assert server.job("a")["priority"] == "high" and server.job("b")["priority"] == "low"

            said = server.ok("set", "b", "priority=high", "bwlimit=6MiB/s")
            assert "priority high" in said and "6 MiB/s" in said, said
            server.ok("set", "--daemon", "bwlimit=7MiB/s")
            assert server.daemon_rate() == 7 * MIB
            refused = server.cli("set", "--daemon", "priority=high")
            assert refused.returncode == 2 and "daemon" in refused.stderr, refused

            server.kill()
            server.start()
            assert server.daemon_rate() == 7 * MIB
            daemon.until(lambda: server.job("b")["resumed"], "the moves to go on")
            job = server.job("b")
            assert job["priority"] == "high" and job["bwlimit_bytes_per_second"] == 6 * MIB, job
            assert server.job("a")["priority"] == "high"

            server.ok("set", "--daemon", "bwlimit=none")
            server.ok("set", "b", "bwlimit=none")
            for disk in ("a", "b"):
                def ended(name=disk):
                    return server.job(name)["state"] not in ("running", "paused")
                daemon.until(ended, "the move to end", seconds=60, pause=0.05)
                assert server.job(disk)["state"] == "done", server.job(disk)
                paths = [os.path.join(folder, disk + end) for end in (".img", ".target")]
                assert daemon.same(*paths), "source and target differ"
            # An option counts more than what was set; without one it is what was set last.
            server.end()
            server.start("--bwlimit", "3MiB/s")
            assert server.daemon_rate() == 3 * MIB
            server.end()
            server.start()
            assert server.daemon_rate() == 0
        finally:
            server.end()


main()
