#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A TLS client that asks for much and reads nothing, and one that stops in the handshake: others are
served, and memory stays bounded."""
import socket
import ssl
import struct

import daemon
import served
import tls_credentials

GO = b"IHAVEOPT" + struct.pack(">III", 7, 4 + 5 + 2, 5) + b"disk0" + struct.pack(">H", 0)


def started(path):
    """A connection on which STARTTLS was acknowledged."""
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(20)
    s.connect(path)
    s.recv(18, socket.MSG_WAITALL)
    s.sendall(struct.pack(">I", 3) + b"IHAVEOPT" + struct.pack(">II", 5, 0))
    assert len(s.recv(20, socket.MSG_WAITALL)) == 20
    return s


with daemon.scratch() as pki_folder:
    pki = tls_credentials.Pki(pki_folder)
    client = pki.client("slow")
    context = ssl.create_default_context(cafile=client + "/ca-cert.pem")
    context.load_cert_chain(client + "/client-cert.pem", client + "/client-key.pem")
    keys = tls_credentials.keys(pki_folder, "alice")
    extra = ("--tls", "require", "--tls-certs", pki.server, "--tls-psk", keys)
    with served.served_disk(extra=extra) as (_, server, _):
        good = tls_credentials.psk_uri(server, keys)
        half = [started(server.socket_path) for _ in range(20)]
        slow = context.wrap_socket(started(server.socket_path), server_hostname="localhost")
        slow.sendall(GO)
        slow.recv(4096)
        slow.settimeout(2)
        try:
            for cookie in range(2000):
                slow.sendall(struct.pack(">IHHQQI", 0x25609513, 0, 0, cookie, 0, 1 << 20))
        except (TimeoutError, ssl.SSLError):
            pass  # the server has stopped taking requests from it
        for _ in range(3):
            assert "with TLS" in daemon.ok("nbdinfo", good, timeout=60)
        assert daemon.resident_bytes(server.pid) < 400 << 20
        slow.close()
        for s in half:
            s.close()
        assert "with TLS" in daemon.ok("nbdinfo", good, timeout=60)
