#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Pre-shared keys over a unix socket: libnbd and qemu-img read, write and compare."""
import os

import daemon
import served
import tls_credentials

daemon.need("nbdinfo", "nbdcopy", "qemu-img")
with daemon.scratch() as keys_folder:
    keys = tls_credentials.keys(keys_folder, "alice", "bob")
    with served.served_disk(extra=("--tls", "require", "--tls-psk", keys)) as (folder, server, image):
        uri = tls_credentials.psk_uri(server, keys)
        size = str(os.path.getsize(image))
        assert daemon.ok("nbdinfo", "--size", uri).strip() == size
        assert "protocol: newstyle-fixed with TLS" in daemon.ok("nbdinfo", uri)
        copy = os.path.join(folder, "copy.img")
        daemon.ok("nbdcopy", uri, copy)
        assert daemon.same(image, copy), "nbdcopy out"
        changed = daemon.make_image(os.path.join(folder, "new.img"), int(size), seed=5)
        daemon.ok("nbdcopy", changed, tls_credentials.psk_uri(server, keys, "bob"))
        daemon.ok("nbdcopy", uri, copy)
        assert daemon.same(changed, copy), "nbdcopy in"

        creds = f"tls-creds-psk,id=t,dir={keys_folder},endpoint=client,username=alice"
        options = (f"driver=nbd,server.type=unix,server.path={server.socket_path},"
                   f"export={daemon.EXPORT},tls-creds=t")
        daemon.ok("qemu-img", "compare", "--object", creds, "--image-opts", options,
                  f"driver=raw,file.driver=file,file.filename={changed}")
        daemon.ok("qemu-io", "--object", creds, "-c", "write -P 0x5a 4096 65536", "-c", "flush",
                  "-c", "read -P 0x5a 4096 65536", "-c", "write -z 8192 4096",
                  "-c", "read -P 0 8192 4096", "--image-opts", options)
