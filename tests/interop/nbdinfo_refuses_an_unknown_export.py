# SPDX-License-Identifier: Apache-2.0
"""Asking for an export that does not exist fails in words, and the server goes on."""
import daemon
import served

daemon.need("nbdinfo")
with served.served_disk() as (_, server, _):
    wrong = daemon.run("nbdinfo", server.uri.replace(daemon.EXPORT, "no-such-disk"))
    assert wrong.returncode != 0
    assert "No such file or directory for export: no-such-disk" in wrong.stderr, wrong.stderr
    if served.AGAINST == "blockmig":
        daemon.until(lambda: "asked for a disk that is not here" in server.log(), "why, in the log")
    daemon.ok("nbdinfo", server.uri)
