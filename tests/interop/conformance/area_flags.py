# SPDX-License-Identifier: Apache-2.0
"""Commands and command flags that do not exist, or not here."""
import wire
from cases import MUST, OURS, SHOULD, case, each, equal

ALL_FLAGS = {"FUA": wire.FUA, "NO_HOLE": wire.NO_HOLE, "DF": wire.DF, "REQ_ONE": wire.REQ_ONE,
             "FAST_ZERO": wire.FAST_ZERO, "PAYLOAD_LEN": wire.PAYLOAD_LEN, "bit_6": 1 << 6, "bit_15": 1 << 15}
COMMANDS = {"READ": wire.READ, "WRITE": wire.WRITE, "FLUSH": wire.FLUSH, "TRIM": wire.TRIM, "CACHE": wire.CACHE,
            "WRITE_ZEROES": wire.WRITE_ZEROES}
LEGAL = {"WRITE_ZEROES": {"NO_HOLE", "FAST_ZERO"}}
OFFERED_BY = {"TRIM": wire.SEND_TRIM, "CACHE": wire.SEND_CACHE, "WRITE_ZEROES": wire.SEND_WRITE_ZEROES,
              "FLUSH": wire.SEND_FLUSH}
MISPLACED = {f"{flag}_on_{command}": (command, flag) for command in COMMANDS for flag in ALL_FLAGS
             if flag != "FUA" and flag not in LEGAL.get(command, ())}


@each("Error values", SHOULD, MISPLACED)
def flag_that_does_not_belong_is_einval(server, command, flag):
    """With simple replies. A payload is consumed all the same, and nothing is changed."""
    with server.transmit() as t:
        if command in OFFERED_BY:
            t.need(OFFERED_BY[command], command)
        t.write(0, wire.pattern(4096))
        payload = bytes(4096) if command == "WRITE" else b""
        length = 0 if command == "FLUSH" else 4096
        t.fails(wire.EINVAL, COMMANDS[command], 0, length, ALL_FLAGS[flag], payload)
        equal(t.read(0, 4096), wire.pattern(4096), "data")


@each("Command flags", SHOULD, {name: (name,) for name in COMMANDS})
def fua_is_legal_on_every_command(server, name):
    with server.transmit() as t:
        t.need(wire.SEND_FUA, "FUA")
        if name in OFFERED_BY:
            t.need(OFFERED_BY[name], name)
        if name == "READ":
            t.read(0, 4096, wire.FUA)
        elif name == "WRITE":
            t.write(0, wire.pattern(4096), wire.FUA)
        else:
            t.call(COMMANDS[name], 0, 0 if name == "FLUSH" else 4096, wire.FUA)


@each("Error values", SHOULD, {str(number): (number,) for number in (8, 9, 100, 0x7FFF, 0xFFFF)})
def unknown_command_is_einval_and_has_no_payload(server, number):
    """RESIZE, and commands that nobody knows: the connection goes on, whatever the length says."""
    with server.transmit() as t:
        t.fails(wire.EINVAL, number, 0, 0)
        t.fails(wire.EINVAL, number, 4096, 4096)
        t.call(wire.FLUSH, 0, 0)


@case("Error values", OURS)
def unknown_command_with_every_flag_is_einval(server):
    with server.transmit() as t:
        t.fails(wire.EINVAL, 0xABCD, 2**64 - 1, 2**32 - 1, 0xFFFF)


@case("NBD_CMD_BLOCK_STATUS", SHOULD)
def block_status_with_simple_replies_is_einval(server):
    with server.transmit() as t:
        t.fails(wire.EINVAL, wire.BLOCK_STATUS, 0, 4096)


@case("NBD_CMD_WRITE_ZEROES", MUST)
def enotsup_is_for_fast_zero_alone(server):
    with server.transmit() as t:
        t.need(wire.SEND_WRITE_ZEROES, "WRITE_ZEROES")
        for flags in (0, wire.NO_HOLE, wire.FUA, wire.NO_HOLE | wire.FUA):
            t.call(wire.WRITE_ZEROES, 1, 300_001, flags)


@case("Error values", SHOULD)
def an_error_leaves_no_trace_in_the_next_reply(server):
    """Alternating failures and successes, pipelined."""
    with server.transmit() as t:
        t.send(b"".join(wire.request(wire.READ, t.size if i % 2 else 0, 1, cookie=i) for i in range(50)))
        for _ in range(50):
            header = t.receive(16)
            cookie = int.from_bytes(header[8:], "big")
            equal(header, wire.simple_reply(cookie, wire.EINVAL if cookie % 2 else 0), "header")
            if not cookie % 2:
                t.receive(1)
