# SPDX-License-Identifier: Apache-2.0
"""tcp::PORT takes IPv4 and IPv6; an address takes its own family only; several listeners at once."""
import os
import socket

import daemon
import raw_nbd

try:
    with socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
except OSError:
    daemon.skip("no IPv6 here")


def free_port():
    with socket.socket(socket.AF_INET6) as s:
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        s.bind(("::", 0))
        return s.getsockname()[1]


def reaches(host, port):
    try:
        return raw_nbd.works(raw_nbd.attached((host, port)))
    except ConnectionRefusedError:
        return False


both, only_6, only_4 = free_port(), free_port(), free_port()
with daemon.scratch() as folder:
    image = daemon.make_image(os.path.join(folder, "a.img"), 1 << 20)
    careless = daemon.run(daemon.built("blockmig"), "serve", "vm1", "--source", image, "--state-dir",
                          os.path.join(folder, "s"), "--listen", f"tcp::{both}")
    assert careless.returncode == 2 and "--tls off" in careless.stderr, careless
    listen = ("--tls", "off", "--listen", f"tcp::{both}", "--listen", f"tcp:[::1]:{only_6}", "--listen",
              f"tcp:127.0.0.1:{only_4}")
    with daemon.Daemon(folder, image, extra=listen) as disk:
        assert reaches("127.0.0.1", both) and reaches("::1", both)
        assert reaches("::1", only_6) and not reaches("127.0.0.1", only_6)
        assert reaches("127.0.0.1", only_4) and not reaches("::1", only_4)
        kept = [raw_nbd.attached(("::1", both)), raw_nbd.attached(("127.0.0.1", both))]
        peers = {c["peer"].rpartition(":")[0] for c in disk.get("/v1/clients")["clients"]}
        assert {"tcp:[::1]", "tcp:127.0.0.1"} <= peers, peers
        for s in kept:
            s.close()
