# SPDX-License-Identifier: Apache-2.0
"""Requests and replies: framing, cookies, READ, and what ends a connection. Simple replies."""
import socket

import wire
from cases import MUST, NotOffered, OURS, SHOULD, case, each, equal
from ranges import OUTSIDE, ranges

REQUEST = "Request message"
READING = "NBD_CMD_READ"
ENDING = "Terminating the transmission phase"


@case(READING, MUST)
def read_returns_what_was_written(server):
    data = wire.pattern(100_000)
    with server.transmit() as t:
        t.write(12345, data)
        equal(t.read(12345, len(data)), data, "data")


@case("Simple reply message", MUST)
def read_reply_is_header_and_data_exactly(server):
    with server.transmit() as t:
        t.write(0, wire.pattern(512))
        t.send(wire.request(wire.READ, 1, 300, cookie=0x0102030405060708))
        t.expect(wire.simple_reply(0x0102030405060708) + wire.pattern(512)[1:301])


@each(READING, MUST, {"first_byte": (0, 1), "last_byte": (-1, 1), "odd_tail": (-513, 513), "1_of_4096": (4095, 2),
                      "511": (1, 511), "64_KiB": (0, 65536), "1_MiB": (4097, 1 << 20), "16_MiB": (3, 16 << 20)})
def reads_of_every_size_match_the_last_write(server, offset, length):
    with server.transmit() as t:
        at = offset % t.size
        data = wire.pattern(length, seed=length % 7)
        t.write(at, data)
        equal(t.read(at, length), data, "data")


@case("Size constraints", SHOULD)
def read_of_32_mib_is_served(server):
    with server.transmit(export=server.has("large")) as t:
        equal(t.read(1 << 30, 32 << 20), bytes(32 << 20), "data of a hole")


@case(READING, SHOULD)
def read_of_nothing_does_not_disconnect(server):
    """Success or an error, and no data."""
    with server.transmit() as t:
        cookie = t.ask(wire.READ, 0, 0)
        t.expect_one_of([wire.simple_reply(cookie), wire.simple_reply(cookie, wire.EINVAL)])


@each("Error values", SHOULD, OUTSIDE)
def read_outside_is_einval_without_data(server, where):
    with server.transmit() as t:
        offset, length = ranges(t.size)[where]
        t.fails(wire.EINVAL, wire.READ, offset, length)


@each("Request types", MUST, {str(i): (cookie,) for i, cookie in enumerate(
    (0, 1, 2**32, 2**63, 2**64 - 1, 0x6744669800000000, 0x25609513))})
def cookies_are_opaque(server, cookie):
    with server.transmit() as t:
        t.send(wire.request(wire.FLUSH, 0, 0, cookie=cookie) * 2)  # a cookie twice in flight harms nobody
        t.expect(wire.simple_reply(cookie) * 2)


@case("Transmission", MUST)
def pipelined_requests_are_each_answered_once(server):
    """200 reads in one segment, in any order."""
    with server.transmit() as t:
        t.write(0, wire.pattern(204800))
        t.send(b"".join(wire.request(wire.READ, i * 1024, 1024, cookie=i) for i in range(200)))
        seen = set()
        for _ in range(200):
            header = t.receive(16)
            cookie = int.from_bytes(header[8:], "big")
            equal(header, wire.simple_reply(cookie), "header")
            equal(t.receive(1024), wire.pattern(204800)[cookie * 1024:][:1024], f"data of {cookie}")
            seen.add(cookie)
        equal(seen, set(range(200)), "cookies")


@case(REQUEST, MUST)
def requests_may_come_a_byte_at_a_time(server):
    with server.transmit() as t:
        t.send_bytewise(wire.request(wire.WRITE, 77, 40, cookie=5) + wire.pattern(40) +
                        wire.request(wire.READ, 77, 40, cookie=6))
        t.expect(wire.simple_reply(5) + wire.simple_reply(6) + wire.pattern(40))


@case(REQUEST, MUST)
def request_behind_a_payload_is_found(server):
    """Data that looks like requests is data."""
    data = wire.request(wire.DISC, 0, 0) * 40
    with server.transmit() as t:
        t.write(999, data)
        equal(t.read(999, len(data)), data, "data")


@each(REQUEST, OURS, {"zero": (0,), "reply": (wire.SIMPLE_REPLY_MAGIC,), "swapped": (0x13956025,),
                        "historic": (0x12560953,), "extended": (wire.EXTENDED_REQUEST_MAGIC,)})
def wrong_request_magic_closes(server, magic):
    with server.transmit() as t:
        t.send_to_closing(wire.be32(magic) + wire.request(wire.FLUSH, 0, 0)[4:] + bytes(4))
        t.expect_closed()


@each("NBD_CMD_DISC", MUST, {"plain": (0, 0), "with_offset": (4096, 0), "with_length": (0, 4096)})
def disc_closes_without_a_reply(server, offset, length):
    with server.transmit() as t:
        t.send(wire.request(wire.DISC, offset, length))
        t.expect_closed()


@case("NBD_CMD_DISC", MUST)
def disc_waits_for_everything_in_flight(server):
    """Every request before it is answered, then the server closes."""
    with server.transmit() as t:
        requests = b"".join(wire.request(wire.WRITE, i * 65536, 65536, cookie=i) + wire.pattern(65536, i)
                            for i in range(16))
        t.send(requests + wire.request(wire.DISC, 0, 0))
        answers = {t.receive(16) for _ in range(16)}
        equal(answers, {wire.simple_reply(i) for i in range(16)}, "answers before the end")
        t.expect_closed()
    with server.transmit() as t:
        for i in range(16):
            equal(t.read(i * 65536, 65536), wire.pattern(65536, i), f"data of write {i}")


@case("NBD_CMD_DISC", OURS)
def bytes_behind_disc_are_ignored(server):
    with server.transmit() as t:
        t.write(0, wire.pattern(4096))
        t.send_to_closing(wire.request(wire.DISC, 0, 0) +
                          wire.request(wire.WRITE, 0, 4096, cookie=8) + bytes(4096))
        t.expect_closed()
    with server.transmit() as t:
        equal(t.read(0, 4096), wire.pattern(4096), "data")


@case(ENDING, OURS)
def disc_closes_without_waiting_for_the_client(server):
    with server.transmit() as t:
        t.socket.shutdown(socket.SHUT_WR)
        t.expect_closed()


@case(ENDING, OURS)
def half_closed_client_gets_its_answers(server):
    """It said all it has to say, and reads on."""
    with server.transmit() as t:
        t.write(0, wire.pattern(4096))
        t.send(wire.request(wire.READ, 0, 4096, cookie=4))
        t.socket.shutdown(socket.SHUT_WR)
        t.expect(wire.simple_reply(4) + wire.pattern(4096))
        t.expect_closed()


@case("Size constraints", SHOULD)
def unaligned_to_the_minimum_is_einval(server):
    with server.transmit(export=server.has("aligned"), wanted=(wire.INFO_BLOCK_SIZE,)) as t:
        least = int.from_bytes(t.items[wire.INFO_BLOCK_SIZE][:4], "big")
        if least == 1:
            raise NotOffered("a minimum block size")
        for offset, length in ((1, least), (0, least - 1), (least // 2, least), (least, least + 1)):
            t.fails(wire.EINVAL, wire.READ, offset, length)
            t.fails(wire.EINVAL, wire.WRITE, offset, length, payload=wire.pattern(length))
        equal(t.read(0, least), bytes(least), "the block after refused writes")
        t.write(least, wire.pattern(least))
        equal(t.read(least, least), wire.pattern(least), "an aligned write")


@case("Transmission flags", MUST)
def writes_and_fua_are_seen_by_other_connections(server):
    with server.transmit() as a, server.transmit() as b:
        a.need(wire.CAN_MULTI_CONN, "MULTI_CONN")
        for i, flags in enumerate((0, wire.FUA)):
            a.write(8192, wire.pattern(5000, i), flags)
            equal(b.read(8192, 5000), wire.pattern(5000, i), "data by the other connection")
        b.call(wire.FLUSH, 0, 0)
