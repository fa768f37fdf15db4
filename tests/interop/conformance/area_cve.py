# SPDX-License-Identifier: Apache-2.0
"""What has brought other servers down, one case for each number. After each, a new client is served. Those of
clients are tests/interop/cve_*.py; those of TLS are with the tests of TLS."""
import os
import signal
import time

import target
import wire
from cases import MUST, OURS, case, check, equal
from client import reset, served_in_step

NAME = "NBD_OPT_EXPORT_NAME"
HAGGLING = "Termination of the session during option haggling"


def in_step(server):
    return served_in_step(server.address, server.export)


@case(HAGGLING, MUST)
def cve_2013_7441_disconnect_in_the_negotiation(server):
    """nbd-server: the parent process ended with a client that left, so nobody was served any more."""
    with in_step(server):
        for sent in (b"", wire.be32(3), wire.be32(3) + wire.option(wire.LIST), wire.be32(2**32 - 1)):
            c = server.connect()
            c.receive(18)
            c.send_to_closing(sent)
            c.socket.close()
    if server.ours:
        check(server.process.alive(), "the daemon has ended")


@case(HAGGLING, MUST)
def cve_2017_7539_closed_while_the_server_answers(server):
    """qemu: an assertion about bytes sent, when the peer had closed before the negotiation's answer."""
    with in_step(server):
        for _ in range(30):
            c = server.haggle()
            c.send(wire.option(wire.LIST) + wire.option(wire.INFO, wire.info_data(server.export, 1, 2, 3)))
            reset(c)


@case("Newstyle negotiation", MUST)
def cve_2017_9524_connect_and_leave(server):
    """qemu: a client that left before the negotiation was done was freed twice."""
    with in_step(server):
        connections = [server.connect() for _ in range(64)]
        for c in connections:
            reset(c)


@case(NAME, MUST)
def cve_2017_15118_long_export_name(server):
    """qemu: a name of 4096 bytes and more overflowed the stack."""
    with in_step(server):
        for size in (256, 4095, 4096, 4097, 8191, 8192, 65536, 1 << 20):
            for number, data in ((wire.EXPORT_NAME, b"A" * size), (wire.INFO, wire.info_data(b"A" * size)),
                                 (wire.GO, wire.info_data(b"A" * size))):
                with server.haggle() as c:
                    c.send_to_closing(wire.option(number, data))
                    c.ended = True
                    c.socket.settimeout(10)
                    try:
                        check(len(c.socket.recv(9000)) < 8500, "too much of an answer")
                    except ConnectionResetError:
                        pass


@case(HAGGLING, OURS)
def cve_2017_15119_large_options_burn_no_time(server):
    """qemu: options of 4 GiB were read for as long as the peer liked."""
    process = server.need_ours()
    with in_step(server):
        before = cpu_seconds(process.pid)
        for _ in range(20):
            with server.haggle() as c:
                c.send(wire.option(99, length=2**32 - 1))
                c.expect_error(99, wire.ERR_TOO_BIG)
                c.expect_closed()
        check(cpu_seconds(process.pid) - before < 2, "processor time")


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        fields = f.read().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@case("NBD_OPT_INFO and NBD_OPT_GO", MUST)
def cve_2019_14850_nothing_is_opened_before_it_is_asked_for(server):
    """nbdkit: a connection alone opened the plugin, so that a peer without rights could exhaust the store. Ours
    has its stores open since they were added; connections add none."""
    process = server.need_ours()
    folder = f"/proc/{process.pid}/fd"

    def stores():
        open_files = []
        for fd in os.listdir(folder):
            try:
                open_files.append(os.readlink(os.path.join(folder, fd)))
            except FileNotFoundError:
                continue
        return sorted(path for path in open_files if path.endswith(".img"))
    before = stores()
    peers = [server.haggle() for _ in range(50)]
    try:
        for c in peers:
            c.info(wire.INFO, server.export, wire.INFO_BLOCK_SIZE)
        equal(stores(), before, "open stores")
    finally:
        for c in peers:
            reset(c)


@case("NBD_OPT_INFO and NBD_OPT_GO", MUST)
def cve_2019_14851_info_then_another_option(server):
    """nbdkit: INFO opened the export; GO, EXPORT_NAME or a second INFO then met an assertion."""
    with in_step(server):
        for later in (wire.INFO, wire.GO, wire.EXPORT_NAME, wire.LIST):
            with server.haggle() as c:
                c.info(wire.INFO, server.export)
                if later == wire.EXPORT_NAME:
                    c.option(later, server.export)
                    c.receive(10)
                elif later == wire.LIST:
                    c.option(later)
                    c.replies(later)
                    continue
                else:
                    c.info(later, server.export)
                reset(c)


@case("NBD_OPT_INFO and NBD_OPT_GO", MUST)
def cve_2020_10761_error_text_with_the_longest_name(server):
    """qemu: the text that names a missing export of 4096 bytes was longer than a text may be: an assertion."""
    with in_step(server):
        for name in (b"%" * 4096, "\u20ac".encode() * 1365, b"n" * 4095):
            for number in (wire.INFO, wire.GO):
                with server.haggle() as c:
                    c.option(number, wire.info_data(name))
                    c.expect_error(number, wire.ERR_UNKNOWN)
            with server.haggle_structured() as c:
                c.option(wire.SET_META_CONTEXT, wire.meta_data(name, b"base:allocation"))
                check(len(c.replies(wire.SET_META_CONTEXT)[-1][1]) <= wire.MAX_STRING, "length of the text")


@case("NBD_OPT_INFO and NBD_OPT_GO", MUST)
def cve_2022_26495_name_length_near_2_32(server):
    """nbd-server: the length plus one wrapped to zero, and the name was read into nothing."""
    with in_step(server):
        for number in (wire.INFO, wire.GO, wire.LIST_META_CONTEXT, wire.SET_META_CONTEXT):
            for length in (2**32 - 1, 2**32 - 2, 2**32 - 6, 2**31, 2**31 - 1):
                with server.haggle_structured() as c:
                    c.option(number, wire.be32(length) + bytes(64))
                    c.expect_error(number, wire.ERR_INVALID)


@case("NBD_OPT_INFO and NBD_OPT_GO", MUST)
def cve_2022_26496_name_longer_than_its_option(server):
    """nbd-server: a name length that is larger than the option's overflowed the stack."""
    with in_step(server):
        for number in (wire.INFO, wire.GO, wire.SET_META_CONTEXT):
            for length in (9, 1024, 4096, 65536):
                with server.haggle_structured() as c:
                    c.option(number, wire.be32(length) + b"A" * 8)
                    c.expect_error(number, wire.ERR_INVALID)


@case("Terminating the transmission phase", OURS)
def cve_2024_7409_clients_that_stay_while_the_server_ends(server):
    """qemu: a client that lingered in the negotiation met a server that was being taken down: a crash."""
    server.need_ours()
    with target.our_server() as own:
        peers = [own.connect() for _ in range(20)] + [own.haggle() for _ in range(20)]
        busy = [own.transmit() for _ in range(5)]
        for t in busy:
            t.send(b"".join(wire.request(wire.READ, 0, 1 << 20, cookie=i) for i in range(20)))
        own.process.signal(signal.SIGTERM)
        for i, c in enumerate(peers):
            c.send_to_closing(wire.be32(3) + wire.option(wire.GO, wire.info_data(own.export))[:i * 2])
        time.sleep(0.05)
        late = []
        for _ in range(10):
            try:
                late.append(own.connect())
            except OSError:
                break
        for c in peers + busy + late:
            reset(c)
        equal(own.exit_code(), 0, "exit code")
