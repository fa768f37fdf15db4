# SPDX-License-Identifier: Apache-2.0
"""`qemu-nbd --list` and `nbdinfo --list`, which ask about each export on one connection, show hundreds of them."""
import json
import os

import daemon

EXPORTS = 300

daemon.need("qemu-nbd")
daemon.need("nbdinfo")
with daemon.scratch() as folder:
    path = os.path.join(folder, "n.sock")
    arguments = [daemon.built("blockmigd"), "--state-dir", os.path.join(folder, "s"), "--listen", f"unix:{path}"]
    for i in range(EXPORTS):
        arguments += ["--disk", f"vm{i}={daemon.make_image(os.path.join(folder, f'{i}.img'), 1 << 16)}"]
    with daemon.NbdServer(arguments, path, os.path.join(folder, "log")) as server:
        daemon.until(lambda: "ready" in server.log(), "the daemon to be ready")
        listed = daemon.ok("qemu-nbd", "--list", "-k", path)
        assert listed.count(" export: ") == EXPORTS, listed[-500:]
        listed = json.loads(daemon.ok("nbdinfo", "--list", "--json", f"nbd+unix:///?socket={path}"))
        names = {export["export-name"] for export in listed["exports"]}
        assert names == {f"vm{i}" for i in range(EXPORTS)}, names
