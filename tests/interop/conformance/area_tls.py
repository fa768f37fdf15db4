# SPDX-License-Identifier: Apache-2.0
"""The TLS handshake and what is inside: versions, failures, ends, payloads. Names, keys and who may see what are with
the tests of TLS."""
import contextlib
import ssl
import warnings

import daemon
import secured
import wire
from cases import MUST, OURS, SHOULD, Failed, case, check, each, equal
from client import Connection
from secured import client_context, until_closed, works

FORCED = "TLS support: FORCEDTLS mode"
STYLES = {style: (style,) for style in (wire.SIMPLE, wire.STRUCTURED, wire.EXTENDED)}


def of_version(version):
    context = client_context()
    context.set_ciphers("ALL:@SECLEVEL=0")  # for what the client would not do by itself
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = version
    return context


@case("TLS support: TLS versions", MUST)
def tls_1_2_works(server):
    _, inside = secured.server_of(server)
    inside.tls = of_version(ssl.TLSVersion.TLSv1_2)
    equal(works(inside), "TLSv1.2", "version")


@case("TLS support: TLS versions", SHOULD)
def tls_1_3_works_and_is_preferred(server):
    _, inside = secured.server_of(server)
    equal(works(inside), "TLSv1.3", "version")


@each("TLS support: TLS versions", SHOULD, {"1_0": (ssl.TLSVersion.TLSv1,), "1_1": (ssl.TLSVersion.TLSv1_1,)})
def older_tls_is_refused(server, version):
    """By the server's alert, not by what our client can do."""
    _, inside = secured.server_of(server)
    inside.tls = of_version(version)
    try:
        with inside.haggle():
            raise Failed(f"{version} is served")
    except ssl.SSLError as error:
        check("ALERT_PROTOCOL_VERSION" in str(error), f"refused otherwise: {error}")
    inside.tls = client_context()
    works(inside)


def rubbish(c):
    c.send_to_closing(b"GET / HTTP/1.1\r\n\r\n" * 20)
    return until_closed(c)


def stranger(c, own):
    """Inside TLS 1.3 the client hears of it with its first read."""
    try:
        c.secure(client_context(own))
        c.send_to_closing(wire.option(wire.LIST))
        return until_closed(c)
    except (ssl.SSLError, ConnectionError):
        return b""


@each(FORCED, MUST, {"rubbish": (rubbish,), "no_certificate": (lambda c: stranger(c, None),),
                     "another_authority": (lambda c: stranger(c, "strangers"),)})
def failed_handshake_drops(server, attempt):
    plain, inside = secured.server_of(server, "on")
    with plain.haggle() as c:
        c.option(wire.STARTTLS)
        c.expect_ack(wire.STARTTLS)
        c.ended = True
        check(wire.be64(wire.OPTION_REPLY_MAGIC) not in attempt(c), "an option was answered")
    works(inside)


@each("Terminating the transmission phase", MUST, STYLES)
def disc_shuts_tls_down_before_the_end(server, style):
    """After the replies to all that is in flight: close_notify, then the end."""
    _, inside = secured.server_of(server)
    with inside.transmit(style) as t:
        frames = [t.frame(wire.READ, 0, 65536, wire.DF if style != wire.SIMPLE else 0) for _ in range(8)]
        _, disc = t.frame(wire.DISC, 0, 0)
        t.send(b"".join(request for _, request in frames) + disc)
        equal(sum(len(part) for part in iter(lambda: t.socket.recv(1 << 16), b"")) // 65536, 8, "replies")
        t.expect_closed()


@each("Termination of the session during option haggling", SHOULD, {
    "abort": (wire.option(wire.ABORT), wire.option_reply(wire.ABORT, wire.REP_ACK)),
    "export_name": (wire.option(wire.EXPORT_NAME, b"there-is-none"), b""), "rubbish": (b"GET / HTTP/1.1\r\n\r\n", b"")})
def ended_haggling_shuts_tls_down(server, sent, answer):
    _, inside = secured.server_of(server)
    with inside.haggle() as c:
        c.send(sent)
        c.expect(answer)
        c.expect_closed()


@case("Terminating the transmission phase", OURS)
def client_that_ends_tls_is_let_go(server):
    """close_notify instead of DISC, and an end of the connection without either: others are served."""
    _, inside = secured.server_of(server)
    t = inside.transmit()
    t.ask(wire.FLUSH, 0, 0)
    with contextlib.suppress(ssl.SSLError):  # the reply may come before the server's close_notify
        t.socket.unwrap()
    t.socket.close()
    t = inside.transmit()
    t.ask(wire.READ, 0, 1 << 20)
    t.socket.close()
    works(inside)
    daemon.until(lambda: not inside.process.get("/v1/clients")["clients"], "the clients to be gone")


@each("NBD_CMD_WRITE", SHOULD, {f"{style}_{size}": (style, size) for style in STYLES
                                for size in (1, 16_384, 70_001, 8 << 20)})
def failed_write_consumes_its_payload_inside(server, style, size):
    """The payload looks like requests; one that is taken for such ends the connection."""
    _, inside = secured.server_of(server)
    with inside.transmit(style) as t:
        build = wire.extended_request if style == wire.EXTENDED else wire.request
        payload = (build(wire.DISC, 0, 0) * (size // 28 + 1))[:size]
        t.expect_fails(t.put(t.size, payload), wire.ENOSPC)
        t.expect_fails(t.put(0, payload, 1 << 14), wire.EINVAL)
        t.write(0, wire.pattern(4096))
        equal(t.read(0, 4096), wire.pattern(4096), "data")


@each("NBD_CMD_READ", MUST, STYLES)
def data_crosses_records(server, style):
    """A record has 16 KiB at most; lengths around that, and requests of a byte a record."""
    _, inside = secured.server_of(server)
    with inside.transmit(style) as t:
        for size in (1, 16_383, 16_384, 16_385, 1 << 20, 5 << 20):
            t.write(512, wire.pattern(size, size % 7))
            equal(t.read(512, size), wire.pattern(size, size % 7), f"{size} bytes")
        cookie, request = t.frame(wire.READ, 512, 100)
        t.send_bytewise(request)
        equal(t.expect_data(cookie), wire.pattern(100, (5 << 20) % 7), "data")


@case("NBD_OPT_STARTTLS", OURS)
def handshake_in_pieces_works(server):
    """The client's first flight comes a byte at a time."""
    plain, inside = secured.server_of(server)
    c = Connection(plain.address)
    c.receive(18)
    c.send(wire.be32(3))
    c.send_bytewise(wire.option(wire.STARTTLS))
    c.expect(wire.option_reply(wire.STARTTLS, wire.REP_ACK))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = inside.tls.wrap_bio(incoming, outgoing, server_hostname="localhost")
    while True:
        try:
            tls.do_handshake()
            break
        except ssl.SSLWantReadError:
            c.send_bytewise(outgoing.read())
            incoming.write(c.socket.recv(1 << 16))
    tls.write(wire.option(wire.ABORT))
    c.send_bytewise(outgoing.read())
    got = b""
    while len(got) < 20:
        with contextlib.suppress(ssl.SSLWantReadError):
            got += tls.read(20 - len(got))
            continue
        incoming.write(c.socket.recv(1 << 16))
    equal(got, wire.option_reply(wire.ABORT, wire.REP_ACK), "answer to ABORT")
    c.socket.close()
