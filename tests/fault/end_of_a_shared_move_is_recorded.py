# SPDX-License-Identifier: Apache-2.0
"""kill -9 just after the decision of a move that leaves the rest in its folder: it is done, and no later start takes
what is noted of a later move for its own."""
import os
import subprocess

import moves
from moves import daemon
from state_folder import StateFolder

SIZE = 24 * moves.MIB
AT = 4 * moves.MIB


def start_to_die(server, path, folder):
    """A life that is killed where it removes that file."""
    command = ["strace", "-f", "-qq", "-P", path, "-e", "trace=unlink,unlinkat", "-e",
               "inject=unlink,unlinkat:signal=KILL", "-o", os.path.join(folder, "strace"),
               daemon.built("blockmigd"), "--state-dir", server.state]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    daemon.until(lambda: server.cli("status").returncode == 0, "the daemon to answer", pause=0.05)
    return process


def job(server, name="vm1"):
    return server.shown("status", name)


def main(folder):
    source = daemon.make_image(os.path.join(folder, "source.img"), SIZE, holes=False)
    local, target = (os.path.join(folder, name) for name in ("local.img", "target.img"))
    with open(source, "rb") as image:
        image.seek(AT)
        right = image.read(4096)
    with StateFolder(os.path.join(folder, "state")) as server:
        process = start_to_die(server, local + ".blockmig-backup", folder)
        try:
            server.ok("serve", "vm1", "--source", source)
            server.cli("migrate", "vm1", "--to", local, "--mode", "shared", "--hydrate", "never")
            process.wait(30)
        finally:
            process.kill()
            process.wait()
        server.start()
        assert job(server, "job-1")["state"] == "done", job(server, "job-1")
        server.ok("migrate", "vm1", "--to", target, "--mode", "dbt", "--detach", "--bwlimit", "4MiB/s",
                  "--checkpoint-interval", "200ms")
        daemon.until(lambda: job(server)["bytes_copied"] > 2 * AT, "a part of the copy", seconds=60)
        before = job(server)["checkpoints"]
        daemon.until(lambda: job(server)["checkpoints"] >= before + 2, "its record", seconds=60)
        server.stop()
        with open(target, "r+b") as image:
            image.seek(AT)
            image.write(b"\xee" * 4096)
        server.start()
        server.ok("set", "vm1", "bwlimit=none")
        daemon.until(lambda: job(server)["state"] == "done", "the move", seconds=60)
        with open(target, "rb") as image:
            image.seek(AT)
            assert image.read(4096) == right, "what somebody has written to the target meanwhile is still there"
        assert job(server, "job-1")["state"] == "done", job(server, "job-1")
        server.stop()


daemon.need("strace")
with daemon.scratch() as here:
    main(here)
