# SPDX-License-Identifier: Apache-2.0
"""A server that is wrong in one way: a man in the middle between the suite and a good server, who changes what
the server says. For the suite's own test: a suite that cannot see this has no worth."""
import contextlib
import os
import re
import socket
import threading

import wire

SIMPLE = re.escape(wire.be32(wire.SIMPLE_REPLY_MAGIC))
CHUNK = re.escape(wire.be32(wire.STRUCTURED_REPLY_MAGIC))
EXTENDED = re.escape(wire.be32(wire.EXTENDED_REPLY_MAGIC))
OPTION = re.escape(wire.be64(wire.OPTION_REPLY_MAGIC))


def replaced(pattern, change):
    """A fault that rewrites every match of a pattern in what the server sends."""
    compiled = re.compile(pattern, re.S)

    def fault(data):
        return compiled.sub(change, data)
    return fault


def error(wrong, right):
    """Simple replies and option replies with another error."""
    return replaced(SIMPLE + re.escape(wire.be32(right)), wire.be32(wire.SIMPLE_REPLY_MAGIC) + wire.be32(wrong))


def option_error(wrong, right):
    return replaced(b"(" + OPTION + b".{4})" + re.escape(wire.be32(right)), lambda m: m[1] + wire.be32(wrong))


def at(position, flip):
    """Flips bits of the byte at a place behind the begin of a match's first group."""
    def change(match):
        data = bytearray(match[0])
        data[position] ^= flip
        return bytes(data)
    return change


# name: (what is wrong with the server's bytes, cases of which at least one must fail)
FAULTS = {
    "greeting without NO_ZEROES": (replaced(b"^NBDMAGICIHAVEOPT..", b"NBDMAGICIHAVEOPT\0\1"), ["handshake.greeting"]),
    "padding where none belongs": (lambda data: data + bytes(124) if len(data) == 10 else data,
                                   ["handshake.export_name_is_not_padded"]),
    "wrong option in a reply": (replaced(OPTION + b".{4}", at(11, 1)), ["options.unknown_option"]),
    "UNSUP becomes INVALID": (option_error(wire.ERR_INVALID, wire.ERR_UNSUP), ["options.unknown_option"]),
    "INVALID becomes UNSUP": (option_error(wire.ERR_UNSUP, wire.ERR_INVALID), ["info.malformed_data_is"]),
    "UNKNOWN becomes an acknowledgement": (option_error(wire.REP_ACK, wire.ERR_UNKNOWN), ["info.missing_export"]),
    "two replies to one option": (replaced(b"(" + OPTION + b".{4}" + re.escape(wire.be32(wire.ERR_UNSUP)) +
                                           b".{4})", lambda m: m[1] + m[1]), ["options.unknown_option_is_unsup_and_skipped_0"]),
    "size of the export": (replaced(b"(" + OPTION + b".{4}\0\0\0\3\0\0\0\x0c\0\0).{8}", lambda m: m[1] + wire.be64(7)),
                           ["info.info_without_requests"]),
    "name of a context": (lambda data: data.replace(b"base:allocation", b"base:allocatioN"), ["meta.list_base"]),
    "cookie": (replaced(SIMPLE + b".{12}", at(15, 1)), ["simple.cookies_are_opaque_1"]),
    "EINVAL becomes EIO": (error(wire.EIO, wire.EINVAL), ["simple.read_outside"]),
    "ENOSPC becomes EINVAL": (error(wire.EINVAL, wire.ENOSPC), ["changes.write_outside"]),
    "EPERM becomes success": (error(0, wire.EPERM), ["changes.read_only_export"]),
    "one bit of the data": (replaced(SIMPLE + b".{12}.{300}$", at(200, 4)), ["simple.read_reply_is"]),
    "a byte too much": (replaced(SIMPLE + b"\0\0\0\0.{8}$", lambda m: m[0] + b"\0"), ["changes.flush_is_lenient"]),
    "DONE is missing": (replaced(CHUNK + b"..", at(5, 1)), ["structured.read_of_data"]),
    "offset of a hole": (replaced(CHUNK + b"..\0\2.{20}", at(27, 1)), ["structured.read_of_zeros"]),
    "length of an error's text": (replaced(CHUNK + b"..\x80\1.{18}", at(25, 1)), ["structured.errors_say_why"]),
    "simple reply to READ": (replaced(CHUNK + b"..\x80\1(.{8}).{4}(.{4}).*$", lambda m: wire.be32(
        wire.SIMPLE_REPLY_MAGIC) + m[2] + m[1]), ["structured.failed_read_is"]),
    "extended reply without the offset": (replaced(b"(" + EXTENDED + b".{12}).{8}", lambda m: m[1] + bytes(8)),
                                          ["extended.read_reply_echoes"]),
    "unknown reply flag": (replaced(EXTENDED + b"..", at(5, 2)), ["extended.success_is"]),
    "context id": (replaced(CHUNK + b"..\0\5.{16}", at(23, 3)), ["status.extents_keep_the_rules"]),
    "data called a hole": (replaced(b"(" + CHUNK + b"..\0\5.{20}).{4}", lambda m: m[1] + wire.be32(3)),
                           ["status.written_data_is_never"]),
    "extent beyond the end": (replaced(b"(" + CHUNK + b"..\0\5.{16}).{4}", lambda m: m[1] + wire.be32(2**31)),
                              ["status.extents_keep_the_rules"]),
    "upper half of extended flags": (replaced(EXTENDED + b"..\0\6.{40}", at(40, 1)), ["status.extended_status_flags"]),
    "never closes": (None, ["simple.disc_closes", "handshake.bad_option_magic"]),
}


class Middle:
    """Listens on a unix socket of its own and passes everything on; `fault` changes what the server says. None:
    nothing is changed, but the server's end is kept from the client."""

    def __init__(self, folder, server_address, fault):
        self.address = os.path.join(folder, "middle.sock")
        self._server_address = server_address
        self._fault = fault
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.address)
        self._listener.listen(64)
        self._sockets = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for s in self._sockets:
            with contextlib.suppress(OSError):
                s.shutdown(socket.SHUT_RDWR)
            s.close()
        for thread in self._threads:
            thread.join(10)
        os.unlink(self.address)

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            server.connect(self._server_address)
            self._sockets += [client, server]
            for arguments in ((client, server, lambda data: data), (server, client, self._fault)):
                thread = threading.Thread(target=pass_on, args=arguments, daemon=True)
                self._threads.append(thread)
                thread.start()


def pass_on(source, sink, change):
    """Until the source ends; then the sink is told, unless this is the one who never closes."""
    with contextlib.suppress(OSError):
        while True:
            data = source.recv(1 << 16)
            if not data:
                break
            sink.sendall(change(data) if change else data)
        if change:
            sink.shutdown(socket.SHUT_WR)
