# SPDX-License-Identifier: Apache-2.0
"""A shared move that told the folder that the disk leaves, and came to no decision: aborted, ended with its daemon, or
killed with it, it leaves an image that any daemon takes for what it is."""
import json
import os

import moves
from moves import daemon

SIZE = 16 * moves.MIB


def manifest(image):
    shown = daemon.run(daemon.built("blockmig"), "manifest", "show", image, "-o", "json").stdout
    return json.loads(shown)


def slow_flusher(folder, image):
    """A target whose flushes wait once the manifest is there: those of the fence. (server, file that lets them go)"""
    target, go = os.path.join(folder, "target.img"), os.path.join(folder, "go")
    with open(target, "wb") as f:
        f.truncate(SIZE)
    wait = f"if [ -e {image}.manifest ]; then until [ -e {go} ]; do sleep 0.05; done; fi"
    server = daemon.nbdkit(
        folder, "eval", f"get_size=echo {SIZE}", "thread_model=echo parallel",
        f"pread=dd if={target} bs=1M iflag=skip_bytes,count_bytes skip=$4 count=$3 2>/dev/null",
        f"pwrite=dd of={target} bs=1M conv=notrunc oflag=seek_bytes seek=$4 2>/dev/null",
        "flush=" + wait, "can_write=exit 0", "can_flush=exit 0")
    return server, go


def published(disk, image, uri):
    """A move that has come as far as that."""
    job = disk.start_migration(uri, "shared", "--hydrate", "never", "--verify", "none", "--on-restart", "abort")
    daemon.until(lambda: os.path.exists(image + ".manifest"), "the manifest to be published")
    assert manifest(image)["owner"] == daemon.EXPORT, manifest(image)
    return job


def check_free(image):
    found = manifest(image)
    assert found["owner"] == "" and found["owner_epoch"] == 0 and not found["changing"], found


def check_served_by_another(folder, image):
    with daemon.Daemon(folder, image, name="other") as disk:
        daemon.ok("qemu-io", "-f", "raw", disk.uri, "-c", "read -P 0x33 3M 64k")
        disk.stop()


def attempt(end):
    with daemon.scratch() as folder:
        image = daemon.make_image(os.path.join(folder, "a.img"), SIZE, holes=False)
        server, go = slow_flusher(folder, image)
        disk = daemon.Daemon(folder, image)
        try:
            daemon.ok("qemu-io", "-f", "raw", disk.uri, "-c", "write -P 0x33 3M 64k", "-c", "flush")
            job = published(disk, image, server.uri)
            end(disk, job, image)
            with open(go, "wb"):
                pass
            disk.stop()
            check_free(image)
            check_served_by_another(folder, image)
        finally:
            disk.kill()
            server.kill()


def aborted(disk, job, image):
    aborting = disk.cli("abort", job)
    assert aborting.returncode == 0, aborting.stderr
    assert disk.wait_job(job)["state"] == "aborted" and disk.served_store().endswith(image)
    check_free(image)
    generation = manifest(image)["generation"]
    # The next one finds no obstacle, and is no part of the last.
    again = disk.migrate(image + ".local", "shared", "--hydrate", "never")
    assert again["state"] == "done" and manifest(image)["generation"] > generation, manifest(image)
    assert disk.cli("settle", daemon.EXPORT, "--into", image).returncode == 0
    assert disk.served_store().endswith(image), disk.served_store()


def ended_in_order(disk, job, image):
    disk.signal(15)
    daemon.until(lambda: not disk.alive(), "the daemon to end")
    check_free(image)


def killed(disk, job, image):
    os.kill(disk.pid, 9)
    daemon.until(lambda: not disk.alive(), "its end")
    assert manifest(image)["changing"], manifest(image)
    with daemon.Daemon(disk.folder, image) as again:
        daemon.until(lambda: manifest(image)["owner"] == "", "what the life before has published to be taken back")
        again.stop()


daemon.need("qemu-io", "nbdkit")
for each in (aborted, ended_in_order, killed):
    attempt(each)
