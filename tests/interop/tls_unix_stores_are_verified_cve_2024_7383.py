#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""libnbd before 1.20.3 believes any certificate over a unix socket: our client refuses to rely on it
there, and says what to use instead."""
import os

import daemon
import served
import tls_credentials

daemon.need("nbdkit", "nbdinfo")
with daemon.scratch() as keys_folder, served.served_disk() as (folder, server, image):
    pki = tls_credentials.Pki(keys_folder, with_server=False)
    rogue = tls_credentials.Pki(keys_folder, "rogue")
    client = pki.client("mover")
    target = daemon.make_image(os.path.join(folder, "t.img"), os.path.getsize(image), seed=9)
    with open(target, "rb") as f:
        before = f.read()
    with daemon.nbdkit(folder, "--tls=require", f"--tls-certificates={rogue.server}", "file",
                       target) as kit:
        uri = f"nbds+unix:///{daemon.EXPORT}?socket={kit.socket_path}&tls-certificates={client}"
        believed = daemon.run("nbdinfo", "--size", uri).returncode == 0
        print("this libnbd believes a rogue server on a unix socket:", believed)
        for command in (("migrate", daemon.EXPORT, "--to", uri, "--mode", "cold"),
                        ("verify", daemon.EXPORT, uri)):
            result = server.cli(*command)
            assert result.returncode not in (0, 6), result
            if believed:
                assert "tls-psk-file=FILE" in result.stdout + result.stderr, result
    with open(target, "rb") as f:
        assert f.read() == before
