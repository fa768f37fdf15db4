# SPDX-License-Identifier: Apache-2.0
"""Structured replies: chunks of READ, errors as chunks, DF, holes."""
import wire
from cases import MUST, OURS, SHOULD, case, check, each, equal
from ranges import OUTSIDE, ranges

CHUNKS = "Structured reply chunk message"
READING = "NBD_CMD_READ: Structured replies"


def chunked(server, **options):
    return server.transmit(wire.STRUCTURED, **options)


@case("Structured reply types", OURS)
def read_of_data_is_one_chunk_with_done(server):
    with chunked(server) as t:
        t.write(4096, wire.pattern(8192))
        cookie = t.ask(wire.READ, 5000, 3000)
        t.expect(wire.chunk(wire.OFFSET_DATA, cookie, wire.be64(5000) + wire.pattern(8192)[904:3904]))


@case("Structured reply types", OURS)
def read_of_zeros_is_a_hole(server):
    server.need_ours()
    with chunked(server) as t:
        t.call(wire.WRITE_ZEROES, 0, 1 << 20)
        for offset, length in ((0, 4096), (7, 512), (0, 1 << 20)):
            cookie = t.ask(wire.READ, offset, length)
            t.expect(wire.chunk(wire.OFFSET_HOLE, cookie, wire.be64(offset) + wire.be32(length)))


@case("Structured reply types", OURS)
def read_of_a_few_zeros_is_data(server):
    """A hole of 12 bytes would cost more than it saves."""
    server.need_ours()
    with chunked(server) as t:
        t.write(0, bytes(16))
        cookie = t.ask(wire.READ, 0, 16)
        t.expect(wire.chunk(wire.OFFSET_DATA, cookie, wire.be64(0) + bytes(16)))


@each(READING, MUST, {"1": (0, 1), "4096": (1, 4096), "1_MiB": (513, 1 << 20), "8_MiB": (100, 8 << 20)})
def chunks_cover_the_request_once(server, offset, length):
    """Data and holes: inside the request, without overlap, nothing left out."""
    with chunked(server) as t:
        expected = bytearray(wire.pattern(length))
        t.write(offset, wire.pattern(length))
        for at in range(65536, length - 200_000, 400_000):
            t.call(wire.WRITE_ZEROES, offset + at, 131072)
            expected[at:at + 131072] = bytes(131072)
        equal(t.read(offset, length), bytes(expected), "data")


@each(READING, MUST, OUTSIDE)
def failed_read_is_an_error_chunk(server, where):
    """Never a simple reply, once chunks are negotiated."""
    with chunked(server) as t:
        offset, length = ranges(t.size)[where]
        t.fails(wire.EINVAL, wire.READ, offset, length)


@each(READING, MUST, {"bit_15": (1 << 15,), "REQ_ONE": (wire.REQ_ONE,), "NO_HOLE": (wire.NO_HOLE,)})
def read_with_a_wrong_flag_is_an_error_chunk(server, flag):
    with chunked(server) as t:
        t.fails(wire.EINVAL, wire.READ, 0, 512, flag)


@case("Structured reply types", OURS)
def errors_say_why(server):
    server.need_ours()
    with chunked(server) as t:
        for command, offset, length in ((wire.READ, t.size, 1), (wire.TRIM, t.size, 1), (99, 0, 0)):
            cookie = t.ask(command, offset, length)
            flags, kind, payload = t.chunk(cookie)
            equal((flags, kind), (wire.DONE, wire.ERROR), "chunk")
            equal(payload[:4], wire.be32(wire.EINVAL), "error")
            size = int.from_bytes(payload[4:6], "big")
            equal(size, len(payload) - 6, "length of the text")
            check(size > 10 and payload[6:].decode(), "no text")


@case(READING, SHOULD)
def read_of_nothing_is_a_chunk(server):
    with chunked(server) as t:
        cookie = t.ask(wire.READ, 0, 0)
        flags, kind, _ = t.chunk(cookie)
        check(kind in (wire.NONE, wire.ERROR), f"chunk {kind:#x}")
        equal(flags, wire.DONE, "flags")


@each(READING, MUST, {"data": (0, 65536), "data_and_holes": (1 << 20, 65536), "holes": (2 << 20, 65536),
                      "small": (3, 1000)})
def df_read_is_one_data_chunk(server, offset, length):
    """Zeros are sent, too; up to 64 KiB it must succeed."""
    with chunked(server) as t:
        t.need(wire.SEND_DF, "DF")
        t.write(0, wire.pattern(65536))
        t.call(wire.WRITE_ZEROES, 1 << 20, 2 << 20)
        t.write((1 << 20) + 20_000, wire.pattern(3000))
        cookie = t.ask(wire.READ, offset, length, wire.DF)
        parts = t.content(cookie)
        equal(len(parts), 1, "content chunks")
        equal(parts[0][1], t.read(offset, length), "data")


@case(READING, OURS)
def df_read_of_zeros_is_data(server):
    with chunked(server) as t:
        t.call(wire.WRITE_ZEROES, 0, 65536)
        cookie = t.ask(wire.READ, 0, 65536, wire.DF)
        t.expect(wire.chunk(wire.OFFSET_DATA, cookie, wire.be64(0) + bytes(65536)))


@case("Error values", SHOULD)
def df_read_that_is_too_long_is_eoverflow_or_whole(server):
    with chunked(server, export=server.has("large")) as t:
        cookie = t.ask(wire.READ, 0, (32 << 20) + 1, wire.DF)
        if server.ours:
            t.expect_fails(cookie, wire.EOVERFLOW)
            return
        flags, kind, payload = t.chunk(cookie)
        check((kind, payload[:4]) == (wire.ERROR, wire.be32(wire.EOVERFLOW)) or kind == wire.OFFSET_DATA,
              f"chunk {kind:#x}")
        if not flags & wire.DONE:
            t.chunk(cookie)


@case("Structured reply types", MUST)
def no_chunk_carries_more_than_the_maximum_payload(server):
    """48 MiB in one READ: refused, or split."""
    with chunked(server, export=server.has("large")) as t:
        t.write(0, wire.pattern(32 << 20))
        t.write(32 << 20, wire.pattern(16 << 20))
        cookie = t.ask(wire.READ, 0, 48 << 20)
        if not server.ours and t.refused(cookie, (wire.EOVERFLOW, wire.EINVAL)):
            return
        parts = t.content(cookie)
        check(max(len(part) for _, part in parts) <= 32 << 20, "a chunk is too long")
        equal(parts[0][1][:4096], wire.pattern(4096), "first data")
        t.call(wire.TRIM, 0, 48 << 20)


@case("Simple reply message", MUST)
def success_without_data_is_a_simple_reply_or_none(server):
    with chunked(server) as t:
        t.write(0, wire.pattern(4096))
        t.write(1, wire.pattern(4096), wire.FUA)
        t.call(wire.FLUSH, 0, 0)
        for flag, command in ((wire.SEND_TRIM, wire.TRIM), (wire.SEND_WRITE_ZEROES, wire.WRITE_ZEROES),
                              (wire.SEND_CACHE, wire.CACHE)):
            if t.flags & flag:
                t.call(command, 4096, 4096)


@each("Error values", SHOULD, {"write": (wire.WRITE, wire.ENOSPC), "trim": (wire.TRIM, wire.EINVAL),
                               "write_zeroes": (wire.WRITE_ZEROES, wire.ENOSPC), "resize": (8, wire.EINVAL),
                               "unknown": (0xFFFF, wire.EINVAL)})
def failed_changes_are_well_formed(server, command, error):
    with chunked(server) as t:
        payload = wire.pattern(5000) if command == wire.WRITE else b""
        t.fails(error, command, t.size - 100, 5000, payload=payload)


@case("NBD_CMD_BLOCK_STATUS", SHOULD)
def block_status_without_contexts_is_einval(server):
    with chunked(server) as t:
        t.fails(wire.EINVAL, wire.BLOCK_STATUS, 0, 4096)
        t.fails(wire.EINVAL, wire.BLOCK_STATUS, 0, 0, wire.REQ_ONE)


@case(CHUNKS, MUST)
def replies_interleave_only_whole(server):
    """100 pipelined reads of data and holes: every chunk has its cookie, each reply one DONE."""
    with chunked(server) as t:
        t.write(0, wire.pattern(1 << 20))
        t.call(wire.WRITE_ZEROES, 300_000, 400_000)
        whole = t.read(0, 1 << 20)
        frames = [t.frame(wire.READ, i * 10_000, 12_345) for i in range(100)]
        t.send(b"".join(data for _, data in frames))
        seen = {cookie: bytearray(12_345) for cookie, _ in frames}
        places = {cookie: i * 10_000 for i, (cookie, _) in enumerate(frames)}
        open_replies = set(seen)
        while open_replies:
            header = t.receive(20)
            cookie = int.from_bytes(header[8:16], "big")
            check(header[:4] == wire.be32(wire.STRUCTURED_REPLY_MAGIC) and cookie in open_replies, "header")
            payload = t.receive(int.from_bytes(header[16:], "big"))
            if header[6:8] == wire.be16(wire.OFFSET_DATA):
                at = int.from_bytes(payload[:8], "big") - places[cookie]
                seen[cookie][at:at + len(payload) - 8] = payload[8:]
            if header[5] & wire.DONE:
                open_replies.remove(cookie)
        for cookie, data in seen.items():
            equal(bytes(data), whole[places[cookie]:places[cookie] + 12_345], "data")
