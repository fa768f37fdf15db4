#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""With --tls require nobody is served without TLS, nobody learns a disk's name, and the announced URIs say it."""
import daemon
import served
import tls_credentials

REFUSAL = "did not use TLS, which is required"

daemon.need("nbdinfo", "qemu-img", "qemu-io")
with daemon.scratch() as keys_folder:
    keys = tls_credentials.keys(keys_folder, "alice")
    with served.served_disk(extra=("--tls", "require", "--tls-psk", keys)) as (_, server, _):
        for command in (("nbdinfo", server.uri), ("nbdinfo", "--list", server.uri),
                        ("qemu-img", "info", server.uri),
                        ("qemu-io", "-f", "raw", "-c", "read 0 512", server.uri)):
            before = server.log().count(REFUSAL)
            tls_credentials.refused(*command)
            # The client hears of it before the log does.
            daemon.until(lambda: server.log().count(REFUSAL) > before, "the refusal in the log")
        listed = tls_credentials.refused("nbdinfo", "--list", f"nbd+unix://?socket={server.socket_path}")
        assert daemon.EXPORT not in listed, listed
        assert "with TLS" in daemon.ok("nbdinfo", tls_credentials.psk_uri(server, keys))
        announced = f"nbds+unix:///{daemon.EXPORT}?socket={server.socket_path}"
        assert f"serving {daemon.EXPORT} at {announced}" in server.log(), server.log()
        assert server.get("/v1/disks")["disks"][0]["uris"] == [announced]
    with served.served_disk(extra=("--tls", "on", "--tls-psk", keys)) as (_, server, _):
        assert "without TLS" in daemon.ok("nbdinfo", server.uri)
        assert server.get("/v1/disks")["disks"][0]["uris"] == [server.uri]
        assert "with TLS" in daemon.ok("nbdinfo", tls_credentials.psk_uri(server, keys))
    with served.served_disk(extra=("--tls", "require", "--tls-psk", keys, "--tls-list")) as (_, server, _):
        listed = daemon.run("nbdinfo", "--list", f"nbd+unix://?socket={server.socket_path}")
        assert daemon.EXPORT in listed.stdout + listed.stderr, listed
        tls_credentials.refused("nbdinfo", server.uri)
