#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""nbd-client, as far as it goes without the kernel's device: it lists disks inside TLS, with its
certificate, and is told why without."""
import daemon
import served
import tls_credentials

daemon.need("nbd-client")
with daemon.scratch() as pki_folder:
    pki = tls_credentials.Pki(pki_folder)
    client = pki.client("nbd")
    tls = ("-enable-tls", "-certfile", client + "/client-cert.pem", "-keyfile",
           client + "/client-key.pem", "-cacertfile", client + "/ca-cert.pem", "-tlshostname",
           "localhost")
    with served.served_disk(listen="tcp:127.0.0.1:0",
                            extra=("--tls", "require", "--tls-certs", pki.server)) as (_, server, _):
        list_disks = ("nbd-client", "-l", "127.0.0.1", "-p", tls_credentials.tcp_port(server))
        assert daemon.EXPORT in daemon.ok(*list_disks, *tls)
        said = tls_credentials.refused(*list_disks)
        assert "TLS comes first" in said and daemon.EXPORT not in said, said
