# SPDX-License-Identifier: Apache-2.0
"""Bad input: a message that names the thing, the documented exit code, and nothing changed."""
import hashlib
import os
import subprocess

import moves
from moves import daemon

USAGE, FAILED, NOT_FOUND, BUSY, UNREACHABLE, PRECONDITION = 2, 1, 4, 5, 7, 9


def digest(path):
    with open(path, "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()


class Table:
    """Tries commands on a served disk and checks that each left everything as it was."""

    def __init__(self, folder, disk, image):
        self.folder = folder
        self.disk = disk
        self.image = image
        self.before = digest(image)
        self.failures = []

    def refused(self, what, code, names, *arguments):
        """The command must end with `code`, its message must contain `names`, nothing may change."""
        files = self.listing()
        result = self.disk.cli(*arguments, timeout=60)
        text = result.stderr + result.stdout
        problems = []
        if result.returncode not in (code if isinstance(code, tuple) else (code,)):
            problems.append(f"exit {result.returncode}, expected {code}")
        if names not in text:
            problems.append(f"does not name '{names}'")
        if not result.stderr.strip() or len(result.stderr.strip().splitlines()) > 3:
            problems.append("the message is not one short text on standard error")
        if self.listing() != files:
            problems.append(f"files changed: {sorted(self.listing() ^ files)}")
        if digest(self.image) != self.before:
            problems.append("the source changed")
        if not self.disk.served_store().endswith(self.image):
            problems.append(f"the disk is now on {self.disk.served_store()}")
        if problems:
            self.failures.append(f"{what}: {'; '.join(problems)}\n  said: {text.strip()}")

    def listing(self):
        out = set()
        for name in os.listdir(self.folder):
            path = os.path.join(self.folder, name)
            if os.path.isfile(path) and not name.endswith((".log", ".sock")):
                out.add((name, os.path.getsize(path), digest(path)))
        return out

    def migrate(self, what, code, names, target, *extra):
        self.refused(what, code, names, "migrate", daemon.EXPORT, "--to", target, "--mode", "mirror",
                     *extra)


def targets(table, folder, size):
    """Targets that cannot be."""
    small = os.path.join(folder, "small.img")
    with open(small, "wb") as f:
        f.truncate(size - 512)
    table.migrate("target smaller than the disk", PRECONDITION, "small.img", small)
    table.migrate("folder that does not exist", NOT_FOUND, "nowhere", folder + "/nowhere/x.img")
    table.migrate("same file as the source", PRECONDITION, table.image, table.image)
    link = os.path.join(folder, "link.img")
    os.symlink(table.image, link)
    table.migrate("same file by a symbolic link", PRECONDITION, "link.img", link)
    hard = os.path.join(folder, "hard.img")
    os.link(table.image, hard)
    table.migrate("same file by a hard link", PRECONDITION, "hard.img", hard)
    os.unlink(hard)
    table.migrate("a folder's device", PRECONDITION, "/dev/null", "/dev/null")
    table.migrate("unreachable socket", (NOT_FOUND, FAILED), "gone.sock",
                  f"nbd+unix:///x?socket={folder}/gone.sock")
    table.migrate("scheme that we do not know", USAGE, "gopher", "gopher://x/y")
    table.migrate("format that we do not write", USAGE, "qcow2",
                  f"file://{folder}/x.qcow2?format=qcow2")
    table.migrate("target that keeps nothing", PRECONDITION, "name a file", "null:1MiB")
    table.refused("retries of a copy without a daemon", USAGE, "--on-target-error retry", "migrate", table.image,
                  "--to", folder + "/x.img", "--retry-for", "5s")
    table.refused("unknown mode", USAGE, "sideways", "migrate", daemon.EXPORT, "--to",
                  folder + "/x.img", "--mode", "sideways")


def peers(table, folder, size):
    """Targets behind other servers."""
    image = os.path.join(folder, "peer.img")
    with open(image, "wb") as f:
        f.truncate(size - 512)
    with daemon.qemu_nbd(folder, image) as peer:
        table.migrate("unknown export", NOT_FOUND, "no-such-export",
                      peer.uri.replace(daemon.EXPORT, "no-such-export"))
        table.migrate("export smaller than the disk", PRECONDITION, peer.socket_path, peer.uri)
    with daemon.nbdkit(folder, "-r", "null", f"size={size}", name="readonly") as peer:
        table.migrate("read-only export", PRECONDITION, peer.socket_path, peer.uri)
    dead = os.path.join(folder, "peer.sock")
    table.migrate("server that has gone", (NOT_FOUND, FAILED), dead, f"nbd+unix:///x?socket={dead}")


def in_use(table, folder, size):
    """Targets and disks that somebody else has."""
    taken = daemon.make_image(os.path.join(folder, "taken.img"), size, seed=3)
    with daemon.Daemon(folder, taken, name="other"):
        table.migrate("target in use by another daemon", BUSY, "taken.img", taken)
    with daemon.qemu_nbd(folder, taken, name="q"):
        table.migrate("target in use by qemu-nbd", BUSY, "taken.img", taken)
    other = table.disk.start_migration(os.path.join(folder, "second.img"), "dbt",
                                       "--bwlimit", "1MiB/s")
    result = table.disk.cli("migrate", daemon.EXPORT, "--to", folder + "/third.img", "--mode", "dbt")
    assert result.returncode == BUSY and daemon.EXPORT in result.stderr, result
    assert not os.path.exists(folder + "/third.img")
    table.disk.cli("abort", other)
    table.disk.wait_job(other, "aborted")
    daemon.until(lambda: not os.path.exists(folder + "/second.img"), "the aborted move's target file to go")


def names(table, folder):
    """Things that do not exist."""
    table.refused("unknown disk", NOT_FOUND, "no-such-disk", "migrate", "no-such-disk",
                  "--to", folder + "/x.img", "--mode", "dbt")
    table.refused("unknown job", NOT_FOUND, "no-such-job", "abort", "no-such-job")
    table.refused("status of an unknown job", NOT_FOUND, "no-such-job", "status", "no-such-job")
    table.refused("no target", USAGE, "--to", "migrate", daemon.EXPORT)
    table.refused("unknown command", USAGE, "frobnicate", "frobnicate")
    missing = os.path.join(folder, "missing.img")
    result = daemon.run(daemon.built("blockmig"), "serve", "x", "--source", missing,
                        "--state-dir", folder + "/fresh.state", timeout=60)
    assert result.returncode == NOT_FOUND and "missing.img" in result.stderr, result
    assert not os.path.exists(missing)
    result = daemon.run(daemon.built("blockmig"), "status", "--state-dir", folder + "/none.state")
    assert result.returncode == UNREACHABLE and "none.state" in result.stderr, result


def no_space(table, folder, size):
    """A filesystem that is too small, where we may mount one."""
    mount = os.path.join(folder, "small.fs")
    os.mkdir(mount)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size // 4}", "none", mount]
    if subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode != 0:
        print("not allowed to mount: `no space at the target` was left out")
        return
    try:
        table.migrate("no space at the target", PRECONDITION, "small.fs", mount + "/x.img")
        left = os.listdir(mount)
        if left:
            table.failures.append(f"no space: left {left} behind")
    finally:
        subprocess.run(["umount", mount], check=True)


def main():
    daemon.need("qemu-nbd", "nbdkit")
    size = 8 * moves.MIB + moves.ODD
    with daemon.scratch() as folder:
        image = daemon.make_image(os.path.join(folder, "source.img"), size, holes=False)
        with daemon.Daemon(folder, image) as disk:
            table = Table(folder, disk, image)
            targets(table, folder, size)
            peers(table, folder, size)
            names(table, folder)
            no_space(table, folder, size)
            in_use(table, folder, size)
            job = disk.migrate(os.path.join(folder, "good.img"), "mirror")
            assert job["state"] == "done" and daemon.same(image, folder + "/good.img"), job
    assert not table.failures, "\n".join(table.failures)


main()
