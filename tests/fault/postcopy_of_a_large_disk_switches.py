# SPDX-License-Identifier: Apache-2.0
"""A large disk full of data: what `postcopy` leaves behind is looked at and saved before the fence, so it switches."""
import os

from moves import daemon

SIZE = 4 << 40
# The fence of a disk whose map is made anew behind the closed gate takes several times this, at every try.
DOWNTIME = "700ms"


def main():
    daemon.need("nbdkit")
    with daemon.scratch() as folder, \
            daemon.nbdkit(folder, "--filter=noextents", "null", f"size={SIZE}") as store:
        target = os.path.join(folder, "target.img")
        with open(target, "wb") as f:
            f.truncate(SIZE)
        with daemon.Daemon(folder, store.uri) as disk:
            # What follows the switchover is not awaited.
            job_id = disk.start_migration(target, "postcopy", "--verify", "none", "--bwlimit", "64KiB/s",
                                          "--max-downtime", DOWNTIME)

            def switched():
                job = disk.job(job_id)
                assert job["switchovers_postponed"] < 3, job
                return job if job["switched"] else None
            job = daemon.until(switched, "the switchover", seconds=60, pause=0.05)
            assert job["epoch"] == 2, job
            print(f"stall {job['stall_ms']} ms, postponed {job['switchovers_postponed']}", flush=True)


main()
