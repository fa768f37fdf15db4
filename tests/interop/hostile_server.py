# SPDX-License-Identifier: Apache-2.0
"""A small NBD server that lies, for tests of what our client side makes of it. It serves one export of zeros; a
test overrides what is to be wrong."""
import os
import socket
import struct
import sys
import threading

import daemon

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "conformance"))
import wire  # pylint: disable=wrong-import-position


class HostileServer:
    """Listens on a unix socket; one thread for each client, ended with the server."""

    size = 1 << 20
    flags = wire.HAS_FLAGS | wire.SEND_FLUSH | wire.SEND_DF | wire.SEND_WRITE_ZEROES | wire.SEND_TRIM

    def __init__(self, folder, name="hostile"):
        self.socket_path = os.path.join(folder, name + ".sock")
        self.asked = []  # (command, offset, length) of every request, for the test
        self._sockets = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.socket_path)
        self._listener.listen(16)
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    @property
    def uri(self):
        return f"nbd+unix:///{daemon.EXPORT}?socket={self.socket_path}"

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for s in self._sockets:
            s.close()
        self._thread.join(10)

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._sockets.append(client)
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        try:
            client.sendall(wire.GREETING)
            receive(client, 4)
            while not self.option(client):
                pass
            while self.request(client):
                pass
        except OSError:
            pass
        finally:
            client.close()

    def option(self, client):
        """Answers one option; True once the transmission begins."""
        number, size = struct.unpack(">8xII", receive(client, 16))
        data = receive(client, size)
        if number == wire.GO:
            export = wire.be16(wire.INFO_EXPORT) + wire.be64(self.size) + wire.be16(self.flags)
            client.sendall(wire.option_reply(number, wire.REP_INFO, export) +
                           wire.option_reply(number, wire.REP_ACK))
            return True
        if number == wire.STRUCTURED_REPLY:
            client.sendall(wire.option_reply(number, wire.REP_ACK))
        elif number == wire.SET_META_CONTEXT and b"base:allocation" in data:
            client.sendall(wire.option_reply(number, wire.REP_META_CONTEXT, wire.be32(1) + b"base:allocation") +
                           wire.option_reply(number, wire.REP_ACK))
        elif number == wire.SET_META_CONTEXT:
            client.sendall(wire.option_reply(number, wire.REP_ACK))
        else:
            client.sendall(wire.option_reply(number, wire.ERR_UNSUP))
        return False

    def request(self, client):
        """Serves one request; False at the end."""
        _, command, cookie, offset, length = struct.unpack(">4xHHQQI", receive(client, 28))
        self.asked.append((command, offset, length))
        if command == wire.DISC:
            return False
        if command == wire.WRITE:
            receive(client, length)
        if command == wire.READ:
            client.sendall(self.read_reply(cookie, offset, length))
        elif command == wire.BLOCK_STATUS:
            client.sendall(self.status_reply(cookie, offset, length))
        else:
            client.sendall(wire.simple_reply(cookie))
        return True

    def read_reply(self, cookie, offset, length):
        return wire.chunk(wire.OFFSET_DATA, cookie, wire.be64(offset) + bytes(length))

    def status_reply(self, cookie, offset, length):  # pylint: disable=unused-argument
        return wire.chunk(wire.STATUS, cookie, wire.status_payload(1, (length, 0)))


def receive(client, size):
    data = b""
    while len(data) < size:
        part = client.recv(size - len(data))
        if not part:
            raise OSError("the client has left")
        data += part
    return data
