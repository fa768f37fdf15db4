# SPDX-License-Identifier: Apache-2.0
"""What cannot be handed over in the middle of a move is refused, with what to do; the move is as it was, goes on, and no
client notices. Once that is out of the way the next one takes over."""
import os
import types

import replacing
from moves import daemon, MIB
import raw_nbd
import successor
import tls_credentials

nbd = daemon.import_nbd(__file__)


def still_the_first_attempt(host):
    host.is_under_way(host.job()["bytes_copied"] + 1)
    assert host.job()["attempt"] == 1 and host.server.alive(), host.job()
    host.client.clean_report()


def would_end_with_its_daemon(folder):
    with replacing.Host(folder, "dbt") as host:
        host.begin("--on-restart", "abort")
        host.is_under_way()
        said = host.refused()
        assert "would end with this daemon (--on-restart abort)" in said and "'blockmig abort job-1'" in said, said
        still_the_first_attempt(host)
        host.end()


def target_is_silent(folder):
    daemon.need("qemu-nbd")
    image = os.path.join(folder, "peer.img")
    with open(image, "wb") as empty:
        empty.truncate(replacing.SIZE)
    with daemon.qemu_nbd(folder, image) as store, replacing.Host(folder, "mirror") as host:
        host.target = store.uri
        host.begin()
        host.is_under_way()
        store.freeze()
        for _ in range(2):  # the target has something to answer
            daemon.until(lambda: host.client.clean_report()["requests"] > 0, "requests")
        said = host.refused()
        assert "job-1 of disk 'disk0' cannot be left to another daemon now: its target" in said, said
        assert host.server.alive() and "is suspended" not in host.server.log(), host.server.log()
        store.thaw()
        still_the_first_attempt(host)
        host.replace()
        host.goes_on(2)
        host.target = image
        host.end()


def client_has_tls(folder):
    """Its keys stay: it is named, and the others wait for nothing."""
    keys = tls_credentials.keys(folder, "alice")
    options = ("--tls", "on", "--tls-psk", keys)
    with replacing.Host(folder, "mirror", daemon_options=options) as host:
        host.begin()
        host.is_under_way()
        sealed = nbd.NBD()
        sealed.set_uri_allow_local_file(True)
        place = types.SimpleNamespace(socket_path=host.path, export=daemon.EXPORT)
        sealed.connect_uri(tls_credentials.psk_uri(place, keys))
        said = host.refused(*options)
        assert "connections with TLS, or on pipes, cannot be handed over: clients" in said, said
        assert "wait for them, or disconnect them" in said, said
        assert sealed.pread(512, 0) is not None
        still_the_first_attempt(host)
        sealed.shutdown()
        host.replace(*options)
        host.goes_on(2)
        host.end()


def client_is_in_mid_request(folder):
    with replacing.Host(folder, "dbt") as host:
        host.begin()
        host.is_under_way()
        slow = raw_nbd.attached(host.path)
        slow.sendall(raw_nbd.request(raw_nbd.WRITE, 1, 0, MIB, bytes(MIB // 2)))
        said = host.refused()
        assert "stays in the middle of a request" in said, said
        slow.close()
        still_the_first_attempt(host)
        host.replace()
        host.goes_on(2)
        host.end()


for story in (would_end_with_its_daemon, target_is_silent, client_has_tls, client_is_in_mid_request):
    with daemon.scratch() as scratch:
        story(scratch)
    print(story.__name__)
