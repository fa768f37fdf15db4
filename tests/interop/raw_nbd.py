# SPDX-License-Identifier: Apache-2.0
"""A client of the bare protocol, for tests that misbehave in ways that real clients cannot."""
import socket
import struct

import daemon

OPT_EXPORT_NAME, OPT_ABORT, OPT_LIST, OPT_INFO, OPT_GO = 1, 2, 3, 6, 7
REP_ACK, REP_SERVER, REP_ERR_TOO_BIG = 1, 2, 0x80000009
READ, WRITE, DISC, FLUSH, TRIM = 0, 1, 2, 3, 4
OPTION_MAGIC, REQUEST_MAGIC, REPLY_MAGIC = 0x49484156454f5054, 0x25609513, 0x67446698


def connect(address, timeout=30):
    """A connected socket: a path, or (host, port)."""
    s = socket.socket(socket.AF_UNIX if isinstance(address, str) else
                      socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
    s.settimeout(timeout)
    s.connect(address)
    return s


def receive(s, size):
    data = b""
    while len(data) < size:
        part = s.recv(size - len(data))
        if not part:
            raise EOFError(f"closed after {len(data)} of {size} bytes")
        data += part
    return data


def is_closed(s):
    """Waits for what comes next: True if it is the end."""
    try:
        return s.recv(1) == b""
    except ConnectionError:
        return True


def greeted(address, timeout=30):
    """A connection that has exchanged greeting and flags."""
    s = connect(address, timeout)
    assert receive(s, 18)[:8] == b"NBDMAGIC"
    s.sendall(struct.pack(">I", 3))
    return s


def option(number, data=b""):
    return struct.pack(">QII", OPTION_MAGIC, number, len(data)) + data


def option_reply(s):
    """(option, type, data)"""
    _, number, kind, length = struct.unpack(">QIII", receive(s, 20))
    return number, kind, receive(s, length)


def info(name):
    return struct.pack(">I", len(name)) + name.encode() + struct.pack(">H", 0)


def attached(address, export=daemon.EXPORT, timeout=30):
    """A connection in transmission, with simple replies."""
    s = greeted(address, timeout)
    s.sendall(option(OPT_EXPORT_NAME, export.encode()))
    receive(s, 10)
    return s


def request(command, cookie, offset, length, payload=b""):
    return struct.pack(">IHHQQI", REQUEST_MAGIC, 0, command, cookie, offset, length) + payload


def reply(s, length=0):
    """(error, cookie, data) of a simple reply; the data is there unless there was an error."""
    _, error, cookie = struct.unpack(">IIQ", receive(s, 16))
    return error, cookie, b"" if error else receive(s, length)


def works(s, length=4096):
    """One read goes through."""
    s.sendall(request(READ, 77, 0, length))
    error, cookie, _ = reply(s, length)
    return error == 0 and cookie == 77
