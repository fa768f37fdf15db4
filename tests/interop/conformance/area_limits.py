# SPDX-License-Identifier: Apache-2.0
"""Peers that cost too much, that dawdle, that do not read: they harm themselves only. Invariant I16."""
import os
import time

import daemon
import target
import wire
from cases import OURS, SHOULD, case, check, each, equal
from client import ANSWER_SECONDS, served_in_step

ABUSE = "Termination of the session during option haggling"
SIZES = "Size constraints"
HANDSHAKE_SECONDS = 10
HANDSHAKE_BYTES = 64 * 1024


@case(ABUSE, OURS)
def options_without_end_close(server):
    server.need_ours()
    with server.haggle() as c:
        for answered in range(1000):
            c.option(77)
            if c.reply(77)[0] == wire.ERR_TOO_BIG:
                break
        c.expect_closed()
        check(16 <= answered < 999, f"closed after {answered} options")


@case(ABUSE, OURS)
def handshake_bytes_are_bounded_i16(server):
    """8 KiB options that are known, and their data read."""
    server.need_ours()
    with server.haggle() as c:
        sent = 0
        while sent < 4 * HANDSHAKE_BYTES:
            c.send_to_closing(wire.option(wire.INFO, wire.info_data(b"n" * 4096, *[1] * 1900)))
            sent += 16 + 7902
            if not c.socket.recv(65536):
                break
        c.ended = True
        check(sent <= HANDSHAKE_BYTES + 16384, f"closed after {sent} bytes")


@case(ABUSE, OURS)
def payloads_that_are_skipped_are_bounded_in_sum(server):
    server.need_ours()
    with server.haggle() as c:
        c.option(77, bytes(20 << 20))
        c.expect_error(77, wire.ERR_UNSUP)
        c.send_to_closing(wire.option(77, length=20 << 20))
        c.expect_error(77, wire.ERR_TOO_BIG)
        c.expect_closed()


@case("Newstyle negotiation", OURS)
def handshake_has_a_deadline_i16(server):
    """A peer that says nothing, one that stops in an option, and one that asks on and on."""
    server.need_ours()
    begun = time.monotonic()
    with server.connect() as silent, server.haggle() as half, server.haggle() as busy:
        half.send(b"IHAVEOPT" + wire.be32(wire.GO))
        silent.receive(18)
        while time.monotonic() - begun < HANDSHAKE_SECONDS - 2:
            busy.option(77)
            busy.expect_error(77, wire.ERR_UNSUP)
            time.sleep(0.25)
        for c in (silent, half, busy):
            c.expect_closed()
    spent = time.monotonic() - begun
    check(spent >= HANDSHAKE_SECONDS - 0.5, f"cut after {spent:.1f} s")


@each(SIZES, OURS, {"4_GiB": (2**32 - 1,), "64_MiB_and_one": ((64 << 20) + 1,)})
def absurd_write_drops(server, length):
    with server.transmit() as t:
        t.send_to_closing(wire.request(wire.WRITE, 0, length, cookie=1) + bytes(100))
        t.expect_closed()


@case(SIZES, SHOULD)
def absurd_read_is_an_error_not_the_end(server):
    """4 GiB of a disk of 1 TiB, without chunks: more than one reply may be."""
    with server.transmit(export=server.has("large")) as t:
        t.fails((wire.EOVERFLOW, wire.EINVAL), wire.READ, 0, 2**32 - 1)
        t.call(wire.FLUSH, 0, 0)


@case("Transmission", OURS)
def client_that_does_not_read_harms_nobody(server):
    """It asks for 2 GiB and reads nothing; another one is served, and the first one gets all of it later."""
    server.need_ours()
    with server.transmit(export=server.has("large")) as deaf:
        deaf.socket.setblocking(False)
        asked, sent = b"".join(wire.request(wire.READ, i << 20, 1 << 20, cookie=i) for i in range(2048)), 0
        while sent < len(asked):
            try:
                sent += deaf.socket.send(asked[sent:sent + 4096])
            except BlockingIOError:
                break
        deaf.socket.settimeout(ANSWER_SECONDS)
        with server.transmit() as other:
            for i in range(50):
                other.write(i * 4096, wire.pattern(4096))
                equal(other.read(i * 4096, 4096), wire.pattern(4096), "data of the other client")
        resident = resident_bytes(server.process.pid)
        check(resident < 700 << 20, f"{resident >> 20} MiB resident")
        for _ in range(16):
            cookie = int.from_bytes(deaf.receive(16)[8:], "big")
            check(cookie < 2048, "cookie")
            deaf.receive(1 << 20)
        deaf.ended = True


def resident_bytes(pid):
    with open(f"/proc/{pid}/statm", encoding="ascii") as f:
        return int(f.read().split()[1]) * 4096


@case("Transmission", OURS)
def client_that_writes_a_byte_at_a_time_harms_nobody(server):
    with server.transmit() as slow, server.transmit() as other:
        request = wire.request(wire.WRITE, 1 << 20, 64, cookie=3) + wire.pattern(64)
        for i in range(len(request)):
            slow.send(request[i:i + 1])
            if i % 8 == 0:
                other.write(0, wire.pattern(4096))
                equal(other.read(0, 4096), wire.pattern(4096), "data of the other client")
        slow.expect(wire.simple_reply(3))


@case("Transmission", OURS)
def client_that_stops_in_a_payload_harms_nobody(server):
    with server.transmit() as stuck, server.transmit() as other:
        stuck.send(wire.request(wire.WRITE, 0, 16 << 20, cookie=1) + bytes(1 << 20))
        for _ in range(20):
            other.write(2 << 20, wire.pattern(65536))
        other.call(wire.FLUSH, 0, 0)
        stuck.ended = True


@case("Newstyle negotiation", OURS)
def half_open_peers_harm_nobody(server):
    """300 connections that say nothing, or half a thing."""
    peers = []
    with served_in_step(server.address, server.export):
        for i in range(300):
            c = server.connect()
            c.receive(18)
            c.send((wire.be32(3) + b"IHAVEOPT")[:i % 13])
            peers.append(c)
        with server.transmit() as t:
            t.write(0, wire.pattern(4096))
    for c in peers:
        c.socket.close()


MANY_LISTS, MANY_EXPORTS = 2000, 60


@case("NBD_OPT_LIST", OURS)
def lists_that_nobody_reads_are_bounded_i16(server):
    """120 MiB of lists are asked for before one is read: the server keeps the questions, and answers all in order."""
    server.need_ours()
    with target.our_server(extra=("--limit", f"options={MANY_LISTS + 8}", "--limit", "handshake-time=10m")) as own:
        for i in range(MANY_EXPORTS):
            path = daemon.make_image(os.path.join(own.process.folder, f"many{i}.img"), 4096)
            status, said = own.process.request("POST", "/v1/disks", {
                "disk": f"many{i}", "source": path, "description": "d" * 1024})
            check(status < 300, f"serving many{i}: {said}")
        before = peak_bytes(own.process.pid)
        with own.haggle() as c:
            c.option(wire.LIST)
            one = b"".join(wire.option_reply(wire.LIST, *reply) for reply in c.replies(wire.LIST))
            check(len(one) > MANY_EXPORTS << 10, f"a list of {len(one)} bytes")
            c.send(wire.option(wire.LIST) * MANY_LISTS)
            with own.haggle() as other:
                for _ in range(50):
                    other.info(wire.INFO, own.export)
            for i in range(MANY_LISTS):
                c.expect(one, f"list {i}")
        grown = peak_bytes(own.process.pid) - before
        check(grown < 16 << 20, f"it has grown by {grown >> 20} MiB for {MANY_LISTS * len(one) >> 20} MiB of lists")


def peak_bytes(pid):
    """The most that a process ever had in memory."""
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return next(int(line.split()[1]) << 10 for line in f if line.startswith("VmHWM"))
