#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Certificates over TCP: libnbd, qemu-img and qemu-io, each with a client certificate."""
import os

import daemon
import served
import tls_credentials

daemon.need("nbdinfo", "nbdcopy", "qemu-img", "qemu-io")
with daemon.scratch() as pki_folder:
    pki = tls_credentials.Pki(pki_folder)
    client = pki.client("vm1")
    with served.served_disk(listen="tcp:127.0.0.1:0",
                            extra=("--tls", "require", "--tls-certs", pki.server)) as (
                                folder, server, image):
        port = tls_credentials.tcp_port(server)
        uri = f"nbds://localhost:{port}/{daemon.EXPORT}?tls-certificates={client}"
        assert "with TLS" in daemon.ok("nbdinfo", uri)
        copy = os.path.join(folder, "copy.img")
        daemon.ok("nbdcopy", uri, copy)
        assert daemon.same(image, copy)
        creds = f"tls-creds-x509,id=t,dir={client},endpoint=client"
        options = (f"driver=nbd,server.type=inet,server.host=127.0.0.1,server.port={port},"
                   f"export={daemon.EXPORT},tls-creds=t,tls-hostname=localhost")
        daemon.ok("qemu-img", "compare", "--object", creds, "--image-opts", options,
                  f"driver=raw,file.driver=file,file.filename={image}")
        daemon.ok("qemu-io", "--object", creds, "-c", "write -P 0x33 12345 100000", "-c", "flush",
                  "-c", "read -P 0x33 12345 100000", "--image-opts", options)
        # And on the unix socket, where QEMU is told the name to expect.
        unix = (f"driver=nbd,server.type=unix,server.path={server.socket_path},"
                f"export={daemon.EXPORT},tls-creds=t,tls-hostname=localhost")
        daemon.ok("qemu-io", "--object", creds, "-c", "read -P 0x33 12345 100000", "--image-opts",
                  unix)
