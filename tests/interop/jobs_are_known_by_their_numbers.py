# SPDX-License-Identifier: Apache-2.0
"""After a restart a disk's name stands for its latest job, also where there are more than nine, and jobs are listed in
the order in which they began."""
import os

import daemon
from state_folder import StateFolder

JOBS = 11

with daemon.scratch() as folder:
    image = daemon.make_image(os.path.join(folder, "vm1.img"), 1 << 20)
    with StateFolder(os.path.join(folder, "state")) as host:
        host.start()
        host.ok("serve", "vm1", "--source", image)
        for _ in range(JOBS):
            host.ok("backup", "vm1", os.path.join(folder, "copy.img"))

        def known():
            return (host.shown("status", "vm1")["id"], [job["id"] for job in host.shown("ls", "jobs")["jobs"]])

        before = known()
        assert before == (f"job-{JOBS}", [f"job-{i + 1}" for i in range(JOBS)]), before
        host.kill()
        host.start()
        assert known() == before, known()
