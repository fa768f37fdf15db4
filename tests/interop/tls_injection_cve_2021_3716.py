#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Bytes that a man in the middle puts behind STARTTLS are never acted on, and never answered."""
import socket
import struct

import daemon
import served
import tls_credentials

ACK = struct.pack(">QIII", 0x3e889045565a9, 5, 1, 0)
STARTTLS = b"IHAVEOPT" + struct.pack(">II", 5, 0)
LIST = b"IHAVEOPT" + struct.pack(">II", 3, 0)
GO = b"IHAVEOPT" + struct.pack(">III", 7, 4 + 5 + 2, 5) + b"disk0" + struct.pack(">H", 0)


def answer(path, *parts):
    """Everything that comes after the greeting, the parts being sent in pieces of their own."""
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(20)
        s.connect(path)
        greeting = b""
        while len(greeting) < 18:
            greeting += s.recv(18 - len(greeting))
        received = b""
        s.sendall(struct.pack(">I", 3) + parts[0])
        for part in parts[1:]:
            received += s.recv(4096)
            s.sendall(part)
        while True:
            try:
                more = s.recv(4096)
            except ConnectionResetError:
                return received
            if not more:
                return received
            received += more


with daemon.scratch() as keys_folder:
    keys = tls_credentials.keys(keys_folder, "alice")
    for mode in ("on", "require"):
        with served.served_disk(extra=("--tls", mode, "--tls-psk", keys)) as (_, server, _):
            for injected in (LIST, GO, b"\0"):
                got = answer(server.socket_path, STARTTLS + injected)
                assert got == b"", got
            for injected in (LIST * 40, GO * 40):
                got = answer(server.socket_path, STARTTLS, injected)
                assert got.startswith(ACK), got
                assert b"disk0" not in got and struct.pack(">Q", 0x3e889045565a9) not in got[20:], got
            assert "with TLS" in daemon.ok("nbdinfo", tls_credentials.psk_uri(server, keys))
