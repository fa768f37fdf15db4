# SPDX-License-Identifier: Apache-2.0
"""blockmigd --config; options that a running daemon cannot take on are refused; `ls clients` shows who is
there, and `disconnect` ends one."""
import json
import os

import daemon
import raw_nbd

with daemon.scratch() as folder:
    image = daemon.make_image(os.path.join(folder, "a.img"), 1 << 20)
    path, state = os.path.join(folder, "d.sock"), os.path.join(folder, "s")
    config = os.path.join(folder, "blockmigd.toml")
    with open(config, "w", encoding="utf-8") as f:
        f.write(f'state-dir = "{state}"\nlisten = ["unix:{path}"]\ndisk = "{daemon.EXPORT}={image}"\n'
                f'allow-uid = {os.getuid()}\nthreads = 2\n[limit]\nconnections = 3\n')

    def cli(*arguments):
        return daemon.run(daemon.built("blockmig"), "--state-dir", state, *arguments)

    with daemon.Process([daemon.built("blockmigd"), "--config", config], os.path.join(folder, "log")) as d:
        daemon.until(lambda: "ready" in d.log() or not d.alive(), "ready")
        # The first connections see the disk: the address opens with it.
        clients = [raw_nbd.attached(path) for _ in range(3)]
        assert raw_nbd.is_closed(raw_nbd.connect(path)), "connections = 3"
        assert raw_nbd.works(clients[0], 65536)

        listed = json.loads(cli("ls", "clients", "-o", "json").stdout)["clients"]
        assert len(listed) == 3, listed
        first = listed[0]
        assert first["identity"] == f"uid:{os.getuid()}" and first["disk"] == daemon.EXPORT, first
        assert first["style"] == "simple" and first["tls"] is False, first
        assert first["requests"] == 1 and first["bytes_read"] == 65536 and first["in_flight"] == 0, first
        assert first["idle_seconds"] <= first["connected_seconds"], first
        wide = cli("ls", "clients", "-o", "wide").stdout.splitlines()
        assert len(wide) == 4 and "IDENTITY" in wide[0] and "READ RATE" in wide[0], wide

        gone = cli("disconnect", str(first["id"]))
        assert gone.returncode == 0, gone
        assert raw_nbd.is_closed(clients[0])
        daemon.until(lambda: len(json.loads(cli("ls", "clients", "-o", "json").stdout)["clients"]) == 2,
                     "the client to be gone")
        assert all(raw_nbd.works(s) for s in clients[1:])
        assert cli("disconnect", str(first["id"])).returncode == 4

        other = daemon.make_image(os.path.join(folder, "b.img"), 1 << 20)
        refused = cli("serve", "other", "--source", other, "--allow-uid", "0", "--limit", "options=9")
        assert refused.returncode == 2, refused
        assert "--allow-uid --limit" in refused.stderr and "runs already" in refused.stderr, refused
        assert cli("serve", "other", "--source", other).returncode == 0
