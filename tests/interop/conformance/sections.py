# SPDX-License-Identifier: Apache-2.0
"""The sections that a case may cite: a case that rests on a text which is not there rests on nothing.

A section is a heading or an item, or "HEADING: what is below it", as these texts have them (without backquotes):
doc/proto.md, its branch extension-ext-header, and for contexts that proto.md leaves to others those others' texts.
"""

HEADINGS = """\
Introduction
Conventions
Protocol phases
Handshake
Oldstyle negotiation
Newstyle negotiation
Fixed newstyle negotiation
Termination of the session during option haggling
Transmission
Ordering of messages and writes
Request message
Simple reply message
Structured reply chunk message
Extended reply chunk message
Terminating the transmission phase
Reserved Magic values
TLS support
Certificates, authentication and authorisation
Server-side requirements
NOTLS mode
FORCEDTLS mode
SELECTIVETLS mode
Client-side requirements
Security considerations
TLS versions
Protocol downgrade attacks
Size constraints
Metadata querying
The base: metadata namespace
base:allocation metadata context
Handshake flags
Client flags
Transmission flags
Option types
Option reply types
Command flags
Structured and extended header reply flags
Structured reply types
Request types
Error values
Baseline
Maximum interoperability""".splitlines()

ITEMS = ["NBD_OPT_" + name for name in (
    "EXPORT_NAME", "ABORT", "LIST", "PEEK_EXPORT", "STARTTLS", "INFO and NBD_OPT_GO", "STRUCTURED_REPLY",
    "LIST_META_CONTEXT", "SET_META_CONTEXT", "EXTENDED_HEADERS")]
ITEMS += ["NBD_CMD_" + name for name in (
    "READ", "WRITE", "DISC", "FLUSH", "TRIM", "CACHE", "WRITE_ZEROES", "BLOCK_STATUS")]
ITEMS += ["NBD_CMD_FLAG_" + name for name in ("FUA", "NO_HOLE", "DF", "REQ_ONE", "FAST_ZERO", "PAYLOAD_LEN")]
ITEMS += ["Simple replies", "Structured replies"]  # of NBD_CMD_READ

# proto.md, "Metadata querying": a namespace of somebody else's is described by that one.
QEMU = 'QEMU docs/interop/nbd.txt: "qemu" namespace'
README = "nbdserver/README.md: Metadata contexts"


def known(section):
    """True if there is such a section."""
    below = section.split(": ", 1) if section not in HEADINGS else [section]
    return section in (QEMU, README) or all(part in HEADINGS or part in ITEMS for part in below)
