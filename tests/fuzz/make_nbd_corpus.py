#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the first inputs of the NBD fuzz targets: valid conversations, and known corner cases."""
import os
import struct
import sys

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "corpus")


def write(target, name, data):
    folder = os.path.join(FOLDER, target)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, name), "wb") as out:
        out.write(data)


def option(number, data=b""):
    return b"IHAVEOPT" + struct.pack(">II", number, len(data)) + data


def info(name, *wanted):
    return struct.pack(">I", len(name)) + name + struct.pack(">H", len(wanted)) + b"".join(
        struct.pack(">H", item) for item in wanted)


def meta(name, *queries):
    return struct.pack(">I", len(name)) + name + struct.pack(">I", len(queries)) + b"".join(
        struct.pack(">I", len(query)) + query for query in queries)


def request(flags, kind, offset, length, payload=b"", cookie=1):
    return struct.pack(">IHHQQI", 0x25609513, flags, kind, cookie, offset, length) + payload


def extended(flags, kind, offset, length, payload=b"", cookie=1):
    return struct.pack(">IHHQQQ", 0x21e41c71, flags, kind, cookie, offset, length) + payload


FLAGS = struct.pack(">I", 3)
GO = option(7, info(b"disk0", 3))
SET = option(10, meta(b"disk0", b"base:allocation", b"qemu:dirty-bitmap:b0"))
HANDSHAKES = {
    "export_name": struct.pack(">I", 1) + option(1, b"disk0"),
    "export_name_old_client": struct.pack(">I", 0) + option(1, b""),
    "export_name_missing": FLAGS + option(1, b"x" * 4096),
    "go": FLAGS + GO,
    "info_then_go": FLAGS + option(6, info(b"disk0", 1, 2, 3)) + GO,
    "everything": FLAGS + option(3) + option(8) + option(9, meta(b"disk0")) + SET + GO,
    "extended": FLAGS + option(11) + option(8) + SET + GO,
    "starttls": FLAGS + option(5) + option(5, b"data") + option(2),
    "unknown_with_payload": FLAGS + option(77, b"p" * 9000) + option(4) + option(2),
    "meta_hostile_count": FLAGS + option(8) + option(10, struct.pack(">I", 5) + b"disk0" + b"\xff" * 4) + GO,
    "meta_trailing_bytes": FLAGS + option(8) + option(10, meta(b"disk0", b"base:") + b"zz") + GO,
    "name_length_wraps": FLAGS + option(7, b"\xff\xff\xff\xffdisk0\0\0") + GO,
    "bad_flags": struct.pack(">I", 8) + GO,
    "bad_magic": FLAGS + b"IHAVEOPX" + GO,
}
PLAIN = (request(0, 0, 0, 4096) + request(1, 1, 100, 300, b"w" * 300) + request(0, 3, 0, 0) +
         request(0, 4, 0, 65536) + request(0, 5, 0, 100000) + request(2, 6, 512, 70000) +
         request(4, 0, 1, 65536) + request(0, 7, 0, 300000) + request(8, 7, 0, 4096))
EXTENDED = (extended(0, 0, 0, 4096) + extended(33, 1, 100, 300, b"w" * 300) + extended(0, 3, 0, 0) +
            extended(0, 6, 0, 300000) + extended(32, 7, 0, 12, struct.pack(">QI", 4096, 2)) +
            extended(32, 0, 0, 9, b"unwelcome") + extended(0, 7, 0, 300000))
# (option, how its data begins, what follows), see nbd_options.cc.
OPTIONS = {
    "go": [(7, 4 | 8, b"")], "go_with_sizes": [(6, 4 | 8 | 16, b"\0\3"), (7, 4 | 8 | 16, b"\0\3")],
    "structured_contexts_go": [(8, 0, b""), (10, 3 | 8, b""), (7, 4 | 8, b"")],
    "extended_contexts_go": [(11, 0, b""), (8, 0, b""), (9, 2 | 8, b"\0\0\0\0"), (10, 3 | 8, b""), (7, 4 | 8, b"")],
    "refused": [(3, 0, b"x"), (5, 0, b""), (4, 0, b""), (12, 0, b"unknown"), (7, 4, b""), (2, 0, b"")],
    "trailing": [(8, 0, b""), (10, 3 | 8, b"zz"), (7, 4 | 8, b"z"), (6, 2 | 8, b"\xff\xff")],
    "list_and_name": [(3, 0, b""), (3, 0, b""), (1, 1 | 8, b"")],
    "set_then_failed_set": [(8, 0, b""), (10, 3 | 8, b""), (10, 3, b""), (7, 4 | 8, b"")],
}
SESSIONS = {
    "plain": FLAGS + GO + PLAIN + request(0, 2, 0, 0),
    "structured": FLAGS + option(8) + SET + GO + PLAIN + request(0, 2, 0, 0),
    "extended": FLAGS + option(11) + SET + GO + EXTENDED + extended(0, 2, 0, 0),
    "refused_payload": FLAGS + GO + request(0, 1, 299999, 5000, b"r" * 5000) + request(0, 3, 0, 0),
    "beyond_and_wrap": FLAGS + GO + request(0, 0, 2**64 - 1, 4096) + request(0, 6, 300000, 1) +
                       request(0, 9, 0, 0) + request(0xffff, 3, 0, 0),
    "large_write": FLAGS + GO + request(0, 1, 0, 200000, b"L" * 200000) + request(0, 0, 0, 200000),
    "vanishes_in_payload": FLAGS + GO + request(0, 1, 0, 200000, b"v" * 150000),
    "absurd_write": FLAGS + GO + request(0, 1, 0, 0xffffffff, b"v" * 100),
    "bad_request_magic": FLAGS + GO + request(0, 3, 0, 0) + b"\0" * 28,
    "old_client": struct.pack(">I", 0) + option(1, b"disk0") + PLAIN,
    "status_as_long_as_data": FLAGS + option(11) + SET + GO + extended(32, 7, 0, 140000, b"s" * 140000) +
                              extended(0, 3, 0, 0),
    "status_as_long_as_data_at_the_end": FLAGS + option(11) + SET + GO +
                                         extended(32, 7, 299999, 140000, b"s" * 140000),
    "sectors": FLAGS + option(11) + option(10, meta(b"sectors", b"base:allocation")) +
               option(7, info(b"sectors", 3)) + extended(8, 7, 512, 100) + extended(8, 7, 0, 512) +
               extended(0, 7, 512, 100) + extended(0, 0, 0, 100) + EXTENDED + extended(0, 2, 0, 0),
}
STARTTLS = option(5)
# name: (mode, damaged byte, plain part, part inside TLS); see nbd_tls.cc
TLS_SESSIONS = {
    "required": (1, 0, FLAGS + STARTTLS, GO + PLAIN + request(0, 2, 0, 0)),
    "required_with_rules": (9, 0, FLAGS + STARTTLS, option(3) + option(6, info(b"disk1", 3)) + GO + PLAIN),
    "offered_and_taken": (0, 0, FLAGS + option(8) + SET + STARTTLS, option(11) + SET + GO + EXTENDED),
    "offered_and_left": (2, 0, FLAGS + GO + PLAIN, b""),
    "required_and_left": (3, 0, FLAGS + option(3) + GO + option(1, b"disk0"), b""),
    "list_first": (5, 0, FLAGS + option(3) + STARTTLS, option(3) + GO),
    "behind_starttls": (3, 0, FLAGS + STARTTLS + GO, b""),
    "plain_after_ack": (3, 0, FLAGS + STARTTLS, GO + GO),
    "twice": (1, 0, FLAGS + STARTTLS, STARTTLS + option(5, b"data") + GO),
    "with_data": (1, 0, FLAGS + option(5, b"data") + STARTTLS, GO),
    "damaged_hello": (1, 60, FLAGS + STARTTLS, GO),
    "damaged_finish": (1, 500, FLAGS + STARTTLS, GO + PLAIN),
    "damaged_data": (1, 900, FLAGS + STARTTLS, GO + PLAIN + PLAIN),
    "refused_payload": (1, 0, FLAGS + STARTTLS, GO + request(0, 1, 299999, 5000, b"r" * 5000) + PLAIN),
}


def main():
    for name, script in HANDSHAKES.items():
        write("nbd_handshake", name, bytes([len(name) * 3 % 256]) + script)
    for name, script in SESSIONS.items():
        write("nbd_session", name, bytes([1, 0]) + script)
        write("nbd_session", name + "_in_segments", bytes([7, 3]) + script[:20000])
    for name, (mode, damage, plain, sealed) in TLS_SESSIONS.items():
        write("nbd_tls", name, struct.pack(">BBBHH", 1, len(name) % 3 * 7, mode, len(plain), damage) +
              plain + sealed)
    for name, options in OPTIONS.items():
        write("nbd_options", name, b"".join(bytes([number - 1, shape, len(raw)]) + raw
                                            for number, shape, raw in options))
    for seed in (0, 1, 2, 64, 133, 170, 255):
        write("nbd_requests", "state_%d" % seed, bytes([seed]) + (EXTENDED if seed % 3 == 2 else PLAIN))
    write("nbd_replies", "holes", bytes([0, 0]) + bytes([0, 9, 3, 0, 9, 0, 1, 0, 3]))
    write("nbd_replies", "blocks_one", bytes([0x37, 9]) + bytes([0, 1, 3, 0, 2, 1, 0, 200, 2, 9, 9, 3]))
    write("nbd_replies", "text", b"\x01\xff" + "Gr\u00fc\u00dfe \u20ac".encode() * 100)
    write("nbd_replies", "zeros", bytes(300))
    return 0


if __name__ == "__main__":
    sys.exit(main())
