# SPDX-License-Identifier: Apache-2.0
"""qemu-img map finds the holes: what it calls zero reads as zeros, and it finds some."""
import json

import daemon
import served

daemon.need("qemu-img")
with served.served_disk() as (_, server, image):
    extents = json.loads(daemon.ok("qemu-img", "map", "--output=json", "-f", "raw", server.uri))
    assert sum(e["length"] for e in extents) == served.ODD_SIZE
    zeros = [e for e in extents if e["zero"]]
    assert zeros and len(zeros) < len(extents), extents
    with open(image, "rb") as f:
        for e in zeros:
            f.seek(e["start"])
            assert not any(f.read(e["length"])), e
