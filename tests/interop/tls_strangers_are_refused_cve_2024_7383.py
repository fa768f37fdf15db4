#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Clients that cannot prove who they are: no certificate, another authority's, a server's, a wrong
key, an unknown user. And our server goes on."""
import os

import daemon
import served
import tls_credentials

daemon.need("nbdinfo", "qemu-img")
with daemon.scratch() as pki_folder:
    pki = tls_credentials.Pki(pki_folder)
    rogue = tls_credentials.Pki(pki_folder, "rogue", with_server=False)
    good = pki.client("vm1")
    bare = pki.trust(os.path.join(pki_folder, "bare"))
    stranger = rogue.client("vm1")
    pki.trust(stranger)
    wrong_role = pki.issue("wrong-role", "client", "cn = localhost", "tls_www_server")
    keys = tls_credentials.keys(pki_folder, "alice")
    os.makedirs(os.path.join(pki_folder, "other"))
    wrong_keys = tls_credentials.keys(os.path.join(pki_folder, "other"), "alice", "mallory")
    extra = ("--tls", "require", "--tls-certs", pki.server, "--tls-psk", keys)
    with served.served_disk(listen="tcp:127.0.0.1:0", extra=extra) as (_, server, _):
        at = f"nbds://localhost:{tls_credentials.tcp_port(server)}/{daemon.EXPORT}?tls-certificates="
        for folder in (bare, stranger, wrong_role):
            tls_credentials.refused("nbdinfo", at + folder)
            creds = f"tls-creds-x509,id=t,dir={folder},endpoint=client"
            options = (f"driver=nbd,server.type=unix,server.path={server.socket_path},"
                       f"export={daemon.EXPORT},tls-creds=t,tls-hostname=localhost")
            tls_credentials.refused("qemu-img", "info", "--object", creds, "--image-opts", options)
        for user in ("alice", "mallory"):
            tls_credentials.refused("nbdinfo", tls_credentials.psk_uri(server, wrong_keys, user))
        assert "with TLS" in daemon.ok("nbdinfo", at + good)
        assert "with TLS" in daemon.ok("nbdinfo", tls_credentials.psk_uri(server, keys))
    with served.served_disk(listen="tcp:127.0.0.1:0", extra=("--tls", "require", "--tls-certs",
                                                             pki.server, "--tls-any-client")) as (
                                                                 _, server, _):
        at = f"nbds://localhost:{tls_credentials.tcp_port(server)}/{daemon.EXPORT}?tls-certificates="
        assert "with TLS" in daemon.ok("nbdinfo", at + bare)
        tls_credentials.refused("nbdinfo", at + stranger)
