#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""--allow: by the user of a key, a certificate's name, and the uid of a unix socket's peer."""
import os

import daemon
import served
import tls_credentials

daemon.need("nbdinfo", "qemu-img")
MISSING = "No such file or directory for export"


def identities(uri, *before):
    """What LIST_META_CONTEXT answers, or why it does not."""
    return daemon.nbdsh(*(word for line in before for word in ("-c", line)), "-c", f"""
h.connect_uri({uri!r})
try:
    h.opt_list_meta_context(print)
except nbd.Error as error:
    print(error)
h.opt_abort()""")


with daemon.scratch() as pki_folder:
    pki = tls_credentials.Pki(pki_folder)
    one, two = pki.client("vm1"), pki.client("other")
    keys = tls_credentials.keys(pki_folder, "alice", "bob")
    extra = ("--tls", "on", "--tls-certs", pki.server, "--tls-psk", keys,
             "--allow", f"psk:alice -> {daemon.EXPORT}", "--allow", "cn:vm* -> disk*")
    with served.served_disk(listen="tcp:127.0.0.1:0", extra=extra) as (folder, server, _):
        alice = tls_credentials.psk_uri(server, keys, "alice")
        bob = tls_credentials.psk_uri(server, keys, "bob")
        assert daemon.EXPORT in daemon.ok("nbdinfo", "--list", alice)
        # Asked for by name, it looks the same as one that does not exist.
        hidden = tls_credentials.refused("nbdinfo", bob)
        missing = tls_credentials.refused(
            "nbdinfo", tls_credentials.psk_uri(server, keys, "bob", export="other"))
        assert MISSING in hidden and MISSING in missing, (hidden, missing)
        listed = daemon.run("nbdinfo", "--list", bob)
        assert f'export="{daemon.EXPORT}"' not in listed.stdout, listed
        at = f"nbds://localhost:{tls_credentials.tcp_port(server)}/{daemon.EXPORT}?tls-certificates="
        assert "with TLS" in daemon.ok("nbdinfo", at + one)
        assert MISSING in tls_credentials.refused("nbdinfo", at + two)
        asked = ("h.set_opt_mode(True)", "h.set_uri_allow_local_file(True)",
                 'h.add_meta_context("blockmig:identity:")')
        assert "blockmig:identity:" in identities(alice, *asked)
        assert "blockmig:identity:" not in identities(bob, *asked), "which disk it is, is hidden too"
        tls_credentials.refused("nbdinfo", server.uri)  # plain, and nobody in particular
    me = os.getuid()
    with served.served_disk(extra=("--allow", f"uid:{me} -> *")) as (_, server, _):
        daemon.ok("nbdinfo", server.uri)
    with served.served_disk(extra=("--allow", f"uid:{me + 1} -> *")) as (_, server, _):
        assert MISSING in tls_credentials.refused("nbdinfo", server.uri)
