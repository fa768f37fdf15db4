# SPDX-License-Identifier: Apache-2.0
"""blockmigd on a state folder that outlives it: killed, ended and started again, one life after the other."""
import daemon


class StateFolder:
    """The folder, the daemon that works in it now, and the command line against it. Leaving it as a context
    kills the daemon if it lives."""

    def __init__(self, state, log=None):
        """`log` is what all its daemons say; beside the folder unless something else is said."""
        self.state = state
        self.log = log or state + ".log"
        self.process = None  # a daemon.Process

    def start(self, *options):
        """Another life; returns when it answers."""
        self.process = daemon.Process([daemon.built("blockmigd"), "--state-dir", self.state, *options], self.log)
        daemon.until(lambda: self.cli("status").returncode == 0, "the daemon to answer", pause=0.05)
        return self

    def cli(self, *words, **keywords):
        """`blockmig WORDS` against it; as daemon.run()."""
        return daemon.run(daemon.built("blockmig"), "--state-dir", self.state, *words, **keywords)

    def ok(self, *words):
        """cli() that must succeed; what it prints."""
        return daemon.ok(daemon.built("blockmig"), "--state-dir", self.state, *words)

    def shown(self, *words):
        """What it prints as JSON."""
        return daemon.last_json(self.ok(*words, "-o", "json"))

    def request(self, method, path, body=None):
        """As daemon.control()."""
        return daemon.control(self.state, method, path, body)

    def serve(self, disk, source):
        """By the control socket; (status, JSON)."""
        return self.request("POST", "/v1/disks", {"disk": disk, "source": source})

    def migrate(self, disk, target, **options):
        """As serve(); does not wait for the move."""
        return self.request("POST", "/v1/jobs", {"disk": disk, "target": target, "mode": "dbt", **options})

    def uri(self, disk="vm1"):
        return f"nbd+unix:///{disk}?socket={self.state}/nbd.sock"

    def alive(self):
        return self.process is not None and self.process.alive()

    def kill(self):
        """kill -9; nothing if there was no life yet, or it is over."""
        if self.process is not None:
            self.process.kill()

    def end(self):
        """SIGTERM, if it lives."""
        if self.alive():
            self.process.stop()

    def stop(self):
        """By the command, and it must end by itself."""
        self.ok("stop")
        self.process.process.wait(timeout=60)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.kill()
        if kind is not None and self.process is not None:
            print(f"--- output of the daemons on {self.state}:\n{self.process.log()[-4000:]}")
