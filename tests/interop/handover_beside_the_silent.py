# SPDX-License-Identifier: Apache-2.0
"""Who connects and says nothing, stops in the middle of its negotiation or of a TLS handshake, holds no handover up.

Neither --replace nor a restart with --fd-store: guests keep their connections, and hear nothing of it. A client with
TLS, which cannot be handed over, costs the others nothing where the daemon ends anyway.
"""
import os
import signal
import socket
import types

import daemon
import systemd_store
import tls_credentials
from successor import ready, start

FLAGS = b"\x00\x00\x00\x03"
STARTTLS = b"IHAVEOPT" + b"\x00\x00\x00\x05" + b"\x00" * 4
SIZE = 4 << 20


def strangers(port):
    """Connections that never come to anything."""
    made = []
    for said, sealed in ((None, b""), (FLAGS, b""), (FLAGS + b"IHAVEOPT", b""), (FLAGS + STARTTLS, b""),
                         (FLAGS + STARTTLS, b"\x16\x03")):
        one = socket.create_connection(("127.0.0.1", port), timeout=20)
        made.append(one)
        if said is None:
            continue
        one.recv(18, socket.MSG_WAITALL)
        one.sendall(said)
        if STARTTLS in said:
            assert one.recv(20, socket.MSG_WAITALL)[12:16] == b"\x00\x00\x00\x01", "TLS was offered"
        one.sendall(sealed)
    return made


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def replaced(folder, image, path, options, port):
    old = start(folder, "old", *options)
    new = None
    try:
        assert ready(old), old.log()
        place = types.SimpleNamespace(socket_path=path, export=daemon.EXPORT)
        with daemon.Client(folder, place, "--connections", "1") as client:
            waiting = strangers(port)
            new = start(folder, "new", "--replace", *options)
            assert ready(new), new.log() + old.log()
            for stranger in waiting:
                stranger.close()
            client.clean_report()
            client.hold()
            assert client.check_file(image) == 0
    finally:
        old.stop()
        if new:
            new.stop()


def stored(folder, image, path, options, port, keys):
    manager = systemd_store.DescriptorStore(os.path.join(folder, "notify"))
    server = manager.start(folder, "d0", *options)
    try:
        daemon.until(lambda: manager.take().ready == 1 or not server.alive(), "READY=1")
        place = types.SimpleNamespace(socket_path=path, export=daemon.EXPORT)
        with daemon.Client(folder, place, "--connections", "1") as client:
            waiting = strangers(port)
            uri = f"nbds://alice@127.0.0.1:{port}/{daemon.EXPORT}?tls-psk-file={keys}"
            stay = (f"import time; h.set_uri_allow_local_file(True); h.connect_uri({uri!r}); "
                    "print('it is sealed', flush=True); time.sleep(99)")
            # libnbd's module is of the system's Python.
            sealed = daemon.Process(["env", "PATH=/usr/bin:/bin", "nbdsh", "-c", stay],
                                    os.path.join(folder, "sealed.log"))
            daemon.until(lambda: "it is sealed" in sealed.log() or not sealed.alive(), "a client with TLS")
            assert sealed.alive(), sealed.log()
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(60) == 0, server.log()
            assert manager.take().stored, server.log()
            server = manager.start(folder, "d1", *options)
            daemon.until(lambda: manager.take().ready == 2 or not server.alive(), "READY=1")
            assert server.alive(), server.log()
            sealed.stop()
            for stranger in waiting:
                stranger.close()
            client.clean_report()
            client.hold()
            assert client.check_file(image) == 0
    finally:
        server.stop()


daemon.need("nbdsh")
with daemon.scratch() as top:
    psk = tls_credentials.keys(top, "alice")
    for name in ("replaced", "stored"):
        one = os.path.join(top, name)
        os.mkdir(one)
        disk = daemon.make_image(os.path.join(one, "a.img"), SIZE)
        sock = os.path.join(one, "nbd.sock")
        where = free_port()
        arguments = ("--disk", f"{daemon.EXPORT}={disk}", "--listen", f"unix:{sock}", "--listen",
                     f"tcp:127.0.0.1:{where}", "--tls", "on", "--tls-psk", psk)
        if name == "replaced":
            replaced(one, disk, sock, arguments, where)
        else:
            stored(one, disk, sock, arguments, where, psk)
