# SPDX-License-Identifier: Apache-2.0
"""What is measured, and what must be reached: ratios of requests per second, ours to the best peer's."""
import collections

# arguments: of nbdload; must: the ratio to reach; aim: the one to aim at, if any.
Cell = collections.namedtuple("Cell", "name arguments must aim quick", defaults=(None, None, False))


def _arguments(op, block, depth, *more):
    return ("--op", op, "--block", block, "--depth", str(depth), *more)


def _small(op, depth, must, aim, quick=False):
    return Cell(f"4 KiB random {op}, depth {depth}", _arguments(op, "4k", depth), must, aim, quick)


# Reads first: what a write leaves to be written back would disturb them.
SERVE = (
    _small("read", 1, 1.3, 1.5, True),
    _small("read", 16, 2, 3, True),
    _small("read", 64, 3, 5, True),
    Cell("64 KiB random read, depth 16", _arguments("read", "64k", 16), 1.3, 1.6),
    Cell("1 MiB sequential read, depth 8", _arguments("seqread", "1M", 8), 1.4, 1.6, True),
    _small("write", 1, 1.3, 1.5),
    _small("write", 16, 2, 3, True),
    _small("write", 64, 3, 4),
    Cell("4 KiB random 70/30 mix, depth 16", _arguments("mix", "4k", 16, "--mix", "30"), 2, 3, True),
    Cell("64 KiB random write, depth 16", _arguments("write", "64k", 16), 1.3, 1.6),
    Cell("1 MiB sequential write, depth 8", _arguments("seqwrite", "1M", 8), 1.4, 1.6, True),
)
# A sleeping client is woken after each answer, which is most of what depth 1 takes; one that polls, as QEMU's
# event loop does, shows what the server takes of it.
POLLED = tuple(
    Cell(f"4 KiB random {op}, depth 1, client polls", _arguments(op, "4k", 1, "--spin", "2000"), 1.3, 1.5)
    for op in ("read", "write"))
TCP_QUICK = ("4 KiB random read, depth 16", "1 MiB sequential write, depth 8")
# Ahead of the best peer in every cell.
TCP = tuple(c._replace(must=1.0, aim=None, quick=c.name in TCP_QUICK) for c in SERVE)

_TWO = ("--connections", "2", "--threads", "2")
TWO = (
    Cell("4 KiB random read, depth 64", _arguments("read", "4k", 64, *_TWO), 2, 4, True),
    Cell("1 MiB sequential read, depth 8", _arguments("seqread", "1M", 8, *_TWO), 1.0, 1.2, True),
    Cell("4 KiB random write, depth 64", _arguments("write", "4k", 64, *_TWO), 2, 4),
    Cell("1 MiB sequential write, depth 8", _arguments("seqwrite", "1M", 8, *_TWO), 1.0, 1.2),
)
# Our gain by the second connection to what it could be.
SECOND = tuple(_small(op, 64, 0.9, 1.0, op == "read") for op in ("read", "write"))
# What clients ask for by default makes two GnuTLS 3.7 with a pre-shared key take CHACHA20-POLY1305, a tenth
# as fast as AES here: then the cipher is measured. So also a client that asks for AES-128-GCM.
_AES = ("--tls-priority", "NORMAL:-VERS-ALL:+VERS-TLS1.3:-CIPHER-ALL:+AES-128-GCM:+ECDHE-PSK:+DHE-PSK:+PSK")
TLS = tuple(
    Cell(f"{name}, {cipher}", _arguments(op, block, depth, *more), 1.0, None, op in ("read", "seqread"))
    for name, op, block, depth in (("4 KiB random read, depth 16", "read", "4k", 16),
                                   ("1 MiB sequential read, depth 8", "seqread", "1M", 8),
                                   ("4 KiB random write, depth 16", "write", "4k", 16),
                                   ("1 MiB sequential write, depth 8", "seqwrite", "1M", 8))
    for cipher, more in (("client's default", ()), ("AES-128-GCM", _AES)))
_PORTABLE_QUICK = ("4 KiB random read, depth 16",)
PORTABLE = tuple(c._replace(must=1.0, aim=None, quick=c.name in _PORTABLE_QUICK) for c in SERVE)
# With tracking to without: at most 1 % lost.
TRACKING = Cell("4 KiB random write, depth 16", _arguments("write", "4k", 16), 0.99, 1.0, True)
VERIFIED = Cell("verified", _arguments("mix", "4k", 16, "--verify", "--range", "16M"))

# Through our server with --cache direct to fio on the file itself. (name, nbdload's, fio's arguments)
DIRECT_MUST = 0.95
DIRECT = tuple(
    (Cell(f"{size[:-1]} KiB random {op}, depth {depth}", _arguments(op, size, depth), DIRECT_MUST, 1.0,
          depth == 16), ("--rw=rand" + op, "--bs=" + size, f"--iodepth={depth}"))
    for op in ("read", "write") for size, depth in (("4k", 16), ("4k", 64), ("64k", 16)))

CONNECTIONS = (1, 2, 16, 1000)
SCALE_MUST = 0.8  # 1,000 connections to 16


def scale(connections):
    """One request in flight on each connection."""
    return Cell(f"4 KiB random read, {connections} connections",
                _arguments("read", "4k", 1, "--connections", str(connections)))


def chosen(cells, quick, names):
    """Of these cells those that --cell names, else all, else the quick ones. A whole name means that cell
    only, any other text all cells that contain it."""
    if not names:
        return [c for c in cells if c.quick or not quick]
    exact = {c.name for c in cells} & set(names)
    parts = [n for n in names if n not in exact]
    return [c for c in cells if c.name in exact or any(p in c.name for p in parts)]
