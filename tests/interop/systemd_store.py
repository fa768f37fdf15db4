# SPDX-License-Identifier: Apache-2.0
"""Stands for systemd: the manager takes what sd_notify(3) sends, and starts the next daemon with it."""
import array
import os
import socket
import sys

import daemon


class DescriptorStore:
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
