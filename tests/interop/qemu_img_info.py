# SPDX-License-Identifier: Apache-2.0
"""qemu-img info sees a raw disk of at least our size (QEMU counts in sectors of 512 bytes)."""
import json

import daemon
import served

daemon.need("qemu-img")
with served.served_disk() as (_, server, _):
    info = json.loads(daemon.ok("qemu-img", "info", "--output=json", "-f", "raw", server.uri))
assert info["virtual-size"] == served.ODD_SIZE, info
