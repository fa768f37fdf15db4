# SPDX-License-Identifier: Apache-2.0
"""Unknown options, ABORT, LIST, STARTTLS without TLS, STRUCTURED_REPLY, EXTENDED_HEADERS."""
import wire
from cases import MUST, NotOffered, OURS, SHOULD, case, check, each, equal

UNKNOWN = {"0": (0, 0), "4_peek_export": (wire.PEEK_EXPORT, 0), "12": (12, 7), "77_one_byte": (77, 1),
           "77_4096_bytes": (77, 4096), "77_9000_bytes": (77, 9000), "77_1_MB": (77, 10**6),
           "2147483648": (2**31, 3), "4294967295": (2**32 - 1, 0)}
TAKE_NO_DATA = {"list": (wire.LIST,), "structured_reply": (wire.STRUCTURED_REPLY,),
                "extended_headers": (wire.EXTENDED_HEADERS,)}


@each("Fixed newstyle negotiation", MUST, UNKNOWN)
def unknown_option_is_unsup_and_skipped(server, number, size):
    """One reply, the payload skipped whole, and haggling goes on."""
    with server.haggle() as c:
        c.option(number, b"IHAVEOPT"[:size] + wire.pattern(max(size - 8, 0)))
        c.expect_error(number, wire.ERR_UNSUP)


@case("Fixed newstyle negotiation", OURS)
def errors_to_options_say_why(server):
    server.need_ours()
    with server.haggle() as c:
        c.option(77)
        check(c.expect_error(77, wire.ERR_UNSUP)[1], "no text")


@case("Termination of the session during option haggling", OURS)
def option_header_of_an_absurd_length_closes(server):
    """More than 32 MiB is a denial of service; who did not mean it hears why."""
    with server.haggle() as c:
        c.send(wire.option(77, length=2**32 - 1))
        c.expect_error(77, wire.ERR_TOO_BIG)
        c.expect_closed()


@each("NBD_OPT_ABORT", MUST, {"plain": (b"",), "with_data": (b"why not",), "with_9000_bytes": (b"a" * 9000,)})
def abort_is_acknowledged_then_closed(server, data):
    """Data is ignored rather than refused."""
    with server.haggle() as c:
        c.option(wire.ABORT, data)
        c.expect_ack(wire.ABORT)
        c.ended = True
        if len(data) < 100:
            c.expect_closed()


@case("NBD_OPT_ABORT", SHOULD)
def abort_without_waiting_harms_nobody(server):
    for _ in range(20):
        with server.haggle() as c:
            c.option(wire.ABORT)
            c.ended = True
    with server.haggle():
        pass


@case("NBD_OPT_LIST", MUST)
def list_is_servers_then_one_ack(server):
    with server.haggle() as c:
        c.option(wire.LIST)
        found = c.replies(wire.LIST)
        equal(found[-1], (wire.REP_ACK, b""), "end of the list")
        for kind, data in found[:-1]:
            equal(kind, wire.REP_SERVER, "reply type")
            size = int.from_bytes(data[:4], "big")
            check(size <= min(len(data) - 4, wire.MAX_STRING), "length of the name")
            data[4:4 + size].decode()
            data[4 + size:].decode()


@case("NBD_OPT_LIST", OURS)
def list_shows_every_export_once_with_its_description(server):
    server.need_ours()
    with server.haggle() as c:
        c.option(wire.LIST)
        names = {}
        for kind, data in c.replies(wire.LIST)[:-1]:
            equal(kind, wire.REP_SERVER, "reply type")
            size = int.from_bytes(data[:4], "big")
            check(data[4:4 + size] not in names, "a name twice")
            names[data[4:4 + size]] = data[4 + size:].decode()
        equal(set(names), {b"disk0", b"sealed", b"large", b"aligned"}, "names")
        equal(names[b"disk0"], "Prüfling für die Conformance", "description")


@case("NBD_OPT_LIST", MUST)
def every_listed_export_has_information(server):
    with server.haggle() as c:
        c.option(wire.LIST)
        for _, data in c.replies(wire.LIST)[:-1]:
            size = int.from_bytes(data[:4], "big")
            c.info(wire.INFO, data[4:4 + size], wire.INFO_BLOCK_SIZE)


@case("NBD_OPT_LIST", OURS)
def list_twice_is_the_same_list(server):
    with server.haggle() as c:
        c.option(wire.LIST)
        first = c.replies(wire.LIST)
        c.option(wire.LIST)
        equal(c.replies(wire.LIST), first, "second list")


@each("Option types", SHOULD, TAKE_NO_DATA)
def data_where_none_belongs_is_invalid_once(server, number):
    """One reply, not two, and what follows is in step."""
    with server.haggle() as c:
        c.option(number, b"\0\0\0\0\0")
        kind, _ = c.expect_error(number, wire.ERR_INVALID, wire.ERR_UNSUP)
        if kind == wire.ERR_UNSUP:
            raise NotOffered(f"option {number}")


@each("Option types", MUST, TAKE_NO_DATA)
def data_of_9000_bytes_where_none_belongs_stays_in_step(server, number):
    with server.haggle() as c:
        c.option(number, b"z" * 9000)
        c.expect_error(number, wire.ERR_INVALID, wire.ERR_TOO_BIG, wire.ERR_UNSUP)


@case("NBD_OPT_STRUCTURED_REPLY", SHOULD)
def refused_structured_reply_changes_nothing(server):
    with server.haggle() as c:
        c.option(wire.STRUCTURED_REPLY, b"data")
        kind, _ = c.expect_error(wire.STRUCTURED_REPLY, wire.ERR_INVALID, wire.ERR_UNSUP)
        if kind == wire.ERR_UNSUP:
            raise NotOffered("structured replies")
        flags = c.info(wire.INFO, server.export)[wire.INFO_EXPORT][8:]
        check(not int.from_bytes(flags, "big") & wire.SEND_DF, "DF offered")


@case("NBD_OPT_STRUCTURED_REPLY", MUST)
def structured_reply_is_acknowledged_without_data(server):
    with server.haggle() as c:
        c.option(wire.STRUCTURED_REPLY)
        kind, data = c.reply(wire.STRUCTURED_REPLY)
        if kind == wire.ERR_UNSUP:
            raise NotOffered("structured replies")
        equal((kind, data), (wire.REP_ACK, b""), "reply")


@case("NBD_OPT_STRUCTURED_REPLY", OURS)
def structured_reply_twice_is_invalid(server):
    with server.haggle_structured() as c:
        c.option(wire.STRUCTURED_REPLY)
        c.expect_error(wire.STRUCTURED_REPLY, wire.ERR_INVALID)


@case("NBD_OPT_EXTENDED_HEADERS", MUST)
def extended_headers_are_acknowledged_without_structured_replies(server):
    with server.haggle() as c:
        c.negotiate(wire.EXTENDED_HEADERS)
        flags = c.info(wire.INFO, server.export)[wire.INFO_EXPORT][8:]
        check(int.from_bytes(flags, "big") & wire.SEND_DF, "extended headers imply DF")


@case("NBD_OPT_EXTENDED_HEADERS", MUST)
def extended_headers_may_follow_structured_replies(server):
    with server.haggle_structured() as c:
        c.negotiate(wire.EXTENDED_HEADERS)


@case("NBD_OPT_EXTENDED_HEADERS", OURS)
def extended_headers_twice_are_invalid(server):
    with server.haggle() as c:
        c.negotiate(wire.EXTENDED_HEADERS)
        c.option(wire.EXTENDED_HEADERS)
        c.expect_error(wire.EXTENDED_HEADERS, wire.ERR_INVALID)


@case("NBD_OPT_STRUCTURED_REPLY", MUST)
def structured_reply_after_extended_headers_is_ext_header_reqd(server):
    with server.haggle() as c:
        c.negotiate(wire.EXTENDED_HEADERS)
        c.option(wire.STRUCTURED_REPLY)
        c.expect_error(wire.STRUCTURED_REPLY, wire.ERR_EXT_HEADER_REQD)


@case("NBD_OPT_STARTTLS", MUST)
def starttls_without_tls_is_refused(server):
    with server.haggle() as c:
        c.option(wire.STARTTLS)
        kind, _ = c.reply(wire.STARTTLS)
        if kind == wire.REP_ACK:
            c.ended = True
            raise NotOffered("a server without TLS")
        check(kind in (wire.ERR_UNSUP, wire.ERR_POLICY), f"reply {kind:#x}")


@case("NBD_OPT_STARTTLS", MUST)
def starttls_with_data_is_never_acknowledged(server):
    with server.haggle() as c:
        c.option(wire.STARTTLS, b"hello")
        c.expect_error(wire.STARTTLS, wire.ERR_INVALID, wire.ERR_UNSUP, wire.ERR_POLICY)


@case("TLS support: NOTLS mode", MUST)
def tls_is_not_demanded_without_tls(server):
    server.need_ours()
    with server.haggle() as c:
        for number in (wire.LIST, wire.STRUCTURED_REPLY, 77):
            c.option(number)
            check(wire.ERR_TLS_REQD not in [kind for kind, _ in c.replies(number)], "TLS_REQD")
