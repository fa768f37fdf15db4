# SPDX-License-Identifier: Apache-2.0
"""Random commands on several disks of one daemon, several jobs at once, while it is killed, ended and replaced and the
servers behind its stores freeze and die: every disk comes back without force, in one place, and nothing is lost.

  commands_campaign.py [--episodes N] [--seed S]

Commands may be refused; nobody asks which. In the end of an episode everything answers again, every job ends, and
every disk and every copy that was called complete is compared with what its writer was told.
"""
import argparse
import collections
import json
import os
import random
import sys
import time

from moves import daemon
from several_disks import World

COMMANDS = 40
MODES = ("mirror", "mirror", "dbt", "cold", "auto", "snapshot", "postcopy", "hybrid", "shared", "shared")
EXPECTED = (0, 1, 2, 3, 4, 5, 8, 9)
RECORD = ".blockmig-backup"


class Episode:
    """A world, and what is done to it."""

    def __init__(self, world, pick):
        self._world = world
        self._pick = pick
        self.outcomes = collections.Counter()

    def run(self):
        actions = ((self.migrate, 10), (self.backup, 4), (self.go_back, 2), (self.settle, 3), (self.steer, 8),
                   (self.detach, 2), (self.serve, 3), (self.bitmap, 2), (self.trouble, 4), (self.restart, 3))
        choices = [action for action, weight in actions for _ in range(weight)]
        for _ in range(COMMANDS):
            self._pick.choice(choices)()
            time.sleep(self._pick.choice((0.0, 0.1, 0.3, 0.6)))
            assert self._world.server.alive(), "the daemon has ended by itself"
        self._world.quieten()
        self.check_backups()
        self._world.check()

    def _ask(self, *words):
        """A command that may be refused, but neither crash nor hang."""
        done = self._world.server.cli(*words, timeout=60)
        failed = words[0] if done.returncode else ""
        print(" ", " ".join(words), "->", done.returncode, done.stderr.strip()[:150], flush=True)
        assert done.returncode in EXPECTED, (words, done.returncode, done.stderr)
        self.outcomes[words[0] + (" refused" if failed else "")] += 1
        return done.returncode == 0

    def _disk(self, busy=None):
        """Any, but most often one that is served and, with `busy`, has a running job or none."""
        disks = self._world.disks
        if self._pick.random() < 0.85:
            views = self._world.views()
            fit = [disk for disk in disks
                   if disk.name in views and busy in (None, bool(views[disk.name].get("job")))]
            disks = fit or disks
        return self._pick.choice(disks)

    def _file(self):
        """Any, but most often none that a disk is on now."""
        names = [disk.name for disk in self._world.disks] + ["x"]
        files = [os.path.join(folder, name + ".img") for folder in self._world.folders for name in names]
        if self._pick.random() < 0.85:
            stores = {view["store"] for view in self._world.views().values()}
            files = [path for path in files if "file://" + path not in stores]
        return self._pick.choice(files)

    def _rate(self):
        return f"{self._pick.choice((1, 2, 4, 8, 64))}MiB/s"

    def migrate(self):
        disk, mode = self._disk(busy=False), self._pick.choice(MODES)
        to_file = mode == "shared" or self._pick.random() < 0.7
        target = self._file() if to_file else self._pick.choice(self._world.servers).uri
        words = ["migrate", disk.name, "--to", target, "--mode", mode, "--detach", "--bwlimit", self._rate()]
        words += ["--target-timeout", "2s", "--retry-for", "5s"]
        if mode in ("postcopy", "hybrid"):
            words += ["--reverse-mirror", self._pick.choice(("on", "off"))]
        if mode == "shared":
            words += ["--hydrate", self._pick.choice(("background", "on-demand", "never"))]
        on_restart = self._pick.choice(("resume", "resume", "pause", "abort"))
        words += ["--on-restart", on_restart, "--verify", self._pick.choice(("none", "digest", "full"))]
        if mode != "postcopy" and on_restart != "abort":
            words += ["--checkpoint-interval", "100ms"]
        if mode in ("mirror", "dbt", "cold", "auto") and self._pick.random() < 0.4:
            words.append("--keep-record")
        if self._ask(*words) and mode in ("postcopy", "hybrid", "shared"):
            disk.only_flushed_counts = True
            disk.rests = mode == "shared"

    def backup(self):
        disk = self._disk(busy=False)
        copy = os.path.join(self._world.folder, f"{disk.name}.backup{self._pick.randrange(2)}")
        words = ["backup", disk.name, copy, "--detach", "--bwlimit", self._rate()]
        if self._pick.random() < 0.5 and os.path.exists(copy):
            words += ["--since", f"m{self._pick.randrange(2)}"]
        if self._pick.random() < 0.6:
            words += ["--bitmap", f"m{self._pick.randrange(2)}"]
        if self._ask(*words):
            disk.backups.add(copy)

    def go_back(self):
        views = self._world.views()
        ways = [(view["name"], view["return_to"]) for view in views.values() if view["return_to"]]
        name, left = self._pick.choice(ways) if ways else (self._disk().name, self._file())
        self._ask("migrate", name, "--to", left, "--mode", "return", "--detach", "--bwlimit", self._rate(),
                  *self._pick.choice(([], ["--keep-record"])))

    def settle(self):
        views = self._world.views()
        resting = [disk for disk in self._world.disks if disk.rests and disk.name in views]
        disk = self._pick.choice(resting) if resting else self._disk(busy=False)
        left = views.get(disk.name, {}).get("previous_store") or self._file()
        into = ["--into", left] if self._pick.random() < 0.5 else []
        if self._ask("settle", disk.name, "--detach", *into):
            disk.only_flushed_counts = True
            disk.rests = False

    def steer(self):
        name = self._disk(busy=True).name
        what = self._pick.choice(("abort", "pause", "pause", "resume", "resume", "set"))
        self._ask(what, name, *([f"bwlimit={self._rate()}"] if what == "set" else []))

    def detach(self):
        self._ask("detach", self._disk().name)

    def serve(self):
        disk = self._disk()
        if self._ask("serve", disk.name):
            disk.write()

    def bitmap(self):
        disk, name = self._disk(), f"m{self._pick.randrange(2)}"
        what = self._pick.choice((("add", name), ("rm", name), ("merge", "m0", "m1")))
        self._ask("bitmap", what[0], disk.name, *what[1:])

    def trouble(self):
        server = self._pick.choice(self._world.servers)
        what = self._pick.choice(("freeze", "thaw", "thaw", "kill", "begin", "begin"))
        print("  server", server.name, what, flush=True)
        getattr(server, what)()

    def restart(self):
        how = self._pick.choice(("kill", "kill", "stop", "replace"))
        print("  daemon:", how, flush=True)
        self.outcomes[how] += 1
        self._world.restart(how)
        served = self._world.views()
        for disk in self._world.disks:
            if disk.name in served:
                disk.write()

    def check_backups(self):
        for disk in self._world.disks:
            for copy in sorted(disk.backups):
                if disk.only_flushed_counts or not os.path.exists(copy + RECORD):
                    continue
                with open(copy + RECORD, encoding="utf-8") as record:
                    complete = json.load(record)["state"] == "complete"
                if complete:
                    disk.check_backup(copy)
                    self.outcomes["copies compared"] += 1


def one_episode(seed):
    pick = random.Random(seed)
    with daemon.scratch() as folder, World(folder, pick) as world:
        episode = Episode(world, pick)
        episode.run()
        ended = collections.Counter(f"{job['mode']} {job['state']}" for job in world.jobs())
        return episode.outcomes + ended


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--episodes", type=int, default=1)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    arguments = parser.parse_args()
    daemon.need("nbdsh", "nbdcopy", "qemu-nbd")
    total = collections.Counter()
    for number in range(arguments.episodes):
        seed = arguments.seed + number
        print(f"again with: {os.path.basename(sys.argv[0])} --seed {seed}", flush=True)
        total += one_episode(seed)
        print(f"{number + 1} episodes, nothing lost: {dict(sorted(total.items()))}", flush=True)


main()
