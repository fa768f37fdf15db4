# SPDX-License-Identifier: Apache-2.0
"""libnbd starts blockmigd and `blockmig serve` itself: by socket activation, and on a socket that is the
server's standard input and output."""
import os

import daemon

SCRIPT = """
import sys
for name in ("connect_systemd_socket_activation", "connect_command"):
    h = nbd.NBD()
    h.set_export_name({export!r})
    stdio = ["--stdio"] if name == "connect_command" else []
    getattr(h, name)({command!r} + stdio)
    assert h.get_size() == 1 << 20
    data = h.pread(65536, 4096)
    assert data == open({image!r}, "rb").read()[4096:4096 + 65536], name
    h.shutdown()
"""
with daemon.scratch() as folder:
    image = daemon.make_image(os.path.join(folder, "a.img"), 1 << 20)
    state = os.path.join(folder, "s")
    for command in ([daemon.built("blockmigd"), "--state-dir", state, "--disk",
                     f"{daemon.EXPORT}={image}"],
                    [daemon.built("blockmig"), "serve", daemon.EXPORT, "--source", image,
                     "--state-dir", state, "--threads", "2"]):
        daemon.nbdsh("-c", SCRIPT.format(export=daemon.EXPORT, command=command, image=image))
        assert not daemon.run("pgrep", "-f", state).stdout, "it outlived its client"
