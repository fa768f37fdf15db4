# SPDX-License-Identifier: Apache-2.0
"""Moving a disk while a guest works on it: ours beside QEMU's storage daemon, in turns.

Every move is a fresh server, a fully allocated source in the page cache and an empty target. The guest is
nbdload: a second undisturbed, then the move, then a moment more; each of its requests is recorded. A move
that has not ended after the row's patience is stopped and counts as never ending.

The longest stall at the switchover is the longest request that ended within SWITCH_SECONDS of the move's end,
for QEMU from `block-job-complete` on if that is earlier. Times are of CLOCK_MONOTONIC, which both clocks are.
"""
import array
import collections
import contextlib
import http.client
import json
import os
import signal
import socket
import statistics
import subprocess
import time

import moving
import peers
import servers
import serving

BEFORE_SECONDS = 1.0
AFTER_SECONDS = 0.3
SWITCH_SECONDS = 0.3
OUR_DOWNTIME_MS = 10
PEER = "qemu-storage-daemon"
SHARE_OF_STORE = 0.3
STALL_MUST_MS = 10.0
POLL_SECONDS = 0.02
GOALS = ("converges", "stall", "guest", "time")

# arguments: of nbdload; share: of the store's rate, None as fast as it goes; target_share: the target's rate
# as a share of what the writer wants, None unlimited; fraction: of the disk's usual size; patience in seconds.
Row = collections.namedtuple("Row", "name arguments share target_share fraction patience downtime_ms",
                             defaults=(None, None, 1, 15, OUR_DOWNTIME_MS))
_MIX = ("--op", "mix", "--mix", "30", "--block", "4k", "--depth", "16")
_SEQUENTIAL = ("--op", "seqwrite", "--block", "64k", "--depth", "4")
_HOT = ("--op", "write", "--hot", "90", "--block", "4k", "--depth", "16")
_WRITER_RATE = 2000
_WRITER = ("--op", "write", "--block", "64k", "--depth", "2", "--rate", str(_WRITER_RATE))
WRITER_BYTES_PER_SECOND = _WRITER_RATE * 65536
ROWS = (
    Row("idle disk", ("--op", "read", "--block", "4k", "--depth", "1", "--rate", "500")),
    Row("70/30 random 4 KiB, 30 % of the store's rate", _MIX, SHARE_OF_STORE),
    Row("70/30 random 4 KiB, 100 %", _MIX),
    Row("sequential writer, 64 KiB", _SEQUENTIAL),
    Row("hot spot: 90 % of 4 KiB writes on 5 % of the chunks", _HOT, SHARE_OF_STORE),
    # Two writes at a time: what is under way at the target when the fence falls takes it 4 ms.
    Row("target 4 x slower than the writer", _WRITER, None, 0.25, 0.125, 30),
)
# (who, mode): ours is held against the peer's mode behind it, `auto` against the one that converges.
MODES = (("blockmig dbt", "background"), ("blockmig mirror", "write-blocking"),
         ("blockmig auto", "write-blocking"))
MOVERS = tuple(who for who, _ in MODES) + (PEER + " background", PEER + " write-blocking")


class Guest:
    """nbdload against one server, from now until end()."""

    def __init__(self, nbdload, address, arguments, record):
        self._record = record
        self._process = subprocess.Popen(  # pylint: disable=consider-using-with
            [nbdload, "--connect", address, "--export", servers.EXPORT, "--warmup", "0", "--seconds", "600",
             "--record", record, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def end(self):
        """[(end, took)] of every request, in seconds."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        out, error = self._process.communicate(timeout=60)
        if self._process.returncode != 0:
            raise RuntimeError(f"nbdload: {error or out}")
        numbers = array.array("I")
        with open(self._record, "rb") as f:
            numbers.frombytes(f.read())
        os.unlink(self._record)
        begin = json.loads(out)["record_begin_ns"] / 1e9
        return [(begin + end / 1e6, took / 1e6) for end, took in zip(numbers[::2], numbers[1::2])]

    def kill(self):
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()


class SlowTarget:
    """An NBD server in memory that takes so many bytes per second and no more, for both of us."""

    def __init__(self, folder, size_bytes, bytes_per_second):
        self.path = os.path.join(folder, "slow.sock")
        self._server = servers.Server(
            "nbdkit", [servers.program("nbdkit"), "-f", "-U", self.path, "--filter=rate", "memory",
                       str(size_bytes), f"rate={int(bytes_per_second * 8)}", "burstiness=0.2"],
            "unix:" + self.path, os.path.join(folder, "slow.log"))

    def stop(self):
        self._server.stop()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)


class OurDisk:
    """A disk of blockmig, and one move of it."""

    def __init__(self, blockmig, folder, source, mode):
        self._state = os.path.join(folder, "state")
        self._blockmig = blockmig
        self._mode = mode
        self._source = source
        self.address = "unix:" + os.path.join(folder, "ours.sock")
        command = peers.blockmig_command(servers.program(blockmig), source, self.address, self._state,
                                         ["--cache", "map"])
        self._server = servers.Server("blockmig", command, self.address, os.path.join(folder, "ours.log"))

    def move(self, target, slow, row):
        """{"begin", "end", "switch", "bytes", "converged", "job"}; times in seconds."""
        store = f"nbd+unix:///?socket={slow.path}" if slow else target
        begin = time.monotonic()
        job = self.start(store, max_downtime_ms=row.downtime_ms)
        daemon_began = time.monotonic() - job["elapsed_seconds"]
        while job["state"] == "running" and time.monotonic() - begin < row.patience:
            time.sleep(POLL_SECONDS)
            job = self.job(job["id"])
        # As the daemon saw it: it has no event for the end as QEMU does, and whoever asks more often, to hear
        # of it at once, takes a good part of a processor from the move.
        end = daemon_began + job["elapsed_seconds"]
        if job["state"] not in ("running", "done"):
            raise RuntimeError(f"blockmig --mode {self._mode}: {job['state']}: {job.get('error')}")
        return {"begin": begin, "end": end, "switch": end - SWITCH_SECONDS,
                "bytes": job["bytes_copied"] + job["bytes_mirrored"], "converged": job["state"] == "done",
                "job": job}

    @property
    def pid(self):
        return self._server.pid

    def start(self, store, **options):
        """The job's JSON, once it runs. Asked for through the control socket, as QEMU through its monitor:
        the start of a command line's process is no part of a move."""
        return self._ask("/v1/jobs", {"disk": servers.EXPORT, "target": store, "mode": self._mode, **options})

    def job(self, job_id):
        return self._ask("/v1/jobs/" + job_id)

    def _ask(self, path, body=None):
        connection = http.client.HTTPConnection("localhost")
        connection.sock = socket.socket(socket.AF_UNIX)
        with contextlib.closing(connection.sock):
            connection.sock.settimeout(10)
            connection.sock.connect(os.path.join(self._state, "control.sock"))
            connection.request("GET" if body is None else "POST", path,
                               None if body is None else json.dumps(body))
            response = connection.getresponse()
            answer = json.loads(response.read())
        if response.status != 200:
            raise RuntimeError(f"blockmig {path}: {answer}")
        return answer

    def stop(self):
        """The next move is a new disk's: the stamp that says where this one went to goes too."""
        self._server.stop()
        subprocess.run(["rm", "-rf", self._state], check=True)
        moving.forget_stamps(self._source)


class QemuDisk:
    """A disk of QEMU's storage daemon, and one blockdev-mirror of it; copy_mode as QEMU calls it."""

    def __init__(self, folder, source, copy_mode):
        self._copy_mode = copy_mode
        self._monitor = os.path.join(folder, "qmp.sock")
        self.address = "unix:" + os.path.join(folder, "qsd.sock")
        command = [servers.program(PEER),
                   "--blockdev", "driver=raw,node-name=src,discard=unmap,file.driver=file,"
                   f"file.filename={source}",
                   "--chardev", f"socket,id=m,path={self._monitor},server=on,wait=off",
                   "--monitor", "chardev=m",
                   "--nbd-server", f"addr.type=unix,addr.path={self.address[5:]}",
                   "--export", f"type=nbd,id=e,node-name=src,name={servers.EXPORT},writable=on"]
        self._server = servers.Server(PEER, command, self.address, os.path.join(folder, "qsd.log"))

    def move(self, target, slow, row):
        """As OurDisk.move()."""
        qmp = moving.Qmp(self._monitor)
        with contextlib.closing(qmp):
            store = {"driver": "nbd", "server": {"type": "unix", "path": slow.path}} if slow else {
                "driver": "raw", "discard": "unmap", "file": {"driver": "file", "filename": target}}
            begin = time.monotonic()
            qmp.execute("blockdev-add", **store, **{"node-name": "dst"})
            qmp.execute("blockdev-mirror", **{"job-id": "j", "device": "src", "target": "dst", "sync": "full",
                                              "copy-mode": self._copy_mode})
            if qmp.wait_event("BLOCK_JOB_READY", begin + row.patience) is None:
                return self._never(qmp, begin)
            # The job converges again and again until it is told to end; it is at once.
            switch = time.monotonic()
            qmp.execute("block-job-complete", device="j")
            data = qmp.wait_event("BLOCK_JOB_COMPLETED", begin + row.patience)
            if data is None:
                return self._never(qmp, begin)
            end = time.monotonic()
            if "error" in data:
                raise RuntimeError(data["error"])
            return {"begin": begin, "end": end, "switch": min(switch, end - SWITCH_SECONDS),
                    "bytes": data["offset"], "converged": True, "job": data}

    @staticmethod
    def _never(qmp, begin):
        end = time.monotonic()
        job = qmp.execute("query-block-jobs")[0]
        return {"begin": begin, "end": end, "switch": end, "bytes": job["offset"], "converged": False,
                "job": job}

    def stop(self):
        self._server.stop()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._monitor)


def quantile(values, fraction):
    """Of sorted values; 0 of none."""
    return values[min(int(len(values) * fraction), len(values) - 1)] if values else 0


def figures(requests, move, size_bytes):
    """What the guest saw: `requests` as Guest.end() returns them, `move` as a disk's move()."""
    begin, end = move["begin"], move["end"]
    before = sorted(took for at, took in requests if at < begin)
    during = sorted(took for at, took in requests if begin <= at <= end)
    at_switch = [took for at, took in requests if move["switch"] <= at <= end + AFTER_SECONDS / 2]
    first = min((at for at, _ in requests), default=begin)
    out = {"seconds": end - begin, "converged": move["converged"],
           "copied": move["bytes"] / size_bytes,
           "iops_before": len(before) / max(begin - first, 1e-9),
           "iops": len(during) / max(end - begin, 1e-9),
           "p99_ms_before": quantile(before, 0.99) * 1e3, "p99_ms": quantile(during, 0.99) * 1e3,
           "longest_ms": (during[-1] if during else 0) * 1e3,
           "stall_ms": max(at_switch, default=0) * 1e3 if move["converged"] else None,
           "job": move["job"]}
    out["share"] = out["iops"] / max(out["iops_before"], 1e-9)
    return out


class Stage:
    """The folder with the source, and what a move needs."""

    def __init__(self, bin_folder, folder, note):
        self._bin = bin_folder
        self._folder = folder
        self.note = note

    def path(self, name):
        return os.path.join(self._folder, name)

    def disk(self, who, source):
        kind, mode = who.split()
        if kind == PEER:
            return QemuDisk(self._folder, source, mode)
        return OurDisk(os.path.join(self._bin, "blockmig"), self._folder, source, mode)

    def undisturbed_iops(self, row, source):
        """Of the peer, a second long: a rate that both can serve is a share of it."""
        with contextlib.closing(_Stopping(self.disk(PEER + " background", source))) as disk:
            out = serving.run_nbdload(
                [os.path.join(self._bin, "nbdload"), "--connect", disk.it.address, "--export", servers.EXPORT,
                 "--seconds", "1", *row.arguments], 1, row.name)
        return out["iops"]

    def move(self, who, row, arguments, size_bytes):
        """figures() of one move."""
        source, target = self.path("source.img"), self.path("target.img")
        with contextlib.ExitStack() as stack:
            slow = None
            if row.target_share:
                slow = SlowTarget(self._folder, size_bytes, WRITER_BYTES_PER_SECOND * row.target_share)
                stack.callback(slow.stop)
            else:
                with open(target, "wb") as f:
                    f.truncate(size_bytes)
                stack.callback(os.unlink, target)
            disk = self.disk(who, source)
            stack.callback(disk.stop)
            guest = Guest(os.path.join(self._bin, "nbdload"), disk.address, arguments, self.path("requests"))
            stack.callback(guest.kill)
            time.sleep(BEFORE_SECONDS)
            move = disk.move(target, slow, row)
            time.sleep(AFTER_SECONDS)
            return figures(guest.end(), move, size_bytes)


class _Stopping:
    """So that closing() stops it."""

    def __init__(self, it):
        self.it = it

    def close(self):
        self.it.stop()


def measure_row(stage, row, size_bytes, rounds):
    """{who: [figures]}; who fails is noted and left out."""
    size_bytes = int(size_bytes * row.fraction) // 65536 * 65536
    source = stage.path("source.img")
    serving.make_image(source, size_bytes, 1 << 20)
    arguments = list(row.arguments)
    if row.share:
        arguments += ["--rate", str(int(stage.undisturbed_iops(row, source) * row.share))]
    runs = {who: [] for who in MOVERS}
    failures = {}
    for i in range(rounds):
        for who in MOVERS if i % 2 == 0 else MOVERS[::-1]:
            if who in failures:
                continue
            try:
                runs[who].append(stage.move(who, row, arguments, size_bytes))
            except (*serving.FAILURES, IndexError, KeyError) as e:
                stage.note(f"{who}: {e}")
                failures[who] = str(e)
                continue
            last = runs[who][-1]
            stage.note(f"  {who}: {last['seconds']:.2f} s{'' if last['converged'] else ' (never)'}, "
                       f"{last['copied']:.2f} x copied, {last['iops']:,.0f}/s = {last['share']:.2f}, p99 "
                       f"{last['p99_ms']:.2f} ms of {last['p99_ms_before']:.2f}, stall {last['stall_ms']}")
    return {"name": row.name, "bytes": size_bytes, "runs": runs, "failures": failures,
            "arguments": " ".join(arguments), "downtime_ms": row.downtime_ms}


def compare(bin_folder, folder, size_bytes, rounds, names, note):
    """[measure_row()] of the rows whose name contains one of `names`; all without any."""
    stage = Stage(bin_folder, folder, note)
    rows = []
    for row in ROWS:
        if names and not any(n in row.name for n in names):
            continue
        note(row.name)
        rows.append(measure_row(stage, row, size_bytes, rounds))
    return rows


def pair_ratio(ours, peer, key):
    """The median of the rounds' ratios, ours to the peer's; None where a round has no such figure."""
    ratios = [a[key] / b[key] for a, b in zip(ours, peer) if a[key] is not None and b[key]]
    return statistics.median(ratios) if ratios else None


def median(runs, key):
    values = [r[key] for r in runs if r[key] is not None]
    return statistics.median(values) if values else None


def judge(row, who, rival):
    """Ours against the peer's mode: what is asked for, and whether it was reached. A peer that never ended
    is beaten in time and stall by any move that did."""
    ours, peer = row["runs"][who], row["runs"][f"{PEER} {rival}"]
    if not ours or not peer:
        return {"who": who, "rival": rival, "verdicts": {}}
    ended = all(r["converged"] for r in ours)
    peer_ended = all(r["converged"] for r in peer)
    stall = median(ours, "stall_ms")
    peer_stall = median(peer, "stall_ms")
    below_peer = not peer_ended or (stall is not None and stall <= peer_stall)
    rate = pair_ratio(ours, peer, "iops")
    seconds = pair_ratio(ours, peer, "seconds")
    if not ended and not peer_ended:  # nothing to compare but the guest
        seconds = None
    verdicts = {
        # dbt may say that it does not, where the guest is faster than the target.
        "converges": ended or (who.endswith("dbt") and not peer_ended),
        "stall": not ended or (stall <= STALL_MUST_MS and below_peer),
        # At a rate that both can serve, equal is what there is: one in a hundred is noise.
        "guest": rate is not None and rate >= 0.99,
        "time": not peer_ended or (ended and seconds <= 1.0),
    }
    return {"who": who, "rival": rival, "rate": rate, "seconds": seconds, "stall_ms": stall,
            "peer_stall_ms": peer_stall, "peer_converged": peer_ended, "verdicts": verdicts}
