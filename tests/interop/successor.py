# SPDX-License-Identifier: Apache-2.0
"""What takes a daemon's place, or means to: blockmigd --replace, and a process that asks for it and then fails."""
import array
import json
import os
import socket
import struct

import daemon

HEAD = "=QQII"
MAGIC = 0x424d48414e444f56


def start(folder, name, *arguments):
    """blockmigd on the state folder `s`."""
    return daemon.Process([daemon.built("blockmigd"), "--state-dir", os.path.join(folder, "s"),
                           *arguments], os.path.join(folder, name + ".log"))


def ready(server):
    daemon.until(lambda: "blockmigd ready" in server.log() or not server.alive(), "the daemon")
    return "blockmigd ready" in server.log()


def refused(folder, name):
    """What a daemon that is not to take over says."""
    server = start(folder, name, "--replace")
    try:
        assert not ready(server), "it took over"
        assert server.process.wait(20) != 0
        return server.log()
    finally:
        server.stop()


def control(folder, *arguments):
    return daemon.ok(daemon.built("blockmig"), *arguments, "--state-dir", os.path.join(folder, "s"))


class Doomed:
    """Asks the daemon for its place, takes the handover as far as it comes, and goes away without a word."""

    def __init__(self, folder):
        self._path = os.path.join(folder, "s", "handover.sock")
        with socket.socket(socket.AF_UNIX) as place:
            place.bind(self._path)
            place.listen(1)
            place.settimeout(20)
            with socket.socket(socket.AF_UNIX) as asking:
                asking.connect(os.path.join(folder, "s", "control.sock"))
                asking.sendall(b"POST /v1/handover HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
                assert b" 200 " in asking.recv(100)
            self._connection, _ = place.accept()
        self._connection.settimeout(20)
        self._take()

    def _take(self):
        head = self._connection.recv(struct.calcsize(HEAD), socket.MSG_WAITALL)
        magic, length, kind, descriptors = struct.unpack(HEAD, head)
        assert magic == MAGIC and kind == 1, head
        text = json.loads(self._connection.recv(length, socket.MSG_WAITALL))
        assert text["version"] == 1 and text["disks"], text
        _, ancillary, _, _ = self._connection.recvmsg(1, socket.CMSG_SPACE(4 * 253))
        passed = array.array("i")
        for _, _, data in ancillary:
            passed.frombytes(data[:len(data) - len(data) % passed.itemsize])
        assert len(passed) == descriptors, (len(passed), descriptors)
        for fd in passed:
            os.close(fd)

    def die(self):
        self._connection.close()
        os.unlink(self._path)
