# SPDX-License-Identifier: Apache-2.0
"""Socket activation: the sockets that the process was started with are served, whoever opened them,
and stay usable when it has ended. Without systemd-socket-activate, this script does what it does."""
import os
import socket
import subprocess
import sys

import daemon
import raw_nbd

LAUNCHER = """
import os, sys
fds = [int(fd) for fd in sys.argv[1].split(",")]
for place, fd in enumerate(fds):
    os.dup2(fd, 3 + place)
os.environ.update(LISTEN_PID=sys.argv[2] or str(os.getpid()), LISTEN_FDS=sys.argv[3], LISTEN_FDNAMES=sys.argv[4])
os.execv(sys.argv[5], sys.argv[5:])
"""


def command(folder, image, name):
    return [daemon.built("blockmigd"), "--state-dir", os.path.join(folder, name), "--disk",
            f"{daemon.EXPORT}={image}"]


def start(folder, image, sockets, names, name, pid="", count=None):
    """blockmigd with these sockets as descriptors 3, 4, …"""
    fds = [s.fileno() for s in sockets]
    log = open(os.path.join(folder, name + ".log"), "ab")  # pylint: disable=consider-using-with
    with log:
        return subprocess.Popen(
            [sys.executable, "-c", LAUNCHER, ",".join(map(str, fds)), pid,
             str(len(fds) if count is None else count), names, *command(folder, image, name)],
            pass_fds=fds, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def log_of(folder, name):
    with open(os.path.join(folder, name + ".log"), encoding="utf-8") as f:
        return f.read()


with daemon.scratch() as folder:
    image = daemon.make_image(os.path.join(folder, "a.img"), 1 << 20)
    # High numbers, so that the launcher's places are free.
    path = os.path.join(folder, "unix.sock")
    by_unix = socket.socket(socket.AF_UNIX)
    by_unix.bind(path)
    by_tcp = socket.socket()
    by_tcp.bind(("127.0.0.1", 0))
    for listener in (by_unix, by_tcp):
        listener.listen(8)
        high = os.dup2(listener.fileno(), 100 + listener.fileno())
        listener.close()
        listener.__init__(fileno=high)

    server = start(folder, image, [by_unix, by_tcp], "first:second", "d")
    try:
        # They can connect before it is up: the queue is there.
        assert raw_nbd.works(raw_nbd.attached(path))
        assert raw_nbd.works(raw_nbd.attached(by_tcp.getsockname()))
        log = daemon.until(lambda: "ready" in log_of(folder, "d") and log_of(folder, "d"), "ready")
        assert "activated as 'first'" in log and "activated as 'second'" in log, log
        assert not os.path.exists(os.path.join(folder, "d", "nbd.sock")), "nobody asked for it"
    finally:
        server.terminate()
        assert server.wait(30) == 0, log_of(folder, "d")
    assert os.path.exists(path), "the file is not ours to remove"
    waiting = raw_nbd.connect(path)
    server = start(folder, image, [by_unix], "again", "d")
    try:
        assert raw_nbd.receive(waiting, 8) == b"NBDMAGIC", "who waited between two daemons is served"
    finally:
        server.terminate()
        assert server.wait(30) == 0, log_of(folder, "d")

    # One client's own connection, as Accept=yes passes it.
    ours, theirs = socket.socketpair()
    high = os.dup2(theirs.fileno(), 150)
    theirs.close()
    server = start(folder, image, [socket.socket(fileno=high)], "connection", "one")
    try:
        ours.settimeout(30)
        assert raw_nbd.receive(ours, 8) == b"NBDMAGIC"
    finally:
        server.terminate()
        assert server.wait(30) == 0, log_of(folder, "one")

    # What cannot be is said, with the descriptor; what is meant for somebody else is ignored.
    for sockets, names, count, words in (([by_unix], "control", None, "control socket"),
                                         ([by_unix], "a:b", None, "LISTEN_FDNAMES"),
                                         ([by_unix], "x", "many", "LISTEN_FDS")):
        server = start(folder, image, sockets, names, "bad", count=count)
        assert server.wait(30) == 2, log_of(folder, "bad")
        assert words in log_of(folder, "bad"), log_of(folder, "bad")
    server = start(folder, image, [by_unix], "x", "other", pid="1")
    try:
        daemon.until(lambda: "ready" in log_of(folder, "other"), "ready")
        assert "activated" not in log_of(folder, "other")
    finally:
        server.terminate()
        server.wait(30)
