# SPDX-License-Identifier: Apache-2.0
"""Extended headers: every reply extended, 64-bit lengths, PAYLOAD_LEN. Sections: branch
extension-ext-header of the specification."""
import wire
from cases import MUST, OURS, SHOULD, case, check, each, equal
from ranges import ranges

MESSAGE = "Extended reply chunk message"
FLAGS = "Command flags: NBD_CMD_FLAG_PAYLOAD_LEN"


def extended(server, **options):
    return server.transmit(wire.EXTENDED, **options)


@case(MESSAGE, MUST)
def read_reply_echoes_cookie_and_offset(server):
    with extended(server) as t:
        t.write(4096, wire.pattern(4096))
        cookie = t.ask(wire.READ, 4097, 100)
        t.expect(wire.extended_chunk(wire.OFFSET_DATA, cookie, 4097,
                                     wire.be64(4097) + wire.pattern(4096)[1:101]))


@case(MESSAGE, OURS)
def hole_reply_echoes_cookie_and_offset(server):
    server.need_ours()
    with extended(server) as t:
        t.call(wire.WRITE_ZEROES, 0, 65536)
        cookie = t.ask(wire.READ, 513, 4096)
        t.expect(wire.extended_chunk(wire.OFFSET_HOLE, cookie, 513, wire.be64(513) + wire.be32(4096)))


@each(MESSAGE, MUST, {"flush": (wire.FLUSH, 0, 0), "trim": (wire.TRIM, 4096, 4096), "cache": (wire.CACHE, 8192, 1),
                      "write_zeroes": (wire.WRITE_ZEROES, 12345, 678)})
def success_is_an_extended_none(server, command, offset, length):
    with extended(server) as t:
        cookie = t.ask(command, offset, length)
        t.expect(wire.extended_chunk(wire.NONE, cookie, offset))


@case(FLAGS, MUST)
def write_with_payload_len_writes(server):
    with extended(server) as t:
        cookie = t.put(777, wire.pattern(1000), wire.FUA)
        t.expect(wire.extended_chunk(wire.NONE, cookie, 777))
        equal(t.read(777, 1000), wire.pattern(1000), "data")


@case(FLAGS, MUST)
def write_without_payload_len_is_einval_and_has_no_payload(server):
    with extended(server) as t:
        t.write(0, wire.pattern(4096))
        t.fails(wire.EINVAL, wire.WRITE, 0, 4096)
        equal(t.read(0, 4096), wire.pattern(4096), "data")


@each(FLAGS, MUST, {"read": (wire.READ,), "flush": (wire.FLUSH,), "trim": (wire.TRIM,), "cache": (wire.CACHE,),
                    "write_zeroes": (wire.WRITE_ZEROES,), "resize": (8,), "unknown": (0xFFFF,),
                    "block_status": (wire.BLOCK_STATUS,)})
def payload_where_none_belongs_is_consumed_then_einval(server, command):
    """The payload looks like requests; if one were taken for such, the connection would end."""
    payload = wire.extended_request(wire.DISC, 0, 0) * 100
    with extended(server) as t:
        t.write(0, wire.pattern(8192))
        t.fails(wire.EINVAL, command, 0, len(payload), wire.PAYLOAD_LEN, payload)
        equal(t.read(0, 8192), wire.pattern(8192), "data")


@case(FLAGS, OURS)
def payload_above_the_maximum_drops(server):
    with extended(server) as t:
        t.send(wire.extended_request(wire.WRITE, 0, (32 << 20) + 1, wire.PAYLOAD_LEN))
        t.expect_closed()


@case(FLAGS, OURS)
def payload_of_64_bits_drops(server):
    """2^32 + 512: a server that keeps 32 bits of it would go on out of step."""
    with extended(server) as t:
        t.send_to_closing(wire.extended_request(wire.WRITE, 0, 2**32 + 512, wire.PAYLOAD_LEN) + bytes(512))
        t.expect_closed()


@case(FLAGS, OURS)
def write_of_an_empty_payload_does_not_disconnect(server):
    with extended(server) as t:
        cookie = t.ask(wire.WRITE, 0, 0, wire.PAYLOAD_LEN)
        flags, kind, _ = t.chunk(cookie)
        check(flags & wire.DONE and kind in (wire.NONE, wire.ERROR), f"chunk {kind:#x}")


@each("Error values", SHOULD, {f"{name}_{where}": (command, error, where)
                               for name, command, error in (("read", wire.READ, wire.EINVAL),
                                                            ("trim", wire.TRIM, wire.EINVAL),
                                                            ("cache", wire.CACHE, wire.EINVAL),
                                                            ("write_zeroes", wire.WRITE_ZEROES, wire.ENOSPC))
                               for where in ("behind", "across", "wraps_to_zero", "whole", "longest", "top_bit")})
def ranges_of_64_bits_outside_are_refused(server, command, error, where):
    with extended(server) as t:
        own = {"whole": (0, t.size + 1), "longest": (1, 2**64 - 1), "top_bit": (4096, 2**63)}
        offset, length = own.get(where) or ranges(t.size)[where]
        t.fails(error, command, offset, length)


@each("Request message", MUST, {"trim": (wire.TRIM,), "write_zeroes": (wire.WRITE_ZEROES,)})
def lengths_above_32_bits_are_done_whole(server, command):
    """2^32 + 8192 bytes: the low half of the length is 8192."""
    at, length = 1 << 35, (1 << 32) + 8192
    with extended(server, export=server.has("large")) as t:
        marks = [at, at + 8192, at + (1 << 31), at + length - 4096]
        for mark in marks + [at + length]:
            t.write(mark, wire.pattern(4096))
        t.call(command, at, length)
        for mark in marks:
            equal(t.read(mark, 4096), bytes(4096), f"data at {mark - at}")
        equal(t.read(at + length, 4096), wire.pattern(4096), "data behind")


@case("Error values", OURS)
def read_of_gigabytes_is_eoverflow(server):
    server.need_ours()
    with extended(server, export=server.has("large")) as t:
        for length in ((64 << 20) + 1, 2**32, 2**32 + 1, 1 << 39):
            t.fails(wire.EOVERFLOW, wire.READ, 0, length)


@case("Reserved Magic values", SHOULD)
def compact_requests_are_out_of_step(server):
    with extended(server) as t:
        t.send_to_closing(wire.request(wire.FLUSH, 0, 0) + bytes(4))
        t.expect_closed()


@case(MESSAGE, OURS)
def errors_are_extended_and_say_why(server):
    with extended(server) as t:
        cookie = t.ask(wire.READ, t.size, 1)
        flags, kind, payload = t.chunk(cookie)
        equal((flags, kind), (wire.DONE, wire.ERROR), "chunk")
        equal(payload[:4], wire.be32(wire.EINVAL), "error")
        equal(int.from_bytes(payload[4:6], "big"), len(payload) - 6, "length of the text")
        check(len(payload) > 16, "no text")


@each("Error values", SHOULD, {"read": (wire.READ, wire.NO_HOLE), "trim": (wire.TRIM, wire.FAST_ZERO),
                               "cache": (wire.CACHE, wire.DF), "flush": (wire.FLUSH, 1 << 12),
                               "unknown": (0x1234, wire.FUA)})
def wrong_flags_and_commands_are_einval(server, command, flag):
    with extended(server) as t:
        t.fails(wire.EINVAL, command, 0, 0 if command == wire.FLUSH else 512, flag)


@case("NBD_CMD_WRITE", SHOULD)
def failed_write_consumes_its_payload(server):
    with extended(server) as t:
        t.fails(wire.ENOSPC, wire.WRITE, t.size - 1, 100_000, wire.PAYLOAD_LEN,
                wire.extended_request(wire.DISC, 0, 0)[:10] * 10_000)
        t.fails(wire.EINVAL, wire.WRITE, 0, 4096, wire.PAYLOAD_LEN | wire.REQ_ONE, bytes(4096))
        t.call(wire.FLUSH, 0, 0)


@case(MESSAGE, MUST)
def df_read_is_one_chunk(server):
    with extended(server) as t:
        t.call(wire.WRITE_ZEROES, 0, 65536)
        t.write(30_000, wire.pattern(10))
        cookie = t.ask(wire.READ, 0, 65536, wire.DF)
        equal(len(t.content(cookie)), 1, "content chunks")


@case("NBD_CMD_DISC", MUST)
def disc_closes_without_a_reply(server):
    with extended(server) as t:
        t.send(wire.extended_request(wire.DISC, 0, 0))
        t.expect_closed()


@case("NBD_OPT_EXTENDED_HEADERS", MUST)
def extended_headers_win_over_structured_replies(server):
    with server.haggle_structured() as c:
        c.negotiate(wire.EXTENDED_HEADERS)
        c.info(wire.GO, server.export)
        c.send(wire.extended_request(wire.FLUSH, 0, 0, cookie=6))
        c.expect(wire.extended_chunk(wire.NONE, 6, 0))
        c.send(wire.extended_request(wire.DISC, 0, 0))
        c.expect_closed()
