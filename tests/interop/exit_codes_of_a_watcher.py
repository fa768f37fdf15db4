# SPDX-License-Identifier: Apache-2.0
"""What `migrate` returns while it waits: 3 after --timeout, 130 when interrupted, 8 when the job is aborted.

After 3 and 130 the job goes on, and the message names it; after 8 the disk is on its source.
"""
import os
import signal
import subprocess
import threading

import daemon

NOT_CONVERGED, ABORTED, INTERRUPTED = 3, 8, 130
SLOW = ("--mode", "dbt", "--bwlimit", "64KiB/s")


def move(folder, name):
    return ("migrate", daemon.EXPORT, "--to", os.path.join(folder, name), *SLOW)


def job_of(server):
    """The id of the job that runs."""
    def running():
        jobs = [j for j in server.get("/v1/jobs")["jobs"] if j["state"] == "running"]
        return jobs[0]["id"] if jobs else None
    return daemon.until(running, "the job")


def goes_on(server, job):
    assert server.job(job)["state"] == "running", server.job(job)


def is_aborted(server, job, source):
    """Ends the job, whose watcher has left or looks on."""
    aborted = server.cli("abort", job)
    assert aborted.returncode == 0, aborted
    server.wait_job(job, "aborted")
    assert server.served_store().endswith(source), server.served_store()


def timed_out(server, folder, source):
    said = server.cli(*move(folder, "a.img"), "--timeout", "300ms")
    job = job_of(server)
    assert said.returncode == NOT_CONVERGED, said
    assert f"{job} has not ended after 300 ms; it goes on" in said.stderr, said.stderr
    goes_on(server, job)
    is_aborted(server, job, source)


def interrupted(server, folder, source):
    command = [daemon.built("blockmig"), *move(folder, "b.img"), "--state-dir", server.state_dir]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as watcher:
        job = job_of(server)
        watcher.send_signal(signal.SIGINT)
        _, text = watcher.communicate(timeout=daemon.COMMAND_SECONDS)
    assert watcher.returncode == INTERRUPTED, (watcher.returncode, text)
    assert f"interrupted; {job} goes on" in text, text
    goes_on(server, job)
    is_aborted(server, job, source)


def aborted_by_another(server, folder, source):
    results = []
    watcher = threading.Thread(target=lambda: results.append(server.cli(*move(folder, "c.img"))))
    watcher.start()
    job = job_of(server)
    is_aborted(server, job, source)
    watcher.join()
    said = results[0]
    assert said.returncode == ABORTED, said
    assert f"{job} aborted" in said.stderr and "is still on" in said.stderr, said.stderr


with daemon.scratch() as here:
    image = daemon.make_image(os.path.join(here, "disk.img"), 8 << 20, holes=False)
    with daemon.Daemon(here, image) as host:
        for watch in timed_out, interrupted, aborted_by_another:
            watch(host, here, image)
