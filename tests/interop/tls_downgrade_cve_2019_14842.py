#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A store that is asked for with TLS is never used without: not where the server offers none, nor
where it answers STARTTLS with an error and would go on in the clear."""
import os
import socket
import struct
import threading

import daemon
import served
import tls_credentials

daemon.need("nbdinfo")


def strip_tls(listener, seen):
    """A server that says it has no TLS, and records what the client does then."""
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        with client:
            client.settimeout(20)
            try:
                client.sendall(b"NBDMAGICIHAVEOPT" + struct.pack(">H", 3))
                client.recv(4)
                while True:
                    header = client.recv(16, socket.MSG_WAITALL)
                    if len(header) < 16:
                        break
                    number, length = struct.unpack(">II", header[8:])
                    if length:
                        client.recv(length, socket.MSG_WAITALL)
                    seen.append(number)
                    client.sendall(struct.pack(">QIII", 0x3e889045565a9, number, 0x80000001, 0))
            except OSError:
                pass


with daemon.scratch() as keys_folder:
    keys = tls_credentials.keys(keys_folder, "alice")
    with served.served_disk(holes=False, size_bytes=1 << 20) as (folder, server, image):
        target = tls_credentials.psk_uri(server, keys)
        tls_credentials.refused("nbdinfo", target)
        result = server.cli("verify", daemon.EXPORT, target)
        assert result.returncode not in (0, 6), result
        stripping = os.path.join(folder, "stripping.sock")
        seen = []
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(stripping)
            listener.listen(8)
            thread = threading.Thread(target=strip_tls, args=(listener, seen), daemon=True)
            thread.start()
            result = server.cli("verify", daemon.EXPORT,
                                f"nbds+unix://alice@/{daemon.EXPORT}?socket={stripping}"
                                f"&tls-psk-file={keys}")
            assert result.returncode not in (0, 6), result
            listener.shutdown(socket.SHUT_RDWR)
        thread.join(20)
        assert seen and seen[0] == 5 and not set(seen) & {1, 3, 6, 7, 10}, seen
