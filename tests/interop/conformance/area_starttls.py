# SPDX-License-Identifier: Apache-2.0
"""STARTTLS: who is refused without, what is forgotten by it, and that nothing slips in with it."""
import secured
import target
import wire
from cases import MUST, OURS, case, check, each, equal

STARTTLS = "NBD_OPT_STARTTLS"
FORCED, SELECTIVE, NOTLS = (f"TLS support: {mode} mode" for mode in ("FORCEDTLS", "SELECTIVETLS", "NOTLS"))
MODES = {"on": ("on",), "require": ("require",)}
BASE = b"base:allocation"


def options(export):
    """Each option but STARTTLS, ABORT and EXPORT_NAME, right and wrong ones."""
    data = {"LIST": (wire.LIST, b""), "INFO": (wire.INFO, wire.info_data(export)),
            "GO": (wire.GO, wire.info_data(export, wire.INFO_BLOCK_SIZE)),
            "STRUCTURED_REPLY": (wire.STRUCTURED_REPLY, b""),
            "LIST_META_CONTEXT": (wire.LIST_META_CONTEXT, wire.meta_data(export, BASE)),
            "SET_META_CONTEXT": (wire.SET_META_CONTEXT, wire.meta_data(export, BASE)),
            "EXTENDED_HEADERS": (wire.EXTENDED_HEADERS, b""), "PEEK_EXPORT": (wire.PEEK_EXPORT, b""),
            "unknown": (77, b"x" * 5000), "GO_malformed": (wire.GO, b"\xff" * 7), "LIST_with_data": (wire.LIST, b"x"),
            "GO_missing": (wire.GO, wire.info_data(b"there-is-none"))}
    return data.items()


@case(FORCED, MUST)
def required_tls_comes_before_every_option(server):
    """One error each, which names no export, and all in step: the end is an ABORT that is acknowledged."""
    plain, _ = secured.server_of(server)
    with plain.haggle() as c:
        for number, data in [sent for _, sent in options(plain.export)] * 2:
            c.option(number, data)
            _, text = c.expect_error(number, wire.ERR_TLS_REQD)
            check(plain.export.decode() not in text, f"said without TLS: {text}")


@each(FORCED, MUST, {"known": (b"disk0",), "missing": (b"there-is-none",), "default": (b"",)})
def required_tls_drops_export_name(server, name):
    plain, _ = secured.server_of(server)
    with plain.haggle() as c:
        c.option(wire.EXPORT_NAME, name)
        c.expect_closed()


@each("TLS support: Server-side requirements", MUST, {"no_flags": (0,), "no_zeroes": (wire.C_NO_ZEROES,)})
def required_tls_serves_nobody_without_fixed_newstyle(server, flags):
    plain, _ = secured.server_of(server)
    with plain.haggle(flags) as c:
        c.send_to_closing(wire.option(wire.EXPORT_NAME, plain.export))
        c.expect_closed()


@case(FORCED, MUST)
def exports_are_listed_inside_only(server):
    plain, inside = secured.server_of(server)
    with plain.haggle() as c:
        c.option(wire.LIST)
        c.expect_error(wire.LIST, wire.ERR_TLS_REQD)
        secured.begin_tls(c, inside)
        c.option(wire.LIST)
        c.expect(wire.option_reply(wire.LIST, wire.REP_SERVER, wire.string32(plain.export)) +
                 wire.option_reply(wire.LIST, wire.REP_ACK))


@case(FORCED, OURS)
def tls_list_answers_list_and_nothing_else(server):
    plain, _ = secured.server_of(server, "require", "--tls-list")
    with plain.haggle() as c:
        for name, (number, data) in options(plain.export):
            c.option(number, data)
            if number != wire.LIST:
                c.expect_error(number, wire.ERR_TLS_REQD)
            elif data:
                c.expect_error(number, wire.ERR_INVALID)
            else:
                equal([kind for kind, _ in c.replies(number)], [wire.REP_SERVER, wire.REP_ACK], name)


@each(FORCED, MUST, MODES)
def tls_is_never_required_inside(server, mode):
    _, inside = secured.server_of(server, mode)
    for name, (number, data) in options(inside.export):
        with inside.haggle() as c:
            c.option(number, data)
            kinds = [kind for kind, _ in c.replies(number)]
            check(wire.ERR_TLS_REQD not in kinds, f"{name}: TLS_REQD inside TLS")
            if name == "GO":
                c.send(wire.request(wire.DISC, 0, 0))
                c.expect_closed()


@case(SELECTIVE, MUST)
def offered_tls_is_not_required(server):
    plain, inside = secured.server_of(server, "on")
    for name, (number, data) in options(plain.export):
        with plain.haggle() as c:
            c.option(number, data)
            check(wire.ERR_TLS_REQD not in [kind for kind, _ in c.replies(number)], f"{name}: TLS_REQD")
            if name == "GO":
                c.send(wire.request(wire.DISC, 0, 0))
                c.expect_closed()
    with plain.transmit() as a, inside.transmit() as b:
        a.write(4096, wire.pattern(4096))
        equal(b.read(4096, 4096), wire.pattern(4096), "data by TLS")


@case(NOTLS, MUST)
def refused_starttls_changes_nothing(server):
    """Where there is no TLS; what was negotiated before holds still."""
    server.need_ours()
    with server.haggle_structured() as c:
        c.set_contexts(server.export, BASE)
        c.option(wire.STARTTLS)
        c.expect_error(wire.STARTTLS, wire.ERR_UNSUP, wire.ERR_POLICY)
        c.info(wire.GO, server.export)
        c.send(wire.request(wire.BLOCK_STATUS, 0, 4096, wire.REQ_ONE, cookie=3))
        equal(c.receive(8), wire.chunk(wire.STATUS, 3)[:8], "a chunk of status")
        c.receive(8)
        c.receive(int.from_bytes(c.receive(4), "big"))
        c.send(wire.request(wire.DISC, 0, 0))
        c.expect_closed()


@each(FORCED, MUST, MODES)
def second_starttls_is_invalid(server, mode):
    _, inside = secured.server_of(server, mode)
    with inside.haggle() as c:
        for data in (b"", b"x", b""):
            c.option(wire.STARTTLS, data)
            c.expect_error(wire.STARTTLS, wire.ERR_INVALID)
        c.info(wire.INFO, inside.export)


@each(STARTTLS, MUST, MODES)
def starttls_with_data_is_never_acknowledged(server, mode):
    _, inside = secured.server_of(server, mode)
    with target.Target(inside.address, inside.export).haggle() as c:
        for data in (b"x", bytes(8000), wire.option(wire.LIST)):
            c.option(wire.STARTTLS, data)
            c.expect_error(wire.STARTTLS, wire.ERR_INVALID)
        secured.begin_tls(c, inside)
        c.info(wire.INFO, inside.export)


def hurried(export):
    """What a man in the middle could put behind STARTTLS."""
    return {"list": wire.option(wire.LIST), "go": wire.option(wire.GO, wire.info_data(export)),
            "structured_reply": wire.option(wire.STRUCTURED_REPLY), "abort": wire.option(wire.ABORT),
            "starttls": wire.option(wire.STARTTLS), "half_an_option": b"IHAVE", "a_byte": b"\x16",
            "export_name": wire.option(wire.EXPORT_NAME, export)}


@each(STARTTLS, MUST, {f"{mode}_{name}": (mode, name) for mode in MODES for name in hurried(b"")})
def bytes_behind_starttls_are_not_taken_into_tls(server, mode, name):
    """In the same segment. They are neither answered in the clear nor acted on inside: ours closes."""
    plain, _ = secured.server_of(server, mode)
    with plain.haggle() as c:
        c.send_to_closing(wire.option(wire.STARTTLS) + hurried(plain.export)[name])
        c.expect_closed()


@each(STARTTLS, MUST, MODES)
def nothing_is_answered_in_the_clear_after_the_acknowledgement(server, mode):
    plain, inside = secured.server_of(server, mode)
    for name, sent in hurried(plain.export).items():
        with plain.haggle() as c:
            c.option(wire.STARTTLS)
            c.expect_ack(wire.STARTTLS)
            c.send_to_closing(sent * 40)
            c.ended = True
            check(wire.be64(wire.OPTION_REPLY_MAGIC) not in secured.until_closed(c), f"{name} was answered")
    with inside.haggle() as c:
        c.info(wire.INFO, inside.export)


@case(STARTTLS, MUST)
def structured_replies_are_forgotten(server):
    plain, inside = secured.server_of(server, "on")
    with plain.haggle() as c:
        c.negotiate(wire.STRUCTURED_REPLY)
        secured.begin_tls(c, inside)
        c.option(wire.SET_META_CONTEXT, wire.meta_data(plain.export, BASE))
        c.expect_error(wire.SET_META_CONTEXT, wire.ERR_INVALID)
        c.negotiate(wire.STRUCTURED_REPLY)  # not the second time
        c.info(wire.INFO, plain.export)


@each(STARTTLS, MUST, {"structured": (wire.STRUCTURED_REPLY,), "extended": (wire.EXTENDED_HEADERS,)})
def headers_are_simple_again(server, number):
    plain, inside = secured.server_of(server, "on")
    with plain.haggle() as c:
        c.negotiate(number)
        secured.begin_tls(c, inside)
        c.option(wire.EXPORT_NAME, plain.export)
        c.receive(10)
        c.send(wire.request(wire.READ, 0, 512, cookie=5))
        c.expect(wire.simple_reply(5))
        c.receive(512)
        c.send(wire.request(wire.DISC, 0, 0))
        c.expect_closed()


@case(STARTTLS, MUST)
def contexts_are_forgotten(server):
    plain, inside = secured.server_of(server, "on")
    with plain.haggle_structured() as c:
        equal(list(c.set_contexts(plain.export, BASE)), [BASE], "contexts")
        secured.begin_tls(c, inside)
        c.negotiate(wire.STRUCTURED_REPLY)
        c.info(wire.GO, plain.export)
        c.send(wire.request(wire.BLOCK_STATUS, 0, 4096, cookie=3))
        equal(c.receive(8), wire.chunk(wire.ERROR, 3)[:8], "an error chunk")
        c.receive(8)
        payload = c.receive(int.from_bytes(c.receive(4), "big"))
        equal(payload[:4], wire.be32(wire.EINVAL), "error of BLOCK_STATUS")
        c.send(wire.request(wire.DISC, 0, 0))
        c.expect_closed()


@each("Client flags", MUST, {"no_zeroes": (wire.C_FIXED_NEWSTYLE | wire.C_NO_ZEROES, 0),
                             "zeroes": (wire.C_FIXED_NEWSTYLE, 124)})
def client_flags_hold_inside(server, flags, zeroes):
    """They are no state of the options."""
    _, inside = secured.server_of(server)
    with inside.haggle(flags) as c:
        c.option(wire.EXPORT_NAME, inside.export)
        equal(c.receive(10 + zeroes)[10:], bytes(zeroes), "padding")
        c.send(wire.request(wire.FLUSH, 0, 0, cookie=9))
        c.expect(wire.simple_reply(9))
        c.send(wire.request(wire.DISC, 0, 0))
        c.expect_closed()
