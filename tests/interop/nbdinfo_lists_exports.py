# SPDX-License-Identifier: Apache-2.0
"""nbdinfo --list shows the disk by its name."""
import json

import daemon
import served

daemon.need("nbdinfo")
with served.served_disk() as (_, server, _):
    listing = json.loads(daemon.ok("nbdinfo", "--list", "--json", server.uri))
names = [e["export-name"] for e in listing["exports"]]
assert names == [daemon.EXPORT], names
