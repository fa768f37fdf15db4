# SPDX-License-Identifier: Apache-2.0
"""Clients that come, vanish and stay on while the server ends. The last ones end a server of their own."""
import os
import re
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


@each("Ordering of messages and writes", MUST, {"flush": (wire.FLUSH, 0), "fua": (wire.WRITE, wire.FUA)})
def durability_reaches_the_store(server, command, flag):
    """A store that notes what it is asked: whoever flushes, on whichever connection, what was acknowledged to others
    before is flushed there before the reply; and FUA is not lost on the way."""
    process = server.need_ours()
    name = f"noted-{command}"
    log = os.path.join(process.folder, name + ".store-log")
    image = daemon.make_image(os.path.join(process.folder, name + ".img"), 1 << 20)
    with daemon.nbdkit(process.folder, "--filter=log", "file", image, "logfile=" + log, name=name) as store:
        added = process.cli("serve", name, "--source", store.uri)
        check(added.returncode == 0, added.stderr)
        try:
            ask_for_durability(server, name.encode(), log, command, flag)
        finally:
            process.cli("detach", name)


def ask_for_durability(server, export, log, command, flag):
    with server.transmit(export=export) as a, server.transmit(export=export) as b:
        known = len(noted(log))
        a.write(65536, wire.pattern(4096), flag)
        equal(noted(log)[known:], ["Write fua" if flag else "Write", "...Write"], "what a write asks the store for")
        if command == wire.FLUSH:
            b.call(wire.FLUSH, 0, 0)
            equal(noted(log)[known + 2:], ["Flush", "...Flush"], "what the other connection's flush asks it for")


def noted(log):
    """The changes and flushes in a log of nbdkit, as they began ("Write") and ended ("...Write")."""
    with open(log, encoding="utf-8") as f:
        lines = re.findall(r" (\.*(?:Write|Flush|Trim|Zero))\b(.*)", f.read())
    return [word + (" fua" if "fua=1" in rest else "") for word, rest in lines]


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
