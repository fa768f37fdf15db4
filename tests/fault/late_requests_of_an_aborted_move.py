# SPDX-License-Identifier: Apache-2.0
"""What an NBD server was sent for a move that ended it does later (I9, M16): nobody else's disk may be there by then,
and a move that a restart goes on with reads back what it has sent."""
import os

import moves
from moves import MIB, daemon
from state_folder import StateFolder

SIZE = 4 * MIB


class SlowServer:
    """Its writes wait until they are let go; those that come when it is `quick` do not."""

    def __init__(self, folder):
        self.folder = folder
        self.image = os.path.join(folder, "target.img")
        with open(self.image, "wb") as f:
            f.truncate(SIZE)
        self._held, self._landed = self._path("held"), self._path("landed")
        write = (f"T=$(mktemp {folder}/w.XXXXXX); cat > $T; L=; "
                 f"if [ ! -e {self._path('quick')} ]; then L=y; echo x >> {self._held}; "
                 f"while [ -d {folder} ] && [ ! -e {self._path('go')} ]; do sleep 0.05; done; fi; "
                 f"[ -d {folder} ] || exit 1; "
                 f"dd if=$T of={self.image} seek=$4 oflag=seek_bytes conv=notrunc status=none; rm $T; "
                 f"[ -z $L ] || echo x >> {self._landed}")
        read = f"dd if={self.image} iflag=skip_bytes,count_bytes bs=1M skip=$4 count=$3 status=none"
        self.process = daemon.nbdkit(
            folder, "eval", f"get_size=echo {SIZE}", f"pread={read}", f"pwrite={write}", "flush=exit 0",
            "can_write=exit 0", "can_flush=exit 0", "can_multi_conn=exit 0", "thread_model=echo parallel",
            name="target")

    def _path(self, name):
        return os.path.join(self.folder, name)

    def wait_taken(self):
        daemon.until(lambda: moves.flushes(self._held) > 0, "the server to take a write")

    def become(self, what):
        if what == "slow":
            os.unlink(self._path("quick"))
            return
        with open(self._path(what), "wb"):
            pass

    def wait_landed(self):
        daemon.until(lambda: moves.flushes(self._landed) == moves.flushes(self._held), "the late writes")


def put(folder, uri, value):
    """Has the guest write all of the disk; a file that holds the same."""
    content = os.path.join(folder, f"{value}.content")
    with open(content, "wb") as f:
        f.write(bytes([value]) * SIZE)
    daemon.ok("nbdcopy", "--flush", content, uri)
    return content


def source_in(folder):
    path = os.path.join(folder, "source.img")
    with open(path, "wb") as f:
        f.write(b"\x11" * SIZE)
    return path


def aborted(folder):
    slow = SlowServer(folder)
    with slow.process as target, daemon.Daemon(folder, source_in(folder)) as disk:
        job = disk.start_migration(target.uri, "dbt")
        slow.wait_taken()
        assert disk.cli("abort", job).returncode == 0
        disk.wait_job(job, "aborted")
        slow.become("quick")
        content = put(folder, disk.uri, 0x22)

        refused = disk.cli("migrate", daemon.EXPORT, "--to", target.uri, "--mode", "dbt")
        assert refused.returncode != 0 and job in refused.stderr and "answered" in refused.stderr, refused
        served = disk.cli("serve", "other", "--source", target.uri)
        assert served.returncode != 0 and job in served.stderr, served

        slow.become("go")
        slow.wait_landed()
        disk.migrate(target.uri, "dbt")
        assert daemon.same(content, slow.image), "late requests have landed on the disk"


def ends_beside_it(folder):
    """A server that never answers does not hold up the end of the daemon."""
    slow = SlowServer(folder)
    with slow.process as target, daemon.Daemon(folder, source_in(folder)) as disk:
        job = disk.start_migration(target.uri, "dbt")
        slow.wait_taken()
        assert disk.cli("abort", job).returncode == 0
        assert disk.cli("stop").returncode == 0
        slow.become("go")  # the server is to end, too


def resumed(folder):
    """The late requests land on what was copied again, before the fence."""
    slow = SlowServer(folder)
    server = StateFolder(os.path.join(folder, "state"), os.path.join(folder, "blockmigd.log"))
    with slow.process as target:
        try:
            server.start()
            assert server.cli("serve", "vm1", "--source", source_in(folder)).returncode == 0
            begun = server.cli("migrate", "vm1", "--to", target.uri, "--mode", "dbt", "--detach",
                               "--bwlimit", "1MiB", "--verify", "none")
            assert begun.returncode == 0, begun
            slow.wait_taken()
            slow.become("quick")
            server.kill()
            server.start()
            content = put(folder, server.uri(), 0x22)

            def job():
                return daemon.last_json(server.cli("status", "job-1", "-o", "json").stdout)
            daemon.until(lambda: job()["bytes_copied"] >= 2 * MIB, "the first half to be copied again")
            assert job()["state"] == "running", job()
            slow.become("go")
            slow.wait_landed()
            ended = daemon.until(lambda: job() if job()["state"] not in ("running", "paused") else None,
                                 "the move to end", seconds=60)
            seen = os.path.join(folder, "seen.img")
            daemon.ok("nbdcopy", server.uri(), seen)
            assert daemon.same(content, seen), "the disk has what was written before"
            assert ended["state"] == "failed" and "verification" in ended["error"]["message"], ended
        finally:
            server.kill()


def mirrored_back(folder):
    """A write to the store that a disk has left, sent while it still fetched from there."""
    slow = SlowServer(folder)
    slow.become("quick")
    with slow.process as left, daemon.Daemon(folder, left.uri) as disk:
        put(folder, disk.uri, 0x11)
        new = os.path.join(folder, "new.img")
        job = disk.start_migration(new, "postcopy", "--bwlimit", "1MiB/s")
        disk.wait_job(job, "running")
        daemon.until(lambda: disk.job(job)["phase"] == "hydrating", "the switchover")
        slow.become("slow")
        daemon.ok("qemu-io", "-f", "raw", "-c", "write -P 0x22 0 4096", disk.uri)
        slow.become("quick")
        assert disk.cli("set", job, "bwlimit=none").returncode == 0
        disk.wait_job(job, "done")
        other = os.path.join(folder, "other.img")
        with open(other, "wb") as f:
            f.write(b"\x33" * SIZE)
        assert disk.cli("serve", "other", "--source", other).returncode == 0
        refused = disk.cli("migrate", "other", "--to", left.uri, "--mode", "dbt")
        assert refused.returncode != 0 and job in refused.stderr and "answered" in refused.stderr, refused

        slow.become("go")
        slow.wait_landed()
        assert disk.cli("migrate", "other", "--to", left.uri, "--mode", "dbt").returncode == 0
        assert daemon.same(other, slow.image), "a late request of another disk has landed"


def main():
    daemon.need("nbdkit", "nbdcopy", "qemu-io")
    for scenario in (aborted, ends_beside_it, resumed, mirrored_back):
        with daemon.scratch() as folder:
            scenario(folder)


main()
