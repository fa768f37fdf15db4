# SPDX-License-Identifier: Apache-2.0
"""BLOCK_STATUS in both styles, and its payload form. Every reply's extents are checked: lengths, the sum,
REQ_ONE, the end of the export."""
import os
import time

import sections
import target
import wire
from cases import MUST, NotOffered, OURS, SHOULD, case, check, each, equal
from ranges import OUTSIDE, ranges
from target import BITMAP

BASE = b"base:allocation"
DEPTH, HYDRATION = b"qemu:allocation-depth", b"blockmig:hydration"
CONTEXTS = (BASE, BITMAP, DEPTH, HYDRATION)
STYLES = {wire.STRUCTURED: (wire.STRUCTURED,), wire.EXTENDED: (wire.EXTENDED,)}
TYPES = "Structured reply types"
COMMAND = "NBD_CMD_BLOCK_STATUS"


def base(server, style, **options):
    return server.transmit(style, (BASE,), **options)


def only(t, found, context=BASE):
    """The extents of the one context that was selected."""
    equal(list(found), [t.contexts[context]], "context ids")
    return found[t.contexts[context]]


def prepare(t):
    """[0, 256 KiB) data, [256 KiB, 768 KiB) hole, [768 KiB, 1 MiB) data."""
    t.write(0, wire.pattern(1 << 20))
    t.call(wire.WRITE_ZEROES, 256 << 10, 512 << 10)


def told_exactly(t, context, offset, *extents):
    """BLOCK_STATUS of the one context that was selected is answered by these, byte by byte."""
    cookie = t.ask(wire.BLOCK_STATUS, offset, sum(length for length, _ in extents))
    number = t.contexts[context]
    t.expect(wire.chunk(wire.STATUS, cookie, wire.status_payload(number, *extents)) if t.style == wire.STRUCTURED else
             wire.extended_chunk(wire.STATUS_EXT, cookie, offset, wire.status_ext_payload(number, *extents)))


@each(TYPES, OURS, STYLES)
def data_and_holes_are_told_exactly(server, style):
    server.need_ours()
    hole = wire.STATE_HOLE | wire.STATE_ZERO
    with base(server, style) as t:
        prepare(t)
        told_exactly(t, BASE, 0, (256 << 10, 0), (512 << 10, hole), (256 << 10, 0))


@each(sections.QEMU, OURS, STYLES)
def allocation_depth_is_told_exactly(server, style):
    """1 in the image itself, 0 where it has nothing; there is no image below it."""
    server.need_ours()
    with server.transmit(style, (DEPTH,)) as t:
        prepare(t)
        told_exactly(t, DEPTH, 0, (256 << 10, 1), (512 << 10, 0), (256 << 10, 1))
        for offset, depth in ((0, 1), (256 << 10, 0)):
            equal(only(t, t.status(offset, 4096, wire.REQ_ONE), DEPTH), [(4096, depth)], f"extent at {offset}")


@each(sections.README, OURS, STYLES)
def hydration_tells_what_is_not_here_yet(server, style):
    """Before the move nothing, behind it what was not written since: each to the byte."""
    server.need_ours()
    chunk = 64 << 10
    with target.our_server() as own:
        with own.transmit(style, (HYDRATION,)) as t:
            told_exactly(t, HYDRATION, 0, (t.size, 0))
            t.write(4 * chunk, wire.pattern(3 * chunk))
        own.process.migrate(os.path.join(own.process.folder, "local.img"), "shared", "--hydrate", "never")
        with own.transmit(style, (HYDRATION,)) as t:
            told_exactly(t, HYDRATION, 4 * chunk, (3 * chunk, 1))
            t.write(5 * chunk, wire.pattern(chunk, 2))
            told_exactly(t, HYDRATION, 4 * chunk, (chunk, 1), (chunk, 0), (chunk, 1))
            equal(only(t, t.status(5 * chunk, 2 * chunk, wire.REQ_ONE), HYDRATION), [(chunk, 0)], "extent of REQ_ONE")


@each("base:allocation metadata context", MUST, STYLES)
def what_is_called_zero_reads_as_zero(server, style):
    with base(server, style) as t:
        prepare(t)
        at = 0
        while at < 1 << 20:
            for length, flags in only(t, t.status(at, (1 << 20) - at)):
                if flags & wire.STATE_ZERO:
                    end = min(at + length, t.size)
                    equal(t.read(at, end - at), bytes(end - at), f"data at {at}")
                at += length


@each("base:allocation metadata context", MUST, STYLES)
def written_data_is_never_called_zero(server, style):
    with base(server, style) as t:
        prepare(t)
        for offset in (0, 1, 4095, 700_000, 768 << 10):
            t.write(offset, b"x")
            length, flags = only(t, t.status(offset, 1, wire.REQ_ONE))[0]
            equal((length, flags & wire.STATE_ZERO), (1, 0), f"status of a byte at {offset}")


@each("NBD_CMD_FLAG_REQ_ONE", MUST, {f"{style}_{name}": (style, offset, length) for style in STYLES
                                     for name, offset, length in (("block", 0, 4096), ("byte", 77, 1),
                                                                  ("odd", 262143, 262147), ("all", 0, 1 << 20))})
def req_one_is_one_extent_within_the_request(server, style, offset, length):
    with base(server, style) as t:
        prepare(t)
        only(t, t.status(offset, length, wire.REQ_ONE))


@each(TYPES, MUST, {f"{style}_{name}": (style, offset, length) for style in STYLES
                    for name, offset, length in (("first_byte", 0, 1), ("unaligned", 12345, 54321),
                                                 ("odd_tail", -512, 512), ("last_byte", -1, 1),
                                                 ("everything", 0, 0))})
def extents_keep_the_rules(server, style, offset, length):
    """Not beyond the end of the disk, the last one begins inside the request."""
    with base(server, style) as t:
        only(t, t.status(offset % t.size, length or t.size))


@each(COMMAND, SHOULD, STYLES)
def following_the_extents_covers_the_disk(server, style):
    with base(server, style) as t:
        prepare(t)
        at, steps = 0, 0
        while at < t.size:
            at += sum(length for length, _ in only(t, t.status(at, t.size - at)))
            steps += 1
            check(steps < 10_000, "no end in sight")
        equal(at, t.size, "end")


@each(COMMAND, SHOULD, STYLES)
def neighbouring_extents_differ(server, style):
    with base(server, style) as t:
        prepare(t)
        extents = only(t, t.status(0, 1 << 20))
        check(all(a[1] != b[1] for a, b in zip(extents, extents[1:])), f"{extents}")


@each(COMMAND, SHOULD, STYLES)
def zero_length_is_an_error_not_the_end(server, style):
    with base(server, style) as t:
        t.fails(wire.EINVAL, wire.BLOCK_STATUS, 0, 0)
        t.fails(wire.EINVAL, wire.BLOCK_STATUS, 4096, 0, wire.REQ_ONE)


@each(COMMAND, SHOULD, {f"{style}_{where}": (style, where) for style in STYLES for where in OUTSIDE})
def outside_is_einval(server, style, where):
    with base(server, style) as t:
        offset, length = ranges(t.size)[where]
        t.fails(wire.EINVAL, wire.BLOCK_STATUS, offset, length)


@each(COMMAND, MUST, {"structured": (wire.STRUCTURED, 2**32 - 1), "odd": (wire.STRUCTURED, 2**32 - 513),
                      "extended": (wire.EXTENDED, 2**32 - 1), "40_GiB": (wire.EXTENDED, 40 << 30)})
def lengths_of_32_bits_and_more_survive(server, style, length):
    with base(server, style, export=server.has("large")) as t:
        for offset in (0, 1, 1 << 36):
            only(t, t.status(offset, length))
            only(t, t.status(offset, length, wire.REQ_ONE))


@case(TYPES, OURS)
def extended_status_has_64_bit_lengths(server):
    """A hole of 512 GiB is one extent, which 32 bits could not say."""
    server.need_ours()
    with base(server, wire.EXTENDED, export=server.has("large")) as t:
        length, flags = only(t, t.status(1 << 39, 1 << 39))[0]
        equal((length, flags), (1 << 39, wire.STATE_HOLE | wire.STATE_ZERO), "extent")


@case(TYPES, MUST)
def extended_status_flags_are_32_bits(server):
    with base(server, wire.EXTENDED) as t:
        check(all(flags < 2**32 for _, flags in only(t, t.status(0, 1 << 20))), "upper half of the flags")


@each(COMMAND, MUST, STYLES)
def each_context_has_one_chunk_and_the_last_is_done(server, style):
    server.need_ours()
    with server.transmit(style, CONTEXTS) as t:
        for offset, length, flags in ((0, 1 << 20, 0), (100, 1, 0), (0, 1 << 20, wire.REQ_ONE)):
            equal(set(t.status(offset, length, flags)), set(t.contexts.values()), "contexts of the reply")


@each(sections.QEMU, OURS, STYLES)
def bitmap_shows_what_was_written(server, style):
    server.need_ours()
    with server.transmit(style, (BITMAP,)) as t:
        t.write(5 * 65536 + 1, b"x")
        extents = only(t, t.status(5 * 65536, 65536, wire.REQ_ONE), BITMAP)
        equal(extents, [(65536, wire.STATE_DIRTY)], "the chunk that was written")


@case("Size constraints", MUST)
def extents_are_multiples_of_the_minimum_block(server):
    with server.transmit(wire.STRUCTURED, (BASE,), server.has("aligned"), (wire.INFO_BLOCK_SIZE,)) as t:
        least = int.from_bytes(t.items[wire.INFO_BLOCK_SIZE][:4], "big")
        t.write(0, wire.pattern(least))
        for length in (least, t.size):
            check(all(part % least == 0 for part, _ in only(t, t.status(0, length))), "extent")


def payload(effect, *ids):
    return wire.be64(effect) + b"".join(wire.be32(i) for i in ids)


def with_payload(server, contexts=CONTEXTS):
    """A transmission in which BLOCK_STATUS may carry a payload."""
    t = server.transmit(wire.EXTENDED, contexts if server.ours else contexts[:1])
    if not t.flags & wire.STATUS_PAYLOAD:
        t.socket.close()
        raise NotOffered("BLOCK_STATUS with a payload")
    return t


@case(COMMAND, MUST)
def payload_picks_contexts(server):
    with with_payload(server) as t:
        for name, context in t.contexts.items():
            equal(list(t.status(0, 65536, payload=payload(65536, context))), [context], f"contexts for {name}")
        ids = list(t.contexts.values())[::-1]
        equal(set(t.status(0, 4096, payload=payload(4096, *ids))), set(ids), "all of them")
        for extents in t.status(0, 512, wire.REQ_ONE, payload(512, *ids)).values():
            equal(len(extents), 1, "extents of REQ_ONE")


WRONG = {"unknown_id": lambda ids: payload(4096, 12345), "duplicate_id": lambda ids: payload(4096, ids[0], ids[0]),
         "known_and_unknown": lambda ids: payload(4096, ids[0], 99), "half_an_id": lambda ids: payload(4096) + b"\0\0",
         "length_only_half": lambda ids: bytes(4), "id_zero": lambda ids: payload(4096, 0),
         "effect_of_nothing": lambda ids: payload(0, ids[0]), "effect_beyond": lambda ids: payload(2**63, ids[0]),
         "effect_wraps": lambda ids: payload(2**64 - 1, ids[0]), "1000_ids": lambda ids: payload(1, *range(1000)),
         "one_byte": lambda ids: b"x", "no_ids": lambda ids: payload(4096)}


@each(COMMAND, MUST, {name: (name,) for name in WRONG})
def wrong_payload_is_consumed_then_einval(server, name):
    with with_payload(server) as t:
        data = WRONG[name](list(t.contexts.values()))
        t.fails(wire.EINVAL, wire.BLOCK_STATUS, 4096, len(data), wire.PAYLOAD_LEN, data)
        t.call(wire.FLUSH, 0, 0)


@each(COMMAND, MUST, {"inside": (0,), "across_the_end": (-4096,)})
def payload_as_long_as_data_is_never_written(server, offset):
    """It comes behind its header, as long ones do."""
    with with_payload(server) as t:
        t.write(0, wire.pattern(1 << 20))
        data = payload(4096, *[1] * 50_000)
        cookie, request = t.frame(wire.BLOCK_STATUS, offset % t.size, len(data), wire.PAYLOAD_LEN, data)
        t.send(request[:-len(data)])
        time.sleep(0.05)  # the server sees the header alone
        t.send(data)
        t.expect_fails(cookie, wire.EINVAL)
        equal(t.read(0, 1 << 20), wire.pattern(1 << 20), "data")


@case(COMMAND, MUST)
def payload_without_contexts_is_consumed_then_einval(server):
    """Servers have died here."""
    with server.transmit(wire.EXTENDED) as t:
        data = payload(4096, 1)
        t.fails(wire.EINVAL, wire.BLOCK_STATUS, 0, len(data), wire.PAYLOAD_LEN, data)
        t.call(wire.FLUSH, 0, 0)
