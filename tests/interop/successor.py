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
    """Asks the daemon for its place, takes the handover as far as it comes, and goes away without a word, or hands it
    on to another daemon."""

    def __init__(self, folder, takes=True):
        self._folder = folder
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
        self._passed = []
        if takes:
            self._take()

    def _take(self):
        head = self._connection.recv(struct.calcsize(HEAD), socket.MSG_WAITALL)
        magic, length, kind, descriptors = struct.unpack(HEAD, head)
        assert magic == MAGIC and kind == 1, head
        said = self._connection.recv(length, socket.MSG_WAITALL)
        text = json.loads(said)
        assert text["version"] == 1 and text["disks"], text
        _, ancillary, _, _ = self._connection.recvmsg(1, socket.CMSG_SPACE(4 * 253))
        passed = array.array("i")
        for _, _, data in ancillary:
            passed.frombytes(data[:len(data) - len(data) % passed.itemsize])
        assert len(passed) == descriptors, (len(passed), descriptors)
        self._message = head + said
        self._passed = passed

    def die(self):
        for fd in self._passed:
            os.close(fd)
        self._connection.close()
        os.unlink(self._path)

    def hand_on(self, name, *arguments, meanwhile=None):
        """To `blockmigd --replace ARGUMENTS`, which is told nothing else of the daemon before; what it says to that
        goes back there, if both live still. `meanwhile` is called with it once it has the handover."""
        following = self._ask_for_place(name, *arguments)
        with socket.socket(socket.AF_UNIX) as place:
            place.settimeout(20)
            place.connect(self._path)
            place.sendall(self._message)
            place.sendmsg([b"D"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, self._passed)])
            for fd in self._passed:
                os.close(fd)
            if meanwhile:
                meanwhile(following)
            try:
                head = place.recv(struct.calcsize(HEAD), socket.MSG_WAITALL)
                if head:
                    said = place.recv(struct.unpack(HEAD, head)[1], socket.MSG_WAITALL)
                    self._connection.sendall(head + said)
            except ConnectionError:
                pass
            self._connection.close()
        return following

    def _ask_for_place(self, name, *arguments):
        os.unlink(self._path)
        control_path = os.path.join(self._folder, "s", "control.sock")
        with socket.socket(socket.AF_UNIX) as asked:
            asked.bind(control_path)
            asked.listen(8)
            asked.settimeout(20)
            following = start(self._folder, name, "--replace", *arguments)
            request = b""
            while b"/v1/handover" not in request:  # it looks first whether anybody listens
                connection, _ = asked.accept()
                with connection:
                    request = connection.recv(1 << 16)
                    while request and not request.endswith(b"}"):  # what is not read would break the answer
                        request += connection.recv(1 << 16)
                    if request:
                        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
        os.unlink(control_path)
        return following
