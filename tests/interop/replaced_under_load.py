# SPDX-License-Identifier: Apache-2.0
"""blockmigd --replace, again and again, under clients that check every sector: nobody notices.

Also what goes wrong on the way: a successor that dies, or that cannot start, leaves everything where it is.
"""
import json
import os
import types

import daemon
from successor import Doomed, control, ready, start

SIZE = 32 << 20
ROUNDS = 4


def bitmap_of(folder):
    return json.loads(control(folder, "bitmap", "ls", daemon.EXPORT, "-o", "json"))["bitmaps"][0]


def main(folder):
    image = daemon.make_image(os.path.join(folder, "a.img"), SIZE)
    path = os.path.join(folder, "nbd.sock")
    first = start(folder, "d0", "--listen", f"unix:{path}")
    servers = [first]
    try:
        assert ready(first), first.log()
        control(folder, "serve", daemon.EXPORT, "--source", image, "--bitmap", "kept")
        place = types.SimpleNamespace(socket_path=path, export=daemon.EXPORT)
        with daemon.Client(folder, place, "--connections", "4") as client:
            Doomed(folder).die()
            daemon.until(lambda: "handed over was taken back" in first.log() or not first.alive(), "the first daemon")
            assert first.alive(), first.log()
            for i in range(ROUNDS):
                client.clean_report()
                following = start(folder, f"d{i + 1}", "--replace")
                servers.append(following)
                assert ready(following), following.log()
                daemon.until(lambda: not servers[-2].alive(), "the old daemon's end")
                assert servers[-2].process.returncode == 0, servers[-2].log()
            print(f"replaced {ROUNDS} times: {client.clean_report()}")

            old = servers[-1]
            Doomed(folder).die()
            daemon.until(lambda: "handed over was taken back" in old.log(), "the old daemon to say so")
            client.clean_report()
            # Its own wishes come second: it goes on although one of its disks is not there.
            missing = os.path.join(folder, "missing.img")
            last = start(folder, "last", "--replace", "--listen", f"unix:{path}.new", "--disk",
                         f"{daemon.EXPORT}={missing}", "--disk", f"other={missing}")
            servers.append(last)
            assert ready(last), last.log()
            assert f"and not from file://{missing}: 'blockmig migrate' moves it" in last.log(), last.log()
            assert os.path.exists(f"{path}.new"), "it listens there too"
            assert "missing.img" in last.log(), last.log()
            client.clean_report()
            client.hold()
            assert client.check_file(image) == 0
            before = bitmap_of(folder)
            assert before["dirty_bytes"] > 0, before
            following = start(folder, "idle", "--replace")
            servers.append(following)
            assert ready(following), following.log()
            assert bitmap_of(folder) == before, "what was written before is still dirty"
        assert os.path.exists(path)
        servers[-1].stop()
        assert not os.path.exists(path), "the last owner of the socket removes it"
        alone = start(folder, "alone", "--replace")
        servers.append(alone)
        assert ready(alone), alone.log()
        assert daemon.EXPORT in control(folder, "ls", "disks"), "it starts as usual where none runs"
    finally:
        for server in servers:
            server.stop()


def addresses_are_recorded(folder):
    """What `serve --listen` has opened is opened again after a crash of the successor."""
    path = os.path.join(folder, "its_own.sock")
    servers = [start(folder, "d0")]
    try:
        assert ready(servers[0]), servers[0].log()
        image = daemon.make_image(os.path.join(folder, "a.img"), 1 << 20)
        control(folder, "serve", daemon.EXPORT, "--source", image, "--listen", f"unix:{path}")
        servers.append(start(folder, "d1", "--replace"))
        assert ready(servers[1]), servers[1].log()
        assert daemon.greets(path), servers[1].log()
        daemon.until(lambda: not servers[0].alive(), "the old daemon's end")
        servers[1].kill()
        servers.append(start(folder, "d2"))
        assert ready(servers[2]), servers[2].log()
        assert daemon.greets(path), servers[2].log()
    finally:
        for server in servers:
            server.stop()


for story in (main, addresses_are_recorded):
    with daemon.scratch() as scratch:
        story(scratch)
