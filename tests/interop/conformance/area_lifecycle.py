# SPDX-License-Identifier: Apache-2.0
"""Clients that come, vanish and stay on while the server ends. The last ones end a server of their own."""
import os
import signal

import daemon
import target
import wire
from cases import MUST, OURS, SHOULD, Failed, case, check, each, equal
from client import reset, served_in_step

ENDING = "Terminating the transmission phase"


VANISHING = {"after_the_greeting": b"", "in_the_flags": b"\0\0", "after_the_flags": wire.be32(3),
             "in_an_option": wire.be32(3) + b"IHAVEOPT\0\0", "in_its_data": wire.be32(3) + wire.option(
                 wire.GO, b"\0\0\0\5di", 40), "behind_abort": wire.be32(3) + wire.option(wire.ABORT),
             "behind_list": wire.be32(3) + wire.option(wire.LIST) * 3}


@each("Termination of the session during option haggling", MUST, {name: (name,) for name in VANISHING})
def vanishing_in_the_negotiation_harms_nobody(server, where):
    with served_in_step(server.address, server.export):
        for _ in range(5):
            c = server.connect()
            c.receive(18)
            c.send(VANISHING[where])
            reset(c)


@each(ENDING, MUST, {"in_a_header": (wire.request(wire.READ, 0, 512)[:20],),
                     "in_a_payload": (wire.request(wire.WRITE, 8 << 20, 1 << 20) + bytes(70_000),),
                     "with_reads_in_flight": (wire.request(wire.READ, 0, 1 << 20) * 30,),
                     "with_writes_in_flight": ((wire.request(wire.WRITE, 8 << 20, 65536) + bytes(65536)) * 30,),
                     "with_everything_in_flight": (b"".join(wire.request(command, 8 << 20, 65536) for command in
                                                            (wire.READ, wire.FLUSH, wire.TRIM, wire.CACHE,
                                                             wire.WRITE_ZEROES)) * 20,)})
def vanishing_in_the_transmission_harms_nobody(server, sent):
    with served_in_step(server.address, server.export):
        for _ in range(5):
            t = server.transmit()
            t.send(sent)
            reset(t)


@case(ENDING, OURS)
def connecting_and_leaving_leaks_nothing(server):
    process = server.need_ours()
    folder = f"/proc/{process.pid}/fd"
    with server.haggle():
        before = len(os.listdir(folder))
    for _ in range(100):
        reset(server.connect())
        with server.transmit():
            pass
    daemon.until(lambda: len(os.listdir(folder)) <= before + 2, "the descriptors to be closed")


@case("Ordering of messages and writes", MUST)
def flush_makes_writes_of_all_connections_durable(server):
    """What can be seen from outside: the file has them."""
    process = server.need_ours()
    with server.transmit() as a, server.transmit() as b:
        a.write(3 << 20, wire.pattern(4096, 5))
        b.call(wire.FLUSH, 0, 0)
    with open(process.source, "rb") as f:
        f.seek(3 << 20)
        equal(f.read(4096), wire.pattern(4096, 5), "the file")


@case(ENDING, SHOULD)
def shutdown_answers_what_is_in_flight_or_says_eshutdown(server):
    server.need_ours()
    with target.our_server() as own, own.transmit() as t:
        t.send(b"".join(wire.request(wire.WRITE, i * 65536, 65536, cookie=i) + wire.pattern(65536, i)
                        for i in range(64)))
        first = t.receive(16)
        own.process.signal(signal.SIGTERM)
        answers, data = [first], b""
        while True:
            try:
                data = t.receive(16)
            except Failed:
                break
            answers.append(data)
        t.ended = True
        for answer in answers:
            cookie = int.from_bytes(answer[8:], "big")
            check(answer in (wire.simple_reply(cookie), wire.simple_reply(cookie, wire.ESHUTDOWN)), "answer")
        equal(own.exit_code(), 0, "exit code")
        with open(own.process.source, "rb") as f:
            for answer in answers:
                cookie = int.from_bytes(answer[8:], "big")
                f.seek(cookie * 65536)
                if answer == wire.simple_reply(cookie):
                    equal(f.read(65536), wire.pattern(65536, cookie), f"acknowledged write {cookie}")


@case(ENDING, OURS)
def shutdown_closes_idle_clients_in_every_phase(server):
    server.need_ours()
    with target.our_server() as own:
        with own.connect() as fresh, own.haggle() as haggling, own.transmit() as idle, \
                own.transmit(wire.STRUCTURED) as second:
            fresh.receive(18)
            own.process.signal(signal.SIGTERM)
            for c in (idle, second):
                c.expect_closed()
            haggling.send_to_closing(wire.option(wire.LIST))
            haggling.ended = True
            equal(own.exit_code(), 0, "exit code")
