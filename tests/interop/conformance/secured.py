# SPDX-License-Identifier: Apache-2.0
"""Our daemon with TLS, and clients that begin with STARTTLS. What ends inside TLS ends with close_notify: the client
takes no other end (client.py, secure())."""
import atexit
import contextlib
import functools
import importlib
import ssl

import daemon
import target
import wire
from cases import Failed, equal

ENDS = contextlib.ExitStack()  # of the servers and the certificates, which all cases share
atexit.register(ENDS.close)


@functools.lru_cache(None)
def authority(name):
    """Certificates. Imported here: where certtool is missing, this area is skipped, not the suite."""
    credentials = importlib.import_module("tls_credentials")
    return credentials.Pki(ENDS.enter_context(daemon.scratch()), name)


@functools.lru_cache(None)
def client_certificate(name):
    return authority(name).client("vm1")


def client_context(own="ours"):
    """A client that trusts our server; `own` is whose certificate it shows: None none."""
    context = ssl.create_default_context(cafile=authority("ours").certificate)
    if own:
        folder = client_certificate(own)
        context.load_cert_chain(folder + "/client-cert.pem", folder + "/client-key.pem")
    return context


@functools.lru_cache(None)
def running(mode, *more):
    folder = ENDS.enter_context(daemon.scratch())
    image = daemon.make_image(folder + "/disk0.img", target.SIZE)
    tls = ("--tls", mode, "--tls-certs", authority("ours").server, *more)
    return ENDS.enter_context(daemon.Daemon(folder, image, extra=tls))


def server_of(server, mode="require", *more):
    """(our daemon with TLS, the same for clients that begin with STARTTLS)"""
    server.need_ours()
    process = running(mode, *more)
    plain, inside = (target.Target(process.socket_path, daemon.EXPORT.encode()) for _ in range(2))
    plain.process = inside.process = process
    inside.tls = client_context()
    return plain, inside


def until_closed(c):
    """All that comes until the server closes, as it must."""
    got = b""
    while True:
        try:
            part = c.socket.recv(4096)
        except ConnectionResetError:
            return got
        except TimeoutError as error:
            raise Failed("the server neither closed nor answered") from error
        if not part:
            return got
        got += part


def begin_tls(c, inside):
    """From the clear to the inside of the same server."""
    c.option(wire.STARTTLS)
    c.expect_ack(wire.STARTTLS)
    c.secure(inside.tls)


def works(inside):
    """Data goes in and comes back; the version that was agreed."""
    with inside.transmit() as t:
        t.write(777, wire.pattern(100_000))
        equal(t.read(777, 100_000), wire.pattern(100_000), "data")
        return t.socket.version()
