# SPDX-License-Identifier: Apache-2.0
"""A small NBD client on a raw socket. It says whatever it is told to, right or wrong, and compares what
comes back byte by byte. Nothing here corrects the server or the case."""
import contextlib
import socket
import struct

import wire
from cases import Failed, NotOffered, check, equal, shown

ANSWER_SECONDS = 30  # an answer that takes longer is none
# False for a server of which it is known that it closes without an answer, as old ones do: that is one failure
# of options.abort_is_acknowledged then, and not one of every case that ends with ABORT.
ABORT_IS_ANSWERED = True


class Connection:
    """A connected socket: send, and expect exactly these bytes."""

    def __init__(self, address):
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        if family == socket.AF_INET and ":" in address[0]:
            family = socket.AF_INET6
        self.socket = socket.socket(family)
        self.socket.settimeout(ANSWER_SECONDS)
        self.socket.connect(address)
        self.ended = False  # the case itself saw to the end of the connection

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.socket.close()

    def send(self, data):
        try:
            self.socket.sendall(data)
        except OSError as error:
            raise Failed(f"the server closed while {len(data)} bytes were sent ({error})") from error

    def send_to_closing(self, data):
        """Sends to a server that may close meanwhile, as it should."""
        try:
            self.socket.sendall(data)
        except OSError:
            pass

    def send_bytewise(self, data):
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        for i in range(len(data)):
            self.send(data[i:i + 1])

    def receive(self, size):
        """Exactly `size` bytes."""
        parts = []
        left = size
        while left:
            try:
                part = self.socket.recv(min(left, 1 << 20))
            except (TimeoutError, socket.timeout) as error:
                raise Failed(f"no answer: {left} of {size} bytes did not come") from error
            except OSError as error:
                raise Failed(f"the connection broke with {left} of {size} bytes to come: {error}") from error
            if not part:
                got = b"".join(parts)
                raise Failed(f"the server closed after {len(got)} of {size} bytes: {shown(got)}")
            parts.append(part)
            left -= len(part)
        return b"".join(parts)

    def expect(self, data, what="reply"):
        equal(self.receive(len(data)), data, what)

    def expect_one_of(self, answers, what="reply"):
        """Answers of equal beginnings need not have equal lengths; the longest first."""
        got = b""
        for answer in sorted(answers, key=len):
            if len(got) < len(answer):
                got += self.receive(len(answer) - len(got))
            if got == answer:
                return answer
        raise Failed(f"{what}: got {shown(got)}, expected {' or '.join(shown(a) for a in answers)}")

    def expect_closed(self):
        """The server closes, and sends nothing before."""
        self.ended = True
        try:
            rest = self.socket.recv(4096)
        except (TimeoutError, socket.timeout) as error:
            raise Failed("the server neither closed nor answered") from error
        except ConnectionResetError:
            return  # what we had sent was not read: closed all the same
        check(rest == b"", f"the server sent {shown(rest)} where it was to close")

    def is_silent(self, seconds):
        """True if nothing comes and nothing closes for a while."""
        self.socket.settimeout(seconds)
        try:
            self.socket.recv(1, socket.MSG_PEEK)
            return False
        except (TimeoutError, socket.timeout):
            return True
        finally:
            self.socket.settimeout(ANSWER_SECONDS)


class Haggling(Connection):
    """A connection in the negotiation. Leaving the block proves that both sides are still in step: ABORT is
    acknowledged, nothing else comes, and the server closes."""

    def __init__(self, address, client_flags=wire.C_FIXED_NEWSTYLE | wire.C_NO_ZEROES, tls=None):
        super().__init__(address)
        self.expect(wire.GREETING, "greeting")
        self.send(wire.be32(client_flags))
        if tls:
            self.option(wire.STARTTLS)
            self.expect_ack(wire.STARTTLS)
            self.secure(tls)

    def __exit__(self, kind, value, trace):
        try:
            if kind is None and not self.ended:
                self.leave()
        finally:
            super().__exit__(kind, value, trace)

    def secure(self, context):
        """The TLS handshake. From then on an end without close_notify is an error, not an end."""
        self.socket = context.wrap_socket(self.socket, server_hostname="localhost", suppress_ragged_eofs=False)

    def leave(self):
        """ABORT, its acknowledgement, the end, and nothing besides."""
        self.option(wire.ABORT)
        if not ABORT_IS_ANSWERED and self.has_ended():
            return
        self.expect(wire.option_reply(wire.ABORT, wire.REP_ACK), "answer to ABORT")
        self.expect_closed()

    def has_ended(self):
        """Waits for the next byte or the end."""
        try:
            return not self.socket.recv(1, socket.MSG_PEEK)
        except ConnectionResetError:
            return True

    def option(self, number, data=b"", length=None):
        self.send(wire.option(number, data, length))

    def reply(self, number):
        """(type, data) of the next reply, which must be to option `number`."""
        header = self.receive(20)
        equal(header[:12], wire.be64(wire.OPTION_REPLY_MAGIC) + wire.be32(number), "option reply header")
        kind, size = (int.from_bytes(header[at:at + 4], "big") for at in (12, 16))
        check(size <= 2 * wire.MAX_STRING + 64, f"an option reply of {size} bytes")
        return kind, self.receive(size)

    def replies(self, number):
        """All replies to an option: a list that ends with the acknowledgement or the error."""
        found = []
        while not found or found[-1][0] in (wire.REP_SERVER, wire.REP_INFO, wire.REP_META_CONTEXT):
            found.append(self.reply(number))
        return found

    def expect_ack(self, number):
        self.expect(wire.option_reply(number, wire.REP_ACK), "acknowledgement")

    def expect_error(self, number, *kinds):
        """Exactly one reply, an error of one of the kinds; its text is a string as the protocol has them."""
        kind, data = self.reply(number)
        check(kind in kinds, f"reply {kind:#x}, expected {' or '.join(f'{k:#x}' for k in kinds)}")
        check(b"\0" not in data and len(data) <= wire.MAX_STRING, f"no string: {shown(data)}")
        try:
            return kind, data.decode()
        except UnicodeDecodeError as error:
            raise Failed(f"the error's text is no UTF-8: {shown(data)}") from error

    def negotiate(self, number):
        """An option without data that the case rests on."""
        self.option(number)
        kind, _ = self.reply(number)
        if kind != wire.REP_ACK:
            raise NotOffered({wire.STRUCTURED_REPLY: "structured replies",
                              wire.EXTENDED_HEADERS: "extended headers"}.get(number, f"option {number}"))

    def info(self, number, name, *wanted):
        """{type: data} of a successful INFO or GO; each type comes once."""
        self.option(number, wire.info_data(name, *wanted))
        found = self.replies(number)
        if found[-1][0] == wire.ERR_UNSUP:
            raise NotOffered("INFO and GO")
        equal(found[-1], (wire.REP_ACK, b""), "end of the information")
        items = {}
        for kind, data in found[:-1]:
            equal(kind, wire.REP_INFO, "reply type")
            item = int.from_bytes(data[:2], "big")
            check(item not in items, f"information {item} came twice")
            items[item] = data[2:]
        check(wire.INFO_EXPORT in items, "no NBD_INFO_EXPORT")
        return items

    def set_contexts(self, name, *queries):
        """{context name: id} as SET_META_CONTEXT selects them."""
        self.option(wire.SET_META_CONTEXT, wire.meta_data(name, *queries))
        found = self.replies(wire.SET_META_CONTEXT)
        equal(found[-1], (wire.REP_ACK, b""), "end of the contexts")
        contexts = {data[4:]: int.from_bytes(data[:4], "big") for _, data in found[:-1]}
        equal(len(contexts), len(found) - 1, "contexts of different names")
        equal(len(set(contexts.values())), len(contexts), "contexts of different ids")
        return contexts


@contextlib.contextmanager
def served_in_step(address, export):
    """After the block, the server still serves a new client."""
    yield
    with Haggling(address) as c:
        c.info(wire.INFO, export)


def reset(c):
    """Ends a connection as a crashed host does: with a reset where the transport has one."""
    c.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    c.socket.close()
    c.ended = True
