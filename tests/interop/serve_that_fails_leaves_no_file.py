# SPDX-License-Identifier: Apache-2.0
"""A file that `serve --create-size` has made goes again where the disk is not served after all: the next try finds none in
its way. One that was there before stays."""
import os
import socket

import daemon
from state_folder import StateFolder

SIZE = 8 << 20


def check(folder, host):
    path, there = (os.path.join(folder, name) for name in ("new.img", "there.img"))
    daemon.make_image(there, SIZE)
    host.start("--tls", "off")
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = f"tcp:127.0.0.1:{other.getsockname()[1]}"
        for image in (path, there):
            said = host.cli("serve", "vm1", "--source", image, "--create-size", str(SIZE), "--listen", taken)
            assert said.returncode != 0 and "ddress" in said.stderr, said
    left = sorted(name for name in os.listdir(folder) if "img" in name)
    assert left == ["there.img"], left
    assert os.path.getsize(there) == SIZE
    host.ok("serve", "vm1", "--source", path, "--create-size", str(2 * SIZE))
    host.ok("serve", "vm2", "--source", there, "--create-size", str(SIZE))
    assert os.path.getsize(path) == 2 * SIZE


with daemon.scratch() as scratch, StateFolder(os.path.join(scratch, "s")) as state:
    check(scratch, state)
