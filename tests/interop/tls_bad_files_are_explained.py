#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What is wrong with certificates and keys is said at the start, with the file and what to do."""
import os

import daemon
import tls_credentials

with daemon.scratch() as folder:
    pki = tls_credentials.Pki(folder)
    keys = tls_credentials.keys(folder, "alice")
    image = daemon.make_image(os.path.join(folder, "disk.img"), 1 << 20)

    def said(*options):
        """What `serve` says; it must end by itself, with an error."""
        return tls_credentials.refused(
            daemon.built("blockmig"), "serve", "disk0", "--source", image, "--state-dir",
            os.path.join(folder, "state"), "--listen", f"unix:{folder}/s.sock", *options)

    require = ("--tls", "require")
    assert "folder of certificates" in said(*require)
    assert "TLS is off" in said("--tls", "off", "--tls-psk", keys)
    assert "off, on or require" in said("--tls", "yes", "--tls-psk", keys)
    assert "/nowhere/keys.psk does not exist" in said(*require, "--tls-psk", "/nowhere/keys.psk")
    os.chmod(keys, 0o644)
    assert f"chmod 0600 {keys}" in said(*require, "--tls-psk", keys)
    server_key = os.path.join(pki.server, "server-key.pem")
    os.rename(server_key, server_key + ".away")
    assert f"{server_key} does not exist" in said(*require, "--tls-certs", pki.server)
    other = pki.issue("other", "server", "cn = localhost", "tls_www_server")
    os.rename(os.path.join(other, "server-key.pem"), server_key)
    assert "does not belong to" in said(*require, "--tls-certs", pki.server)
    os.rename(server_key + ".away", server_key)
    with open(os.path.join(pki.server, "ca-cert.pem"), "w", encoding="ascii") as f:
        f.write("not a certificate\n")
    assert "holds no certificate" in said(*require, "--tls-certs", pki.server)
    assert "no '->'" in said("--allow", "alice disk0")
