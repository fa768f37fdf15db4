# SPDX-License-Identifier: Apache-2.0
"""INFO and GO: what they tell, and data that is malformed."""
import wire
from cases import MAY, MUST, NotOffered, OURS, case, check, each, equal

INFO_GO = "NBD_OPT_INFO and NBD_OPT_GO"
BOTH = (wire.INFO, wire.GO)


def flags_of(items):
    return int.from_bytes(items[wire.INFO_EXPORT][8:], "big")


@case(INFO_GO, OURS)
def info_without_requests_is_exactly_size_flags_and_ack(server):
    process = server.need_ours()
    size = process.get("/v1/disks")["disks"][0]["size_bytes"]
    flags = (wire.HAS_FLAGS | wire.SEND_FLUSH | wire.SEND_FUA | wire.SEND_TRIM | wire.SEND_WRITE_ZEROES |
             wire.CAN_MULTI_CONN | wire.SEND_CACHE | wire.SEND_FAST_ZERO)
    told = wire.be16(wire.INFO_EXPORT) + wire.be64(size) + wire.be16(flags)
    with server.haggle() as c:
        c.option(wire.INFO, wire.info_data(server.export))
        c.expect(wire.option_reply(wire.INFO, wire.REP_INFO, told) + wire.option_reply(wire.INFO, wire.REP_ACK))


@case("Transmission flags", OURS)
def read_only_export_offers_no_change(server):
    server.need_ours()
    told = wire.be16(wire.INFO_EXPORT) + wire.be64(1 << 20) + wire.be16(
        wire.HAS_FLAGS | wire.READ_ONLY | wire.SEND_FLUSH | wire.SEND_FUA | wire.CAN_MULTI_CONN |
        wire.SEND_CACHE)
    with server.haggle() as c:
        c.option(wire.INFO, wire.info_data(server.has("read_only")))
        c.expect(wire.option_reply(wire.INFO, wire.REP_INFO, told) + wire.option_reply(wire.INFO, wire.REP_ACK))


@each("Transmission flags", MUST, {s: (s,) for s in (wire.SIMPLE, wire.STRUCTURED, wire.EXTENDED)})
def transmission_flags_are_consistent(server, style):
    """HAS_FLAGS; DF exactly with chunks; FAST_ZERO only beside WRITE_ZEROES; no RESIZE, no unknown flag;
    the payload of BLOCK_STATUS only with extended headers and contexts."""
    with server.transmit(style) as t:
        check(t.flags & wire.HAS_FLAGS, "HAS_FLAGS")
        equal(bool(t.flags & wire.SEND_DF), style != wire.SIMPLE, "DF")
        check(t.flags & wire.SEND_WRITE_ZEROES or not t.flags & wire.SEND_FAST_ZERO, "FAST_ZERO")
        check(not t.flags & (wire.SEND_RESIZE | wire.STATUS_PAYLOAD | 0xE000), f"flags {t.flags:#x}")


@each("Transmission flags", MUST, {"contexts": (True,), "none": (False,)})
def status_payload_is_offered_with_contexts_only(server, with_contexts):
    with server.transmit(wire.EXTENDED, (b"base:allocation",) if with_contexts else ()) as t:
        equal(bool(t.flags & wire.STATUS_PAYLOAD), with_contexts and bool(t.flags & wire.STATUS_PAYLOAD),
              "BLOCK_STATUS_PAYLOAD")
        if with_contexts and server.ours:
            check(t.flags & wire.STATUS_PAYLOAD, "BLOCK_STATUS_PAYLOAD is missing")


@case(INFO_GO, MUST)
def name_and_description_are_told_when_asked(server):
    with server.haggle() as c:
        items = c.info(wire.INFO, server.export, wire.INFO_NAME, wire.INFO_DESCRIPTION)
        if wire.INFO_NAME in items:
            equal(items[wire.INFO_NAME], server.export, "name")
        if server.ours:
            equal(items.get(wire.INFO_NAME), server.export, "name")
            equal(items.get(wire.INFO_DESCRIPTION, b"").decode(), "Prüfling für die Conformance", "description")


@case("Size constraints", MUST)
def block_sizes_are_legal(server):
    with server.haggle() as c:
        items = c.info(wire.INFO, server.export, wire.INFO_BLOCK_SIZE)
        if wire.INFO_BLOCK_SIZE not in items:
            raise NotOffered("block sizes")
        equal(len(items[wire.INFO_BLOCK_SIZE]), 12, "size of NBD_INFO_BLOCK_SIZE")
        minimum, preferred, maximum = (int.from_bytes(items[wire.INFO_BLOCK_SIZE][at:at + 4], "big")
                                       for at in (0, 4, 8))
        check(minimum and minimum & (minimum - 1) == 0 and minimum <= 65536, f"minimum {minimum}")
        check(preferred & (preferred - 1) == 0 and preferred >= max(minimum, 512), f"preferred {preferred}")
        check(maximum >= preferred and maximum >= 1 << 20, f"maximum {maximum}")


@case("Size constraints", OURS)
def block_sizes_are_1_4096_and_32_mib(server):
    server.need_ours()
    with server.haggle() as c:
        equal(c.info(wire.INFO, server.export, wire.INFO_BLOCK_SIZE)[wire.INFO_BLOCK_SIZE],
              wire.be32(1) + wire.be32(4096) + wire.be32(32 << 20), "block sizes")


@case(INFO_GO, MUST)
def unknown_information_requests_are_ignored(server):
    with server.haggle() as c:
        items = c.info(wire.INFO, server.export, 4, 0x7FFF, 0xFFFF, wire.INFO_BLOCK_SIZE)
        check(not set(items) & {4, 0x7FFF, 0xFFFF}, "an unknown information")


@case(INFO_GO, OURS)
def information_asked_for_twice_comes_once(server):
    with server.haggle() as c:
        c.info(wire.INFO, server.export, *[wire.INFO_BLOCK_SIZE] * 3, *[wire.INFO_NAME] * 3)


@case(INFO_GO, MUST)
def info_then_go_agree_sizes_included(server):
    wanted = (wire.INFO_BLOCK_SIZE, wire.INFO_NAME, wire.INFO_DESCRIPTION)
    with server.haggle() as c:
        told = c.info(wire.INFO, server.export, *wanted)
        equal(c.info(wire.GO, server.export, *wanted), told, "GO's information")
        c.send(wire.request(wire.DISC, 0, 0))
        c.expect_closed()


@case(INFO_GO, MUST)
def info_stays_in_the_negotiation(server):
    with server.haggle() as c:
        c.info(wire.INFO, server.export)
        c.info(wire.INFO, server.export)
        c.option(77)
        c.expect_error(77, wire.ERR_UNSUP)


MISSING = {f"{name}_{number}": (option, data) for name, option in (("info", wire.INFO), ("go", wire.GO))
           for number, data in (("short", b"nope"), ("4096_bytes", b"n" * 4096), ("percent", b"%s%n" * 20),
                                ("prefix", b"disk"), ("longer", b"disk00"), ("case", b"DISK0"))}


@each(INFO_GO, MUST, MISSING)
def missing_export_is_unknown_and_haggling_goes_on(server, number, name):
    """One reply without information before it; the text of the longest name overflows nothing."""
    with server.haggle() as c:
        c.option(number, wire.info_data(name, wire.INFO_BLOCK_SIZE))
        c.expect_error(number, wire.ERR_UNKNOWN)
        c.info(wire.INFO, server.export)


@case(INFO_GO, MUST)
def go_after_a_failed_go_enters(server):
    with server.haggle() as c:
        c.option(wire.GO, wire.info_data(server.missing))
        c.expect_error(wire.GO, wire.ERR_UNKNOWN)
        c.info(wire.GO, server.export)
        c.send(wire.request(wire.DISC, 0, 0))
        c.expect_closed()


def malformed(name):
    good = wire.info_data(name, wire.INFO_BLOCK_SIZE)
    return {"no_data": b"", "three_bytes": good[:3], "length_only": good[:4], "half_name": good[:6],
            "no_count": good[:-4], "half_count": good[:-3], "one_request_short": good[:-2],
            "half_request": good[:-1], "trailing_byte": good + b"x", "trailing_request": good + b"\0\1",
            "name_beyond_the_end": wire.be32(len(good)) + good[4:],
            "name_length_minus_one": wire.be32(2**32 - 1) + good[4:],
            "name_length_wraps_32_bits": wire.be32(2**32 - 6 + len(name)) + good[4:],
            "name_length_2_31": wire.be32(2**31) + good[4:],
            "count_65535": good[:-4] + b"\xff\xff" + good[-2:]}


@each(INFO_GO, MUST, {f"{name}_{kind}": (number, name) for name in malformed(b"x")
                      for kind, number in (("info", wire.INFO), ("go", wire.GO))})
def malformed_data_is_invalid_and_in_step(server, number, name):
    with server.haggle() as c:
        c.option(number, malformed(server.export)[name])
        c.expect_error(number, wire.ERR_INVALID)


@each("Conventions", MAY, {"nul_inside": (b"disk0\0x",), "4097_bytes": (b"n" * 4097,), "no_utf8": (b"\xff\xfe",),
                           "9000_bytes": (b"n" * 9000,)})
def names_that_are_no_strings_are_refused(server, name):
    with server.haggle() as c:
        c.option(wire.GO, wire.info_data(name))
        c.expect_error(wire.GO, wire.ERR_INVALID, wire.ERR_TOO_BIG, wire.ERR_UNKNOWN)
        c.info(wire.INFO, server.export)


@case("Size constraints", MUST)
def sizes_other_than_the_default_are_told_unasked(server):
    """INFO_BLOCK_SIZE comes before BLOCK_SIZE_REQD, so that one more round trip suffices."""
    with server.haggle() as c:
        c.option(wire.GO, wire.info_data(server.has("aligned")))
        found = c.replies(wire.GO)
        told = [data for kind, data in found if kind == wire.REP_INFO]
        check(any(data[:2] == wire.be16(wire.INFO_BLOCK_SIZE) for data in told), "no block sizes")
        if server.ours:
            equal(found[-1][0], wire.ERR_BLOCK_SIZE_REQD, "a client that did not ask for sizes of 4096")
        elif found[-1][0] == wire.REP_ACK:
            c.ended = True


@case(INFO_GO, MUST)
def block_size_reqd_is_never_said_to_one_who_asked(server):
    with server.haggle() as c:
        sizes = c.info(wire.GO, server.has("aligned"), wire.INFO_BLOCK_SIZE)[wire.INFO_BLOCK_SIZE]
        check(int.from_bytes(sizes[:4], "big") >= 512, "minimum block size")
        c.send(wire.request(wire.DISC, 0, 0))
        c.expect_closed()
