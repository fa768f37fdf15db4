#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Our disks move to stores behind TLS: nbdkit and qemu-nbd, keys on a unix socket, certificates by
TCP. A server that proves nothing, or another name, or another authority, gets no data."""
import os
import socket

import daemon
import served
import tls_credentials

daemon.need("nbdkit", "qemu-nbd")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def nbdkit_tcp(folder, name, pki_folder, image, port):
    """nbdkit with certificates on a TCP port, ready when it takes connections."""
    process = daemon.Process(["nbdkit", "-f", "-i", "127.0.0.1", "-p", str(port), "--tls=require",
                              f"--tls-certificates={pki_folder}", "--tls-verify-peer", "file", image],
                             os.path.join(folder, name + ".log"))

    def listens():
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", port)) == 0
    daemon.until(listens, "nbdkit")
    return process


with daemon.scratch() as keys_folder, served.served_disk() as (folder, server, image):
    keys = tls_credentials.keys(keys_folder, "alice", "bob")
    target = daemon.make_image(os.path.join(folder, "a.img"), os.path.getsize(image), seed=9)
    with daemon.nbdkit(folder, "--tls=require", f"--tls-psk={keys}", "file", target, name="a") as kit:
        server.migrate(tls_credentials.psk_uri(kit, keys, "bob"), "cold")
        server.stop()  # first: nbdkit waits for its clients
    assert daemon.same(image, target)

with daemon.scratch() as keys_folder, served.served_disk() as (folder, server, image):
    pki = tls_credentials.Pki(keys_folder)
    rogue = tls_credentials.Pki(keys_folder, "rogue")
    client = pki.client("mover")
    target = daemon.make_image(os.path.join(folder, "b.img"), os.path.getsize(image), seed=9)
    before = open(target, "rb").read()
    port = free_port()
    uri = f"nbds://localhost:{port}/{daemon.EXPORT}?tls-certificates={client}"
    with nbdkit_tcp(folder, "rogue", rogue.server, target, port):
        result = server.cli("migrate", daemon.EXPORT, "--to", uri, "--mode", "cold")
        assert result.returncode != 0, "a rogue server was believed"
    assert open(target, "rb").read() == before
    port = free_port()
    with nbdkit_tcp(folder, "good", pki.server, target, port):
        named = f"nbds://127.0.0.2:{port}/{daemon.EXPORT}?tls-certificates={client}"
        result = server.cli("migrate", daemon.EXPORT, "--to", named, "--mode", "cold")
        assert result.returncode != 0, "another name was believed"
        server.migrate(f"nbds://localhost:{port}/{daemon.EXPORT}?tls-certificates={client}", "cold")
        server.stop()
    assert daemon.same(image, target)

with daemon.scratch() as keys_folder, served.served_disk() as (folder, server, image):
    keys = tls_credentials.keys(keys_folder, "alice")
    target = daemon.make_image(os.path.join(folder, "c.img"), os.path.getsize(image), seed=9)
    path = os.path.join(folder, "q.sock")
    command = ["qemu-nbd", "-t", "-e", "16", "-f", "raw", "-x", daemon.EXPORT, "-k", path, "--object",
               f"tls-creds-psk,id=t,dir={keys_folder},endpoint=server", "--tls-creds", "t", target]
    with daemon.NbdServer(command, path, os.path.join(folder, "q.log")):
        server.migrate(f"nbds+unix://alice@/{daemon.EXPORT}?socket={path}&tls-psk-file={keys}", "dbt")
        server.stop()
    assert daemon.same(image, target)
