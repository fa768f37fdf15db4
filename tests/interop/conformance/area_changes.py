# SPDX-License-Identifier: Apache-2.0
"""WRITE, TRIM, WRITE_ZEROES, FLUSH, CACHE: what they change, where they end, what they refuse."""
import wire
from cases import MUST, OURS, SHOULD, case, check, each, equal
from ranges import OUTSIDE, ranges


@each("Error values", SHOULD, {"behind": ("behind",), "across": ("across",), "wraps": ("wraps",),
                               "wraps_to_zero": ("wraps_to_zero",), "last_offset": ("last_offset",),
                               "negative": ("negative",), "far": ("far",)})
def write_outside_is_enospc_and_its_payload_consumed(server, where):
    """The next request is found, and nothing was written."""
    with server.transmit() as t:
        t.write(t.size - 512, wire.pattern(512, 3))
        offset, length = ranges(t.size)[where]
        t.fails(wire.ENOSPC, wire.WRITE, offset, length, payload=wire.request(wire.DISC, 0, 0, cookie=9)[:1] * length)
        equal(t.read(t.size - 512, 512), wire.pattern(512, 3), "the tail")


@case("NBD_CMD_WRITE", SHOULD)
def large_payload_of_a_failed_write_is_consumed(server):
    with server.transmit() as t:
        t.fails(wire.ENOSPC, wire.WRITE, t.size - 10, 8 << 20, payload=wire.pattern(8 << 20))
        t.call(wire.FLUSH, 0, 0)


@each("Error values", SHOULD, OUTSIDE)
def trim_outside_is_einval(server, where):
    with server.transmit() as t:
        t.need(wire.SEND_TRIM, "TRIM")
        offset, length = ranges(t.size)[where]
        t.fails(wire.EINVAL, wire.TRIM, offset, length)


@each("NBD_CMD_WRITE_ZEROES", SHOULD, OUTSIDE)
def write_zeroes_outside_is_enospc(server, where):
    with server.transmit() as t:
        t.need(wire.SEND_WRITE_ZEROES, "WRITE_ZEROES")
        t.write(t.size - 700, wire.pattern(700))
        offset, length = ranges(t.size)[where]
        t.fails(wire.ENOSPC, wire.WRITE_ZEROES, offset, length)
        equal(t.read(t.size - 700, 700), wire.pattern(700), "the tail")


@each("Error values", SHOULD, OUTSIDE)
def cache_outside_is_einval(server, where):
    with server.transmit() as t:
        t.need(wire.SEND_CACHE, "CACHE")
        offset, length = ranges(t.size)[where]
        t.fails(wire.EINVAL, wire.CACHE, offset, length)


@each("Request types", SHOULD, {name: (getattr(wire, name.upper()),) for name in
                                ("write", "trim", "write_zeroes", "cache")})
def zero_length_does_not_disconnect(server, command):
    with server.transmit() as t:
        for offset in (0, 12345):
            cookie = t.ask(command, offset, 0)
            t.expect_one_of([wire.simple_reply(cookie, error) for error in
                             ((0, wire.EINVAL) if server.ours else wire.ERROR_NAMES)])


@each("NBD_CMD_WRITE_ZEROES", MUST, {f"{name}{suffix}": (offset, length, flags)
                                     for suffix, flags in (("", 0), ("_no_hole", wire.NO_HOLE), ("_fua", wire.FUA))
                                     for name, offset, length in (("one_byte", 5000, 1), ("block", 4096, 4096),
                                                                  ("unaligned", 4099, 70001), ("2_MiB", 1, 2 << 20))})
def write_zeroes_zeroes_exactly_its_range(server, offset, length, flags):
    with server.transmit() as t:
        t.need(wire.SEND_WRITE_ZEROES, "WRITE_ZEROES")
        whole = length + 8192
        t.write(offset - min(offset, 4000), wire.pattern(whole))
        t.call(wire.WRITE_ZEROES, offset, length, flags)
        begin = min(offset, 4000)
        expected = wire.pattern(whole)
        expected = expected[:begin] + bytes(length) + expected[begin + length:]
        equal(t.read(offset - begin, whole), expected, "data")


@case("NBD_CMD_WRITE_ZEROES", MUST)
def fast_zero_is_done_or_enotsup_and_changes_nothing(server):
    with server.transmit() as t:
        t.need(wire.SEND_FAST_ZERO, "FAST_ZERO")
        for offset, length in ((0, 65536), (4099, 70001), (1 << 20, 1 << 20)):
            t.write(offset, wire.pattern(length))
            cookie = t.ask(wire.WRITE_ZEROES, offset, length, wire.FAST_ZERO)
            answer = t.expect_one_of([wire.simple_reply(cookie), wire.simple_reply(cookie, wire.ENOTSUP)])
            done = answer == wire.simple_reply(cookie)
            equal(t.read(offset, length), bytes(length) if done else wire.pattern(length), "data")


@case("NBD_CMD_WRITE_ZEROES", SHOULD)
def fast_zero_outside_is_enospc_not_an_assertion(server):
    with server.transmit() as t:
        t.need(wire.SEND_FAST_ZERO, "FAST_ZERO")
        t.fails((wire.ENOSPC, wire.EINVAL), wire.WRITE_ZEROES, t.size, 4096, wire.FAST_ZERO)


@case("NBD_CMD_WRITE_ZEROES", SHOULD)
def fast_zero_where_it_is_not_advertised_is_einval(server):
    """On a read-only export nothing is advertised, and EPERM is as good."""
    with server.transmit(export=server.has("read_only")) as t:
        check(not t.flags & wire.SEND_FAST_ZERO, "FAST_ZERO is offered")
        t.fails((wire.EINVAL, wire.EPERM), wire.WRITE_ZEROES, 0, 4096, wire.FAST_ZERO)


@each("NBD_CMD_TRIM", MUST, {"aligned": (65536, 65536), "unaligned": (70001, 100003), "one_byte": (4097, 1)})
def trim_spares_its_neighbours_and_reads_are_stable(server, offset, length):
    with server.transmit() as t:
        t.need(wire.SEND_TRIM, "TRIM")
        t.write(offset - 4096, wire.pattern(length + 8192))
        t.call(wire.TRIM, offset, length)
        first = t.read(offset - 4096, length + 8192)
        equal(first[:4096], wire.pattern(4096), "before")
        equal(first[4096 + length:], wire.pattern(length + 8192)[4096 + length:], "behind")
        equal(t.read(offset - 4096, length + 8192), first, "second read")


LONG = {name: (command, flag) for name, command, flag in (
    ("trim", wire.TRIM, wire.SEND_TRIM), ("write_zeroes", wire.WRITE_ZEROES, wire.SEND_WRITE_ZEROES))}


@each("Size constraints", SHOULD, LONG)
def lengths_beyond_the_maximum_payload_are_done_whole(server, command, flag):
    """3 GiB in one request: a server zeroed the first 64 MiB of it and said that all was well."""
    at, length = 1 << 33, 3 << 30
    with server.transmit(export=server.has("large")) as t:
        t.need(flag, "the command")
        marks = [at, at + (64 << 20), at + (1 << 30), at + length - 4096]
        for mark in marks:
            t.write(mark, wire.pattern(4096))
        t.call(command, at, length)
        for mark in marks:
            equal(t.read(mark, 4096), bytes(4096), f"data at {mark - at}")


@case("Size constraints", SHOULD)
def cache_beyond_the_maximum_payload_is_served(server):
    with server.transmit(export=server.has("large")) as t:
        t.need(wire.SEND_CACHE, "CACHE")
        t.call(wire.CACHE, 4097, 100 << 20)


@case("NBD_CMD_CACHE", MUST)
def cache_changes_nothing(server):
    with server.transmit() as t:
        t.need(wire.SEND_CACHE, "CACHE")
        t.write(4000, wire.pattern(9000))
        t.call(wire.CACHE, 4001, 8000)
        equal(t.read(4000, 9000), wire.pattern(9000), "data")


@each("Size constraints", SHOULD, {"32_MiB": (32 << 20,), "64_MiB": (64 << 20,)})
def long_writes_are_served(server, length):
    """32 MiB is never abuse; ours takes 64 MiB, which some clients send."""
    if length > 32 << 20:
        server.need_ours()
    with server.transmit(export=server.has("large")) as t:
        t.write(1 << 34, wire.pattern(length))
        equal(t.read((1 << 34) + length - 4096, 4096), wire.pattern(length)[-4096:], "the last block")
        t.call(wire.TRIM, 1 << 34, length)


READ_ONLY = {"write": (wire.WRITE, 512), "trim": (wire.TRIM, 4096), "write_zeroes": (wire.WRITE_ZEROES, 4096)}


@each("Error values", SHOULD, READ_ONLY)
def read_only_export_says_eperm(server, command, length):
    with server.transmit(export=server.has("read_only")) as t:
        check(t.flags & wire.READ_ONLY, "not read-only")
        before = t.read(0, 4096)
        t.fails(wire.EPERM, command, 0, length, payload=bytes(length) if command == wire.WRITE else b"")
        t.fails((wire.EPERM, wire.ENOSPC, wire.EINVAL), command, t.size, length,
                payload=bytes(length) if command == wire.WRITE else b"")
        equal(t.read(0, 4096), before, "data")
        t.call(wire.FLUSH, 0, 0)


@each("NBD_CMD_FLUSH", OURS, {"offset": (4096, 0), "length": (0, 4096), "both_beyond": (2**64 - 1, 2**32 - 1)})
def flush_is_lenient_about_its_reserved_fields(server, offset, length):
    with server.transmit() as t:
        cookie = t.ask(wire.FLUSH, offset, length)
        t.expect_one_of([wire.simple_reply(cookie), wire.simple_reply(cookie, wire.EINVAL)])
        if server.ours:
            t.call(wire.FLUSH, offset, length)


@case("NBD_CMD_FLUSH", MUST)
def flush_of_a_read_only_export_succeeds(server):
    with server.transmit(export=server.has("read_only")) as t:
        t.need(wire.SEND_FLUSH, "FLUSH")
        t.call(wire.FLUSH, 0, 0)


@case("NBD_CMD_WRITE", OURS)
def payload_that_stops_half_way_writes_nothing(server):
    with server.transmit() as t:
        t.write(0, wire.pattern(300_000))
    with server.transmit() as t:
        t.send(wire.request(wire.WRITE, 0, 300_000, cookie=2) + bytes(299_999))
        t.ended = True
    with server.transmit() as t:
        equal(t.read(0, 300_000), wire.pattern(300_000), "data")
