# SPDX-License-Identifier: Apache-2.0
"""The numbers and the frames of the NBD protocol, as bytes. Sections: doc/proto.md of the project
NetworkBlockDevice; what is marked EXT is from its branch extension-ext-header."""
import struct

# "Newstyle negotiation", "Fixed newstyle negotiation"
GREETING = b"NBDMAGIC" + b"IHAVEOPT" + struct.pack(">H", 3)
OPTION_REPLY_MAGIC = 0x3E889045565A9
C_FIXED_NEWSTYLE, C_NO_ZEROES = 1, 2

# "Option types"
EXPORT_NAME, ABORT, LIST, PEEK_EXPORT, STARTTLS, INFO, GO, STRUCTURED_REPLY = range(1, 9)
LIST_META_CONTEXT, SET_META_CONTEXT, EXTENDED_HEADERS = 9, 10, 11

# "Option reply types"
REP_ACK, REP_SERVER, REP_INFO, REP_META_CONTEXT = 1, 2, 3, 4
ERR_UNSUP, ERR_POLICY, ERR_INVALID, ERR_PLATFORM, ERR_TLS_REQD, ERR_UNKNOWN, ERR_SHUTDOWN, \
    ERR_BLOCK_SIZE_REQD, ERR_TOO_BIG, ERR_EXT_HEADER_REQD = range(0x80000001, 0x8000000B)

INFO_EXPORT, INFO_NAME, INFO_DESCRIPTION, INFO_BLOCK_SIZE = 0, 1, 2, 3

# "Transmission flags"
HAS_FLAGS, READ_ONLY, SEND_FLUSH, SEND_FUA, ROTATIONAL, SEND_TRIM, SEND_WRITE_ZEROES, SEND_DF, \
    CAN_MULTI_CONN, SEND_RESIZE, SEND_CACHE, SEND_FAST_ZERO, STATUS_PAYLOAD = (1 << i for i in range(13))

# "Request message", "Simple reply message", "Structured reply chunk message", EXT
REQUEST_MAGIC, EXTENDED_REQUEST_MAGIC = 0x25609513, 0x21E41C71
SIMPLE_REPLY_MAGIC, STRUCTURED_REPLY_MAGIC, EXTENDED_REPLY_MAGIC = 0x67446698, 0x668E33EF, 0x6E8A278C
SIMPLE, STRUCTURED, EXTENDED = "simple", "structured", "extended"

# "Request types", "Command flags"
READ, WRITE, DISC, FLUSH, TRIM, CACHE, WRITE_ZEROES, BLOCK_STATUS, RESIZE = range(9)
FUA, NO_HOLE, DF, REQ_ONE, FAST_ZERO, PAYLOAD_LEN = (1 << i for i in range(6))
COMMAND_NAMES = ("READ", "WRITE", "DISC", "FLUSH", "TRIM", "CACHE", "WRITE_ZEROES", "BLOCK_STATUS")

# "Structured reply types"
DONE = 1
NONE, OFFSET_DATA, OFFSET_HOLE, STATUS, STATUS_EXT, ERROR, ERROR_OFFSET = 0, 1, 2, 5, 6, 0x8001, 0x8002
STATE_HOLE, STATE_ZERO, STATE_DIRTY = 1, 2, 1

# "Error values"
EPERM, EIO, ENOMEM, EINVAL, ENOSPC, EOVERFLOW, ENOTSUP, ESHUTDOWN = 1, 5, 12, 22, 28, 75, 95, 108
ERROR_NAMES = {0: "success", EPERM: "EPERM", EIO: "EIO", ENOMEM: "ENOMEM", EINVAL: "EINVAL",
               ENOSPC: "ENOSPC", EOVERFLOW: "EOVERFLOW", ENOTSUP: "ENOTSUP", ESHUTDOWN: "ESHUTDOWN"}

MAX_STRING = 4096  # "Conventions"


def be16(value):
    return struct.pack(">H", value)


def be32(value):
    return struct.pack(">I", value)


def be64(value):
    return struct.pack(">Q", value)


def string32(text):
    return be32(len(text)) + text


def option(number, data=b"", length=None):
    """An option as the client sends it; `length` lies about the data's."""
    return b"IHAVEOPT" + be32(number) + be32(len(data) if length is None else length) + data


def option_reply(number, kind, data=b""):
    return be64(OPTION_REPLY_MAGIC) + be32(number) + be32(kind) + be32(len(data)) + data


def info_data(name, *wanted):
    """The data of INFO and GO."""
    return string32(name) + be16(len(wanted)) + b"".join(be16(w) for w in wanted)


def meta_data(name, *queries):
    """The data of LIST_META_CONTEXT and SET_META_CONTEXT."""
    return string32(name) + be32(len(queries)) + b"".join(string32(q) for q in queries)


def request(command, offset, length, flags=0, cookie=1):
    return struct.pack(">IHHQQI", REQUEST_MAGIC, flags, command, cookie, offset, length)


def extended_request(command, offset, length, flags=0, cookie=1):
    return struct.pack(">IHHQQQ", EXTENDED_REQUEST_MAGIC, flags, command, cookie, offset, length)


def simple_reply(cookie, error=0):
    return struct.pack(">IIQ", SIMPLE_REPLY_MAGIC, error, cookie)


def chunk(kind, cookie, payload=b"", flags=DONE):
    return struct.pack(">IHHQI", STRUCTURED_REPLY_MAGIC, flags, kind, cookie, len(payload)) + payload


def extended_chunk(kind, cookie, offset, payload=b"", flags=DONE):
    return struct.pack(">IHHQQQ", EXTENDED_REPLY_MAGIC, flags, kind, cookie, offset,
                       len(payload)) + payload


def status_payload(context, *extents):
    """BLOCK_STATUS: (length, flags) each."""
    return be32(context) + b"".join(be32(length) + be32(flags) for length, flags in extents)


def status_ext_payload(context, *extents):
    """BLOCK_STATUS_EXT: (length, flags) each."""
    return be32(context) + be32(len(extents)) + b"".join(be64(length) + be64(flags)
                                                         for length, flags in extents)


def pattern(size, seed=1):
    """Bytes without zeros that differ from one offset and seed to the next."""
    step = bytes((i * 7 + seed * 31) % 251 + 1 for i in range(251 * 4))
    return (step * (size // len(step) + 1))[:size]
