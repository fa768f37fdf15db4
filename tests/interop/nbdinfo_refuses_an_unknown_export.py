# SPDX-License-Identifier: Apache-2.0
"""Asking for an export that does not exist fails in words, and the server goes on."""
import daemon
import served

daemon.need("nbdinfo")
with served.served_disk() as (_, server, _):
    wrong = daemon.run("nbdinfo", server.uri.replace(daemon.EXPORT, "no-such-disk"))
    assert wrong.returncode != 0
    assert "no-such-disk" in wrong.stderr or "not" in wrong.stderr, wrong.stderr
    daemon.ok("nbdinfo", server.uri)
