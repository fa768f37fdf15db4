# SPDX-License-Identifier: Apache-2.0
"""Several disks of one daemon, each under a writer that notes what it was told, and stores enough for them to get into
each other's way: folders that they share, and servers that freeze and die."""
import json
import os
import time

import instants
import lives
from moves import daemon

BLOCKS = 1536  # 6 MiB
PAUSE_SECONDS = 0.002
LIVES = 1_000_000_000  # numbers that a writer may use in one life


class Server:
    """An NBD server whose image outlives it."""

    def __init__(self, folder, name):
        self._folder = folder
        self.name = name
        self.image = os.path.join(folder, name + ".img")
        with open(self.image, "wb") as image:
            image.truncate(BLOCKS * lives.BLOCK)
        self._process = None
        self.begin()

    @property
    def uri(self):
        return self._process.uri

    def begin(self):
        if self._process is None or not self._process.alive():
            if self._process is not None and os.path.exists(self._process.socket_path):
                os.unlink(self._process.socket_path)
            self._process = daemon.qemu_nbd(self._folder, self.image, self.name)

    def freeze(self):
        self._process.freeze()

    def thaw(self):
        self._process.thaw()

    def kill(self):
        self._process.kill()


class Disk:
    """One of them, and its writer."""

    def __init__(self, world, name, pick):
        self._world = world
        self.name = name
        self.log = os.path.join(world.folder, name + ".writes")
        self.client = None
        self._lives = pick.randrange(1, 100)
        # A kill in such a mode may lose what was not flushed (README.md says which).
        self.only_flushed_counts = False
        self.rests = False  # perhaps, in part, in a folder that it has left
        self.backups = set()  # files that it was copied to

    def write(self):
        """Another life of its writer, where the last one has ended."""
        if self.client is not None and self.client.poll() is None:
            return
        self._lives += 1
        self.client = lives.writer(self._world.server, self.log, self._lives * LIVES, disk=self.name,
                                   pause=PAUSE_SECONDS)

    def hold(self):
        """Ends its writer."""
        if self.client is not None:
            self.client.kill()
            self.client.wait()
            self.client = None

    def check(self, image):
        """It is in that image, nothing lost. The number of blocks written."""
        return lives.check(self.log, image, BLOCKS, self.only_flushed_counts)

    def check_backup(self, image):
        """The image is what the disk was at one instant: all writes up to one, and none after it."""
        instants.check(self.log, image, BLOCKS)


class World:
    """A daemon, its disks, and the servers. Leaving it ends everything."""

    def __init__(self, folder, pick, disks=3, servers=2):
        self.folder = folder
        self.server = lives.Daemon(os.path.join(folder, "state"), os.path.join(folder, "blockmigd.log"))
        self.disks, self.servers = [], []
        self._pick = pick
        self.folders = [os.path.join(folder, name) for name in ("a", "b", "c")]
        for path in self.folders:
            os.mkdir(path)
        self.servers = [Server(folder, f"n{number}") for number in range(servers)]
        self.server.start()
        for number in range(disks):
            disk = Disk(self, f"d{number}", pick)
            image = lives.make_image(os.path.join(self.folders[number % 2], f"d{number}.img"), BLOCKS)
            self.server.ok("serve", disk.name, "--source", image)
            disk.write()
            self.disks.append(disk)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        for disk in self.disks:
            disk.hold()
        self.server.kill()
        for server in self.servers:
            server.kill()
        if kind is not None:
            print(f"--- output of the daemons:\n{self.server.process.log()[-20000:]}")

    def jobs(self):
        return json.loads(self.server.ok("ls", "jobs", "-o", "json"))["jobs"]

    def views(self):
        """The disks that are served, by name."""
        return {view["name"]: view for view in json.loads(self.server.ok("ls", "disks", "-o", "json"))["disks"]}

    def restart(self, how):
        """`how`: kill, stop or replace. The servers behind its stores answer meanwhile, so that nothing which it had
        asked of them is done after its death."""
        for server in self.servers:
            server.thaw()
        if how == "replace":
            self._replace()
            return
        if how == "kill":
            time.sleep(0.5)
            self.server.kill()
        else:
            self.server.stop()
        self.server.start()

    def _replace(self):
        """A daemon may refuse, and goes on: its moves would end, or their targets do not answer."""
        before = self.server.process
        after = daemon.Process([daemon.built("blockmigd"), "--state-dir", self.server.state, "--replace"], self.server.log)
        daemon.until(lambda: not (before.alive() and after.alive()), "one of two daemons to end")
        if after.alive():
            self.server.process = after
        daemon.until(lambda: self.server.cli("status").returncode == 0, "the daemon to answer", pause=0.05)

    def quieten(self):
        """All servers answer, every disk is served, and no job is left: each goes on until its end, or is aborted."""
        for server in self.servers:
            server.thaw()
            server.begin()
        assert self.server.alive(), "the daemon has ended by itself"
        for disk in self.disks:
            # It is there, or comes back from where it was, without force.
            def served(name=disk.name):
                return name in self.views() or self.server.cli("serve", name).returncode == 0
            daemon.until(served, f"{disk.name} to be served", seconds=60, pause=0.2)
            disk.write()
        self.server.ok("set", "--daemon", "bwlimit=none")
        deadline = time.monotonic() + 30

        def ended():
            open_jobs = [job for job in self.jobs() if job["state"] in ("running", "paused")]
            for job in open_jobs:
                self.server.cli("resume", job["id"])
                self.server.cli("set", job["id"], "bwlimit=none")
                if time.monotonic() > deadline and job["phase"] != "hydrating":
                    self.server.cli("abort", job["id"])
                elif time.monotonic() > deadline:
                    self._serve_again(job["disk"])
            return not open_jobs
        daemon.until(ended, "all jobs to end", seconds=120, pause=0.3)
        for disk in self.disks:
            self._serve_anew(disk)

    def _serve_again(self, name):
        """Its store may say that it does not close in order."""
        self.server.cli("detach", name)
        self.server.ok("serve", name)

    def _serve_anew(self, disk):
        """A disk whose server died with what it had not flushed is not connected to it again by itself."""
        disk.write()
        before = os.path.getsize(disk.log)
        while disk.client.poll() is None and os.path.getsize(disk.log) < before + 8 * lives.RECORD.size:
            time.sleep(0.02)
        if disk.client.poll() is not None:
            self._serve_again(disk.name)
            disk.write()

    def check(self):
        """After quieten(): every disk holds what it must, here and with the next daemon."""
        for _ in range(2):
            for disk in self.disks:
                disk.write()
                lives.wait_for_writes(disk.log)
                disk.hold()
                copy = os.path.join(self.folder, disk.name + ".copy")
                daemon.ok("nbdcopy", self.server.uri(disk.name), copy)
                disk.check(copy)
                os.unlink(copy)
            self.restart("stop")
        stores = [view["store"] for view in self.views().values()]
        assert len(stores) == len(self.disks) == len(set(stores)), stores
