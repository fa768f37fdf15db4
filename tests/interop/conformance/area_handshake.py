# SPDX-License-Identifier: Apache-2.0
"""Greeting, client flags, option framing, EXPORT_NAME."""
import wire
from cases import MUST, OURS, SHOULD, case, check, each, equal

BOTH = wire.C_FIXED_NEWSTYLE | wire.C_NO_ZEROES


def enter_by_name(c, name):
    """EXPORT_NAME; (size, flags) of the answer without its padding."""
    c.option(wire.EXPORT_NAME, name)
    answer = c.receive(10)
    return int.from_bytes(answer[:8], "big"), int.from_bytes(answer[8:], "big")


def leave_transmission(c):
    """The answer to EXPORT_NAME had exactly its length: a flush is answered, then DISC closes."""
    c.send(wire.request(wire.FLUSH, 0, 0, cookie=77))
    c.expect(wire.simple_reply(77), "answer to the first request")
    c.send(wire.request(wire.DISC, 0, 0))
    c.expect_closed()


@case("Newstyle negotiation", MUST)
def greeting_is_both_magics_and_both_flags(server):
    with server.connect() as c:
        c.expect(wire.GREETING)
        check(c.is_silent(0.05), "something follows the greeting")


@each("Client flags", MUST, {"bit_2": (4,), "bit_31": (1 << 31,), "bit_16": (3 | 1 << 16,), "all": (2**32 - 1,)})
def unknown_client_flags_close(server, flags):
    with server.haggle(flags) as c:
        c.send_to_closing(wire.option(wire.LIST))
        c.expect_closed()


@case("Newstyle negotiation", MUST)
def client_flags_may_come_in_pieces(server):
    with server.connect() as c:
        c.expect(wire.GREETING)
        c.send_bytewise(wire.be32(BOTH) + wire.option(wire.ABORT))
        c.expect(wire.option_reply(wire.ABORT, wire.REP_ACK))
        c.expect_closed()


@each("Newstyle negotiation", MUST, {"fixed_newstyle": (1,), "old_client": (0,)})
def export_name_is_padded_without_no_zeroes(server, flags):
    """Size, flags, and 124 zeros."""
    with server.haggle(flags) as c:
        size, sent = enter_by_name(c, server.export)
        c.expect(bytes(124), "reserved bytes")
        check(sent & wire.HAS_FLAGS and size, "size and flags")
        leave_transmission(c)


@each("Client flags", MUST, {"fixed_newstyle": (3,), "old_client": (2,)})
def export_name_is_not_padded_with_no_zeroes(server, flags):
    with server.haggle(flags) as c:
        enter_by_name(c, server.export)
        leave_transmission(c)


@case("NBD_OPT_INFO and NBD_OPT_GO", MUST)
def go_never_pads(server):
    with server.haggle(wire.C_FIXED_NEWSTYLE) as c:
        c.info(wire.GO, server.export)
        leave_transmission(c)


@case("NBD_OPT_EXPORT_NAME", MUST)
def export_name_of_a_missing_export_closes(server):
    with server.haggle() as c:
        c.option(wire.EXPORT_NAME, server.missing)
        c.expect_closed()


@each("NBD_OPT_EXPORT_NAME", MUST, {"4096_bytes": (b"x" * 4096,),
                                    "two_byte_characters": ("ü".encode() * 2048,)})
def export_name_of_the_longest_missing_name_closes(server, name):
    with server.haggle() as c:
        c.option(wire.EXPORT_NAME, name)
        c.expect_closed()


@each("Conventions", OURS, {"4097_bytes": (b"x" * 4097,), "nul": (b"disk0\0",), "64_KiB": (b"x" * 65536,)})
def export_name_that_is_no_string_closes(server, name):
    with server.haggle() as c:
        c.send_to_closing(wire.option(wire.EXPORT_NAME, name))
        c.expect_closed()


@case("NBD_OPT_EXPORT_NAME", OURS)
def empty_export_name_closes_where_there_is_no_default(server):
    server.need_ours()
    with server.haggle() as c:
        c.option(wire.EXPORT_NAME, b"")
        c.expect_closed()


@case("NBD_OPT_EXTENDED_HEADERS", OURS)
def export_name_after_extended_headers_closes(server):
    """The client must not; there is no reply that could say so."""
    with server.haggle() as c:
        c.negotiate(wire.EXTENDED_HEADERS)
        c.option(wire.EXPORT_NAME, server.export)
        c.expect_closed()


@case("NBD_OPT_STRUCTURED_REPLY", MUST)
def export_name_keeps_structured_replies(server):
    with server.haggle_structured() as c:
        size, flags = enter_by_name(c, server.export)
        check(flags & wire.SEND_DF, "DF is not offered")
        c.send(wire.request(wire.READ, size, 1, cookie=5))
        equal(c.receive(8)[:4], wire.be32(wire.STRUCTURED_REPLY_MAGIC), "magic of an error to READ")
        c.ended = True


@case("Transmission flags", MUST)
def export_name_and_info_agree(server):
    with server.haggle() as c:
        told = c.info(wire.INFO, server.export)[wire.INFO_EXPORT]
    with server.haggle() as c:
        size, flags = enter_by_name(c, server.export)
        equal(wire.be64(size) + wire.be16(flags), told, "size and flags")
        leave_transmission(c)


@case("Transmission flags", MUST)
def export_name_without_structured_replies_offers_no_df(server):
    with server.haggle() as c:
        _, flags = enter_by_name(c, server.export)
        check(not flags & wire.SEND_DF, "DF without structured replies")
        leave_transmission(c)


@each("Newstyle negotiation", SHOULD, {"first": (0,), "later": (2,)})
def bad_option_magic_closes(server, before):
    with server.haggle() as c:
        for _ in range(before):
            c.option(77)
            c.expect_error(77, wire.ERR_UNSUP)
        c.send_to_closing(b"IHAVEOPX" + wire.be32(wire.LIST) + wire.be32(0))
        c.expect_closed()


@case("Newstyle negotiation", OURS)
def bad_option_magic_closes_before_the_header_is_whole(server):
    server.need_ours()
    with server.haggle() as c:
        c.send(b"NBDMAGIC")
        c.expect_closed()


@case("Newstyle negotiation", MUST)
def options_may_come_a_byte_at_a_time(server):
    with server.haggle() as c:
        c.send_bytewise(wire.option(wire.INFO, wire.info_data(server.export, wire.INFO_BLOCK_SIZE)))
        whole = c.replies(wire.INFO)
        c.option(wire.INFO, wire.info_data(server.export, wire.INFO_BLOCK_SIZE))
        equal(c.replies(wire.INFO), whole, "the same option in one piece")


@case("Fixed newstyle negotiation", OURS)
def options_sent_ahead_are_answered_in_order(server):
    """A client must wait for the answer; one that does not is answered all the same."""
    server.need_ours()
    with server.haggle() as c:
        c.send(wire.option(99) + wire.option(wire.STRUCTURED_REPLY) + wire.option(98, b"x" * 1000))
        c.expect_error(99, wire.ERR_UNSUP)
        c.expect_ack(wire.STRUCTURED_REPLY)
        c.expect_error(98, wire.ERR_UNSUP)


@case("Fixed newstyle negotiation", OURS)
def requests_sent_behind_go_are_served(server):
    with server.haggle() as c:
        c.send(wire.option(wire.GO, wire.info_data(server.export)) + wire.request(wire.FLUSH, 0, 0, cookie=9))
        equal(c.replies(wire.GO)[-1], (wire.REP_ACK, b""), "end of GO")
        c.expect(wire.simple_reply(9))
        c.send(wire.request(wire.DISC, 0, 0))
        c.expect_closed()


@each("Newstyle negotiation", OURS, {"list": (wire.LIST,), "structured": (wire.STRUCTURED_REPLY,),
                                     "go": (wire.GO,), "unknown": (1234,)})
def old_client_has_export_name_only(server, number):
    """Without FIXED_NEWSTYLE there is one option and no reply that could refuse another."""
    server.need_ours()
    with server.haggle(0) as c:
        c.send_to_closing(wire.option(number, wire.info_data(server.export) if number == wire.GO else b""))
        c.expect_closed()
