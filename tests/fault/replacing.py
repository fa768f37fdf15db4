# SPDX-License-Identifier: Apache-2.0
"""A disk in a move under a client that checks every sector, and daemons that take one another's place meanwhile."""
import os
import sys
import types

import moves
from moves import daemon
import successor  # in the interop folder, which moves has made known

sys.dont_write_bytecode = True
SIZE = 24 * moves.MIB
PIVOTS = ("postcopy", "hybrid", "shared")
RATE = "6MiB/s"


class Host:
    """Daemons on one state folder, the disk `vm`, and its client, who must not notice anything."""

    def __init__(self, folder, mode, daemon_options=()):
        self.folder = folder
        self.mode = mode
        self.servers = []
        self.source = daemon.make_image(os.path.join(folder, "source.img"), SIZE)
        self.target = os.path.join(folder, "target.img")
        self.path = os.path.join(folder, "nbd.sock")
        self.job_id = None
        self.client = None
        self._daemon_options = daemon_options

    def __enter__(self):
        try:
            self.take_over(self.start("--listen", f"unix:{self.path}", *self._daemon_options))
            self.cli("serve", daemon.EXPORT, "--source", self.source)
            place = types.SimpleNamespace(socket_path=self.path, export=daemon.EXPORT)
            self.client = daemon.Client(self.folder, place, "--connections", "3", "--rate", "400", "--largest", "65536")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind, value, trace):
        if self.client is not None:
            self.client.stop()
        for server in self.servers:
            server.stop()
        if kind is not None:
            for server in self.servers:
                print(f"--- {server.log_path}:\n{server.log()[-4000:]}")

    @property
    def server(self):
        """The daemon that serves the disk now."""
        return self.servers[-1]

    def cli(self, *words):
        return successor.control(self.folder, *words)

    def start(self, *options):
        return successor.start(self.folder, f"d{len(self.servers)}", *options)

    def take_over(self, following):
        """It must."""
        before = self.servers[-1:]
        self.servers.append(following)
        assert successor.ready(following), following.log()
        for server in before:
            assert server.process.wait(30) == 0, server.log()

    def replace(self, *options):
        self.take_over(self.start("--replace", *options))

    def refused(self, *options):
        """A daemon that does not get the place; what it says."""
        server = self.start("--replace", *options)
        try:
            assert not successor.ready(server), "it took over"
            assert server.process.wait(30) != 0
            return server.log()
        finally:
            server.stop()

    def job(self):
        return daemon.last_json(self.cli("status", self.job_id, "-o", "json"))

    def go_there(self):
        """In the modes that come back from there."""
        there = {"settle": ("--mode", "shared"), "return": ("--keep-record",)}.get(self.mode)
        if there:
            self.cli("migrate", daemon.EXPORT, "--to", self.target, *there)
            self.source, self.target = self.target, self.source

    def begin(self, *options):
        self.go_there()
        if self.mode == "settle":
            words = ["settle", daemon.EXPORT, "--into", self.target]
        elif self.mode == "backup":
            words = ["backup", daemon.EXPORT, self.target]
        else:
            words = ["migrate", daemon.EXPORT, "--to", self.target, "--mode", self.mode]
        is_recorded = self.mode in ("mirror", "dbt", "cold", "auto", "hybrid") and "abort" not in options
        if is_recorded and "--checkpoint-interval" not in options:
            words += ["--checkpoint-interval", "100ms"]
        told = self.cli(*words, "--bwlimit", RATE, "--detach", "-o", "json", *options)
        self.job_id = daemon.last_json(told)["id"]

    def is_under_way(self, count=moves.MIB):
        def moved():
            job = self.job()
            assert job["state"] in ("running", "paused"), job
            return job["phase"] == "hydrating" or job["bytes_copied"] >= count
        daemon.until(moved, "a part of the disk to be moved")

    def goes_on(self, attempt):
        """The move, as of that attempt, and the client."""
        def running():
            job = self.job()
            return job["attempt"] >= attempt or job["switched"]
        daemon.until(running, "the move to go on")
        self.client.clean_report()

    def end(self):
        """The move ends, everything is in its place, and the client has seen nothing; the job's report."""
        # Refused where it has ended by itself meanwhile, on a slow machine.
        daemon.run(daemon.built("blockmig"), "set", self.job_id, "bwlimit=none",
                   "--state-dir", os.path.join(self.folder, "s"))
        daemon.until(lambda: self.job()["state"] not in ("running", "paused"), "the end of the move", seconds=90)
        ended = self.job()
        assert ended["state"] == "done", ended
        if self.mode not in ("shared", "backup"):
            self.client.clean_report()
            self.client.hold()
            assert self.client.check_file(self.target) == 0
            self.client.resume()
        self.client.finish()  # it reads everything once more
        return ended
