# SPDX-License-Identifier: Apache-2.0
"""nbdinfo connects and sees the size, odd tail included, and what the server can do."""
import json

import daemon
import served

daemon.need("nbdinfo")
with served.served_disk() as (_, server, _):
    export = json.loads(daemon.ok("nbdinfo", "--json", server.uri))["exports"][0]
assert export["export-size"] == served.ODD_SIZE, export
assert not export["is_read_only"], export
for can in ("can_flush", "can_fua", "can_trim", "can_zero", "can_multi_conn"):
    assert export[can], (can, export)
if served.AGAINST == "blockmig":
    for can in ("can_cache", "can_df", "can_fast_zero"):
        assert export[can], (can, export)
    assert export["block_size_minimum"] == 1 and export["block_size_preferred"] == 4096, export
assert "base:allocation" in export["contexts"], export
