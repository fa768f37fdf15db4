#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs the cases against every other NBD server that is installed, for the table in README.md. By hand.

    peers.py [--failed] [PEER...]      --failed: also the names and reasons of what failed
"""
import collections
import contextlib
import io
import os
import shutil
import signal
import socket
import sys

import cases
import client
import run
import target
from target import daemon

client.ANSWER_SECONDS = 5
client.ABORT_IS_ANSWERED = False
LARGE = target.LARGE_SIZE


def images(folder):
    disk = daemon.make_image(os.path.join(folder, "disk0.img"), target.SIZE)
    sealed = daemon.make_image(os.path.join(folder, "sealed.img"), 1 << 20)
    large = os.path.join(folder, "large.img")
    with open(large, "wb") as f:
        f.truncate(LARGE)
    return disk, sealed, large


@contextlib.contextmanager
def qemu_nbd(folder):
    """One export for each server: the read-only and the large one are not offered."""
    disk, _, _ = images(folder)
    path = os.path.join(folder, "p.sock")
    command = ["qemu-nbd", "-t", "-e", "0", "-f", "raw", "--discard=unmap", "-x", "disk0", "-k", path, disk]
    with daemon.NbdServer(command, path, os.path.join(folder, "p.log")):
        yield target.Target(path, b"disk0")


@contextlib.contextmanager
def qemu_storage_daemon(folder):
    path = os.path.join(folder, "p.sock")
    command = ["qemu-storage-daemon"]
    for name, image in zip(("disk0", "sealed", "large"), images(folder)):
        command += ["--blockdev", f"file,node-name=f-{name},filename={image},discard=unmap",
                    "--blockdev", f"raw,node-name={name},file=f-{name},discard=unmap"]
    command += ["--nbd-server", f"addr.type=unix,addr.path={path},max-connections=0"]
    for name in ("disk0", "sealed", "large"):
        command += ["--export", f"nbd,id=e-{name},node-name={name},name={name},"
                                f"writable={'off' if name == 'sealed' else 'on'}"]
    with daemon.NbdServer(command, path, os.path.join(folder, "p.log")):
        yield target.Target(path, b"disk0", b"sealed", b"large")


@contextlib.contextmanager
def nbdkit(folder):
    """--mask-handshake is left alone; the exportname filter makes it strict about names."""
    disk, _, _ = images(folder)
    with daemon.nbdkit(folder, "--filter=exportname", "file", disk, "exportname=disk0", "exportname-strict=true",
                       "exportname-list=explicit", name="p") as server:
        yield target.Target(server.socket_path, b"disk0")


@contextlib.contextmanager
def nbd_server(folder):
    """It listens on TCP, too: port 0 is not for it, so a free one is looked for."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    path = os.path.join(folder, "p.sock")
    config = os.path.join(folder, "p.conf")
    with open(config, "w", encoding="ascii") as f:
        f.write(f"[generic]\nunixsock = {path}\nport = {port}\nlistenaddr = 127.0.0.1\nallowlist = true\n")
        for name, image in zip(("disk0", "sealed", "large"), images(folder)):
            f.write(f"[{name}]\nexportname = {image}\nflush = true\nfua = true\ntrim = true\n"
                    f"readonly = {'true' if name == 'sealed' else 'false'}\n")
    pid_file = os.path.join(folder, "p.pid")
    daemon.ok("nbd-server", "-C", config, "-p", pid_file)  # it goes to the background by itself
    try:
        daemon.until(lambda: daemon.greets(path), "nbd-server's greeting")
        yield target.Target(path, b"disk0", b"sealed", b"large")
    finally:
        with contextlib.suppress(OSError, ValueError), open(pid_file, encoding="ascii") as f:
            os.kill(int(f.read()), signal.SIGTERM)


PEERS = {"qemu-nbd": qemu_nbd, "qemu-storage-daemon": qemu_storage_daemon, "nbdkit": nbdkit, "nbd-server": nbd_server}


def row(name, serving, show):
    """Counts of outcomes by the level of the case; each peer begins anew when it has died."""
    counts = collections.Counter()
    deaths = 0
    todo = list(run.load(run.AREAS))
    while todo:
        with daemon.scratch() as folder, contextlib.redirect_stdout(io.StringIO()), serving(folder) as server:
            while todo:
                case = todo.pop(0)
                word, reason = run.outcome(case, server)
                counts[word] += 1
                counts[case.level, word] += 1
                if word == "FAILED" and show:
                    print(f"{name}: {case.name}  [{case.level}]\n    {reason[:300]}", file=sys.stderr)
                if word == "FAILED" and not daemon.greets(server.address):
                    deaths += 1
                    break
    return counts, deaths


def main():
    names = [a for a in sys.argv[1:] if not a.startswith("-")] or list(PEERS)
    print("| server | passed | failed | not offered | failed of MUST / SHOULD | died |\n|---|---|---|---|---|---|")
    for name in names:
        if not shutil.which(name):
            print(f"| {name} | not installed |")
            continue
        counts, deaths = row(name, PEERS[name], "--failed" in sys.argv)
        print(f"| {name} | {counts['ok']} | {counts['FAILED']} | {counts['n/a']} | "
              f"{counts[cases.MUST, 'FAILED']} / {counts[cases.SHOULD, 'FAILED']} | {deaths} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
