# SPDX-License-Identifier: Apache-2.0
"""A service manager's restart: blockmigd leaves its clients in the descriptor store, the next one finds them.

The test is the manager: it takes what sd_notify(3) sends, and starts the next daemon with it.
"""
import array
import os
import signal
import socket
import sys
import types

import daemon

SIZE = 16 << 20


class Manager:
    """The datagram socket of NOTIFY_SOCKET, and the descriptors stored through it."""

    def __init__(self, path):
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(path)
        self.stored = {}
        self.ready = 0

    def take(self):
        """Everything that was said so far."""
        self.socket.setblocking(False)
        while True:
            try:
                text, ancillary, _, _ = self.socket.recvmsg(65536, socket.CMSG_SPACE(4))
            except BlockingIOError:
                return self
            fields = dict(line.split("=", 1) for line in text.decode().splitlines())
            if "READY" in fields:
                self.ready += 1
            if "FDSTOREREMOVE" in fields:
                os.close(self.stored.pop(fields["FDNAME"]))
            if "FDSTORE" in fields:
                fds = array.array("i")
                for _, _, data in ancillary:
                    fds.frombytes(data)
                assert len(fds) == 1 and fields["FDPOLL"] == "0", fields
                self.stored[fields["FDNAME"]] = fds[0]

    def start(self, folder, name, *arguments):
        """blockmigd with everything that is stored, from descriptor 3 on, in the manager's own order."""
        names = sorted(self.stored, reverse=True)
        sources = [self.stored[n] for n in names]
        script = (
            "import os, sys, fcntl\n"
            "fds = [fcntl.fcntl(int(f), fcntl.F_DUPFD, 200) for f in sys.argv[1].split(',') if f]\n"
            "for i, fd in enumerate(fds): os.dup2(fd, 3 + i)\n"
            "if fds: os.environ['LISTEN_PID'] = str(os.getpid())\n"
            "os.environ['LISTEN_FDS'] = str(len(fds))\n"
            "os.environ['LISTEN_FDNAMES'] = sys.argv[2]\n"
            "for fd in fds: os.close(fd)\n"
            "os.execv(sys.argv[3], sys.argv[3:])\n")
        command = [sys.executable, "-c", script, ",".join(map(str, sources)), ":".join(names),
                   daemon.built("blockmigd"), "--state-dir", os.path.join(folder, "s"), "--fd-store",
                   *arguments]
        os.environ["NOTIFY_SOCKET"] = self.path
        for fd in sources:
            os.set_inheritable(fd, True)
        try:
            return daemon.Process(command, os.path.join(folder, name + ".log"), pass_fds=sources)
        finally:
            del os.environ["NOTIFY_SOCKET"]


def main(folder):
    image = daemon.make_image(os.path.join(folder, "a.img"), SIZE)
    path = os.path.join(folder, "nbd.sock")
    manager = Manager(os.path.join(folder, "notify"))
    server = manager.start(folder, "d0", "--disk", f"{daemon.EXPORT}={image}", "--listen", f"unix:{path}")
    try:
        daemon.until(lambda: manager.take().ready == 1 or not server.alive(), "READY=1")
        assert server.alive(), server.log()
        place = types.SimpleNamespace(socket_path=path, export=daemon.EXPORT)
        with daemon.Client(folder, place, "--connections", "3") as client:
            for i in range(3):
                client.clean_report()
                server.process.send_signal(signal.SIGTERM)
                assert server.process.wait(30) == 0, server.log()
                # Three clients, of which one may be at its change to a new connection; listener; state.
                assert len(manager.take().stored) - 1 - 1 in (3, 4), manager.stored
                server = manager.start(folder, f"d{i + 1}")
                daemon.until(lambda i=i: manager.take().ready == i + 2 or not server.alive(), "READY=1")
                assert not manager.take().stored, "a later start would find what is served already"
                print(client.clean_report())
            client.hold()
            assert client.check_file(image) == 0
    finally:
        server.stop()


with daemon.scratch() as scratch:
    main(scratch)
