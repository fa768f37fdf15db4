# SPDX-License-Identifier: Apache-2.0
"""Moves that cost what is used, not what there is: a sparse disk of 16 TiB, and data that stays in its folder.

The second is Yadav and Krishna's comparison: after the move nothing, a quarter or everything of the disk is
asked for, with mode `shared` beside our own `dbt` and `postcopy` of the same disk. What has moved is what the
new place holds in the end.
"""
import contextlib
import json
import os
import statistics
import time

import live
import servers
import serving

SPARSE_BYTES = 16 << 40
SPARSE_MODES = ("dbt", "mirror", "postcopy", "shared")
SCENARIOS = (("nothing", 0), ("a quarter", 0.25), ("everything", 1))
SHARED_MODES = ("shared", "postcopy", "dbt")
WORKING_SHARE = 0.05
WORK_SECONDS = 1.0
WAIT_SECONDS = 120


class Move:
    """One move of a fresh disk of ours, watched."""

    def __init__(self, bin_folder, folder, source, mode, **options):
        self._bin = bin_folder
        self.target = os.path.join(folder, "target.img")
        self._mode = mode
        self._options = options
        self.disk = live.OurDisk(os.path.join(bin_folder, "blockmig"), folder, source, mode)

    def load(self, *arguments):
        """A guest's work; what nbdload says."""
        command = [os.path.join(self._bin, "nbdload"), "--connect", self.disk.address, "--export",
                   servers.EXPORT, "--warmup", "0", *arguments]
        return serving.run_nbdload(command, WAIT_SECONDS, "the guest")

    def run(self, wait_for_end=True):
        """{"first_byte", "switched", "seconds", "job"}, in seconds from the command on."""
        begin = time.monotonic()
        seen = {"first_byte": None, "switched": None}
        job = self.disk.start(self.target, **self._options)
        while time.monotonic() - begin < WAIT_SECONDS:
            now = time.monotonic() - begin
            if seen["first_byte"] is None and job["bytes_copied"] + job["hydration"]["bytes_hydrated"] > 0:
                seen["first_byte"] = now
            if seen["switched"] is None and job["switched"]:
                seen["switched"] = now
            if job["state"] != "running" or (job["switched"] and not wait_for_end):
                break
            time.sleep(0.002)
            job = self.disk.job(job["id"])
        if job["state"] not in ("done", "running") or not job["switched"]:
            raise RuntimeError(f"{self._mode}: {job['state']}: {job.get('error')}")
        return {**seen, "seconds": time.monotonic() - begin, "job": job}

    def wait(self, job):
        """Until the job has ended."""
        deadline = time.monotonic() + WAIT_SECONDS
        while job["state"] == "running" and time.monotonic() < deadline:
            time.sleep(0.01)
            job = self.disk.job(job["id"])
        return job

    def peak_bytes(self):
        """Of the daemon's memory."""
        with open(f"/proc/{self.disk.pid}/status", encoding="ascii") as f:
            return next(int(line.split()[1]) << 10 for line in f if line.startswith("VmHWM"))

    def close(self):
        self.disk.stop()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.target)


def put_sparse(path, size_bytes, data_bytes):
    """Data in eight places, holes between them."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    block = os.urandom(1 << 20)
    with open(path, "wb", buffering=0) as f:
        f.truncate(size_bytes)
        for piece in range(8):
            f.seek(size_bytes // 8 * piece)
            for _ in range(data_bytes // 8 >> 20):
                f.write(block)


def without_shared_leftovers(source):
    """The manifest that mode shared has left beside the image."""
    folder = os.path.dirname(source)
    for name in os.listdir(folder):
        if name.startswith(os.path.basename(source)) and name != os.path.basename(source):
            os.unlink(os.path.join(folder, name))


def sparse(bin_folder, folder, data_bytes, note):
    """Rows of figures, a sparse disk beside one that is all data; None where no such file can be."""
    source = os.path.join(folder, "source.img")
    try:
        put_sparse(source, SPARSE_BYTES, data_bytes)
    except OSError as e:
        note(f"no file of 16 TiB here: {e}")
        return None
    rows = []
    for size, name in ((SPARSE_BYTES, "16 TiB sparse"), (data_bytes, "all data")):
        put_sparse(source, size, data_bytes)
        for mode in SPARSE_MODES:
            options = {"hydrate": "background"} if mode == "shared" else {}
            with contextlib.closing(Move(bin_folder, folder, source, mode, **options)) as move:
                out = move.run()
                job = out["job"]
                rows.append({"disk": name, "mode": mode, "first_byte": out["first_byte"],
                             "seconds": out["seconds"], "peak_bytes": move.peak_bytes(),
                             "moved_bytes": job["bytes_copied"] + job["hydration"]["bytes_hydrated"],
                             "saved_bytes": job["size_bytes"] - job["bytes_copied"] -
                             job["hydration"]["bytes_hydrated"]})
            without_shared_leftovers(source)
            note(f"{name}, {mode}: {rows[-1]['seconds']:.2f} s, first byte after "
                 f"{rows[-1]['first_byte'] or 0:.3f} s, {rows[-1]['peak_bytes'] >> 20} MiB of memory")
    return rows


def shared_once(bin_folder, folder, source, size_bytes, mode, share):
    """One mode in one scenario."""
    options = {"hydrate": "on-demand"} if mode == "shared" else {}
    with contextlib.closing(Move(bin_folder, folder, source, mode, **options)) as move:
        working = str(int(size_bytes * WORKING_SHARE))
        move.load("--op", "mix", "--mix", "30", "--rate", "2000", "--range", working,
                  "--seconds", str(WORK_SECONDS))
        out = move.run(wait_for_end=False)
        first = move.load("--op", "read", "--depth", "1", "--count", "1", "--seed", "77", "--seconds", "60")
        asked = int(size_bytes * share) >> 20
        begin = time.monotonic()
        if asked:
            move.load("--op", "seqread", "--block", "1M", "--depth", "4", "--count", str(asked),
                      "--seconds", str(WAIT_SECONDS))
        read_seconds = time.monotonic() - begin
        move.wait(out["job"])
        moved = os.stat(move.target).st_blocks * 512
        return {"switched": out["switched"], "first_read_ms": first["p50_us"] / 1e3, "moved_bytes": moved,
                "read_seconds": read_seconds}


def shared(bin_folder, folder, size_bytes, rounds, note):
    """Rows of medians: per scenario each mode."""
    source = os.path.join(folder, "source.img")
    serving.make_image(source, size_bytes, 1 << 20)
    rows = []
    for scenario, share in SCENARIOS:
        for mode in SHARED_MODES:
            runs = []
            for _ in range(rounds):
                runs.append(shared_once(bin_folder, folder, source, size_bytes, mode, share))
                without_shared_leftovers(source)
            row = {key: statistics.median(r[key] for r in runs) for key in runs[0]}
            rows.append({"scenario": scenario, "mode": mode, **row})
            note(f"{scenario} asked for, {mode}: {json.dumps(row)}")
    return rows
