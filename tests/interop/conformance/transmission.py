# SPDX-License-Identifier: Apache-2.0
"""The transmission phase on top of client.py: requests in the three styles, and what may answer them."""
import socket

import wire
from cases import NotOffered, check, equal, shown
from client import Haggling


class Transmission(Haggling):
    """A connection that transmits. Leaving the block sends DISC: the server closes without another byte,
    so that every case also shows that nothing was sent too much."""

    def __init__(self, server, style=wire.SIMPLE, contexts=(), export=None, wanted=()):
        super().__init__(server.address, tls=server.tls)
        self.style = style
        self.server = server
        name = server.export if export is None else export
        if style == wire.STRUCTURED:
            self.negotiate(wire.STRUCTURED_REPLY)
        elif style == wire.EXTENDED:
            self.negotiate(wire.EXTENDED_HEADERS)
        self.contexts = {}
        if contexts:
            self.contexts = self.set_contexts(name, *contexts)
            if len(self.contexts) != len(contexts):
                raise NotOffered("contexts " + b", ".join(contexts).decode())
        items = self.info(wire.GO, name, *wanted)
        data = items[wire.INFO_EXPORT]
        equal(len(data), 10, "size of NBD_INFO_EXPORT")
        self.size = int.from_bytes(data[:8], "big")
        self.flags = int.from_bytes(data[8:], "big")
        self.items = items
        self._cookie = 0x5AFE000000000000
        self._asked = {}

    def __exit__(self, kind, value, trace):
        try:
            if kind is None and not self.ended:
                self.ask(wire.DISC, 0, 0)
                self.expect_closed()
        finally:
            self.socket.close()

    def need(self, flag, name):
        if not self.flags & flag:
            raise NotOffered(name)

    def frame(self, command, offset, length, flags=0, payload=b"", cookie=None):
        """(cookie, bytes) of a request."""
        if cookie is None:
            self._cookie += 0x101
            cookie = self._cookie
        build = wire.extended_request if self.style == wire.EXTENDED else wire.request
        self._asked[cookie] = (command, offset, length)
        return cookie, build(command, offset, length, flags, cookie) + payload

    def ask(self, command, offset, length, flags=0, payload=b"", cookie=None):
        cookie, data = self.frame(command, offset, length, flags, payload, cookie)
        self.send(data)
        return cookie

    def put(self, offset, data, flags=0):
        """WRITE as the style has it; the cookie."""
        if self.style == wire.EXTENDED:
            flags |= wire.PAYLOAD_LEN
        return self.ask(wire.WRITE, offset, len(data), flags, data)

    def write(self, offset, data, flags=0):
        self.expect_ok(self.put(offset, data, flags))

    def call(self, command, offset, length, flags=0):
        """A request without payload that must succeed."""
        self.expect_ok(self.ask(command, offset, length, flags))

    def fails(self, error, command, offset, length, flags=0, payload=b""):
        """A request that must fail with this error, or one of these."""
        return self.expect_fails(self.ask(command, offset, length, flags, payload), error)

    def expect_ok(self, cookie):
        """Success without data: a simple reply, or a chunk NONE where chunks may be used."""
        if self.style == wire.SIMPLE:
            return self.expect(wire.simple_reply(cookie))
        if self.style == wire.EXTENDED:
            return self.expect(wire.extended_chunk(wire.NONE, cookie, self._asked[cookie][1]))
        self.expect_one_of([wire.simple_reply(cookie), wire.chunk(wire.NONE, cookie)])
        return None

    def expect_fails(self, cookie, error):
        """An error in a form that the style allows; its text where it has one."""
        errors = error if isinstance(error, tuple) else (error,)
        names = " or ".join(wire.ERROR_NAMES[e] for e in errors)
        command = self._asked[cookie][0]
        magic = int.from_bytes(self.receive(4), "big")
        if magic == wire.SIMPLE_REPLY_MAGIC:
            check(self.style == wire.SIMPLE or (self.style == wire.STRUCTURED and command != wire.READ),
                  "a simple reply where only chunks are allowed")
            got = int.from_bytes(self.receive(4), "big")
            check(got in errors, f"{wire.ERROR_NAMES.get(got, got)}, expected {names}")
            equal(self.receive(8), wire.be64(cookie), "cookie")
            return ""
        flags, kind, payload = self._chunk_after(magic, cookie)
        check(kind in (wire.ERROR, wire.ERROR_OFFSET), f"chunk {kind:#x} where an error was expected")
        got, text = self._error_payload(cookie, kind, payload)
        check(got in errors, f"{wire.ERROR_NAMES.get(got, got)} ({text}), expected {names}")
        if not flags & wire.DONE:
            equal(self.chunk(cookie), (wire.DONE, wire.NONE, b""), "end of the reply")
        return text

    def refused(self, cookie, errors):
        """True if the reply to a READ begins with an error chunk; it must be one of these, and is taken."""
        peeked = self.socket.recv(8, socket.MSG_PEEK | socket.MSG_WAITALL)
        if int.from_bytes(peeked[6:8], "big") & 0x8000 == 0:
            return False
        self.expect_fails(cookie, errors)
        return True

    def _error_payload(self, cookie, kind, payload):
        fixed = 14 if kind == wire.ERROR_OFFSET else 6
        check(len(payload) >= fixed, f"an error chunk of {len(payload)} bytes")
        size = int.from_bytes(payload[4:6], "big")
        equal(len(payload), fixed + size, "error chunk: length of header and message")
        check(size <= wire.MAX_STRING, f"a message of {size} bytes")
        if kind == wire.ERROR_OFFSET:
            _, offset, length = self._asked[cookie]
            at = int.from_bytes(payload[-8:], "big")
            check(offset <= at < offset + max(length, 1), f"error at {at}, outside the request")
        return int.from_bytes(payload[:4], "big"), payload[6:6 + size].decode()

    def chunk(self, cookie):
        """(flags, type, payload) of the next chunk, which must belong to `cookie`."""
        return self._chunk_after(int.from_bytes(self.receive(4), "big"), cookie)

    def _chunk_after(self, magic, cookie):
        extended = self.style == wire.EXTENDED
        check(self.style != wire.SIMPLE, f"reply magic {magic:#x} without structured replies")
        expected = wire.EXTENDED_REPLY_MAGIC if extended else wire.STRUCTURED_REPLY_MAGIC
        check(magic == expected, f"reply magic {magic:#x}, expected {expected:#x}")
        header = self.receive(28 if extended else 16)
        flags, kind = (int.from_bytes(header[at:at + 2], "big") for at in (0, 2))
        check(flags & ~wire.DONE == 0, f"unknown reply flags {flags:#x}")
        equal(header[4:12], wire.be64(cookie), "cookie of a chunk")
        if extended:
            equal(header[12:20], wire.be64(self._asked[cookie][1]), "offset of an extended reply")
        size = int.from_bytes(header[20:] if extended else header[12:], "big")
        check(size <= (64 << 20) + 8, f"a chunk of {size} bytes")
        return flags, kind, self.receive(size)

    def read(self, offset, length, flags=0):
        """The bytes of a successful READ, in whatever chunks the server likes."""
        cookie = self.ask(wire.READ, offset, length, flags)
        return self.expect_data(cookie)

    def expect_data(self, cookie):
        _, offset, length = self._asked[cookie]
        if self.style == wire.SIMPLE:
            self.expect(wire.simple_reply(cookie), "header of a read's reply")
            return self.receive(length)
        data = bytearray(length)
        for at, part in self.content(cookie):
            data[at - offset:at - offset + len(part)] = part
        return bytes(data)

    def content(self, cookie):
        """[(offset, bytes)] of a read's chunks: inside the request, each byte once, all of them."""
        _, offset, length = self._asked[cookie]
        parts = []
        flags = 0
        while not flags & wire.DONE:
            flags, kind, payload = self.chunk(cookie)
            if kind == wire.NONE:
                equal((flags, payload), (wire.DONE, b""), "chunk NONE")
            elif kind == wire.OFFSET_DATA:
                check(len(payload) >= 9, f"OFFSET_DATA of {len(payload)} bytes")
                parts.append((int.from_bytes(payload[:8], "big"), payload[8:]))
            elif kind == wire.OFFSET_HOLE:
                equal(len(payload), 12, "size of OFFSET_HOLE")
                size = int.from_bytes(payload[8:], "big")
                check(0 < size <= length, f"a hole of {size} bytes")
                parts.append((int.from_bytes(payload[:8], "big"), bytes(size)))
            else:
                check(False, f"chunk {kind:#x} {shown(payload)} in answer to READ")
        at = offset
        for start, part in sorted(parts):
            equal(start, at, "begin of the next part")
            at += len(part)
        equal(at, offset + length, "end of what was read")
        return parts

    def status(self, offset, length, flags=0, payload=None):
        """{context id: [(length, flags)]} of a successful BLOCK_STATUS."""
        if payload is None:
            cookie = self.ask(wire.BLOCK_STATUS, offset, length, flags)
        else:
            cookie = self.ask(wire.BLOCK_STATUS, offset, len(payload), flags | wire.PAYLOAD_LEN, payload)
        return self.expect_status(cookie, offset, length, flags & wire.REQ_ONE)

    def expect_status(self, cookie, offset, length, one):
        found = {}
        done = 0
        while not done & wire.DONE:
            done, kind, payload = self.chunk(cookie)
            if kind == wire.NONE:
                break
            equal(kind, wire.STATUS_EXT if self.style == wire.EXTENDED else wire.STATUS, "chunk type")
            context, extents = parse_status(kind, payload)
            check(context not in found, f"context {context} came twice")
            check_extents(extents, offset, length, one, self.size)
            found[context] = extents
        return found


def parse_status(kind, payload):
    """(context id, [(length, flags)]) of a status chunk."""
    context = int.from_bytes(payload[:4], "big")
    width, start = (16, 8) if kind == wire.STATUS_EXT else (8, 4)
    check(len(payload) > start and (len(payload) - start) % width == 0, f"{len(payload)} bytes of status")
    rows = [payload[at:at + width] for at in range(start, len(payload), width)]
    if kind == wire.STATUS_EXT:
        equal(int.from_bytes(payload[4:8], "big"), len(rows), "descriptor count")
    return context, [(int.from_bytes(row[:width // 2], "big"), int.from_bytes(row[width // 2:], "big"))
                     for row in rows]


def check_extents(extents, offset, length, one, size):
    """What "Structured reply types" demands of the descriptors of one chunk."""
    check(all(part for part, _ in extents), "an extent of no length")
    if one:
        equal(len(extents), 1, "extents of REQ_ONE")
        check(extents[0][0] <= length, f"REQ_ONE: {extents[0][0]} of {length} bytes")
    before_last = sum(part for part, _ in extents[:-1])
    check(before_last < length, "the last extent begins behind the request")
    check(offset + before_last + extents[-1][0] <= size, "an extent beyond the end of the export")
