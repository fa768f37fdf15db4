# SPDX-License-Identifier: Apache-2.0
"""The server under test: ours, started for the purpose, or any other that is already there."""
import contextlib
import os
import sys
import urllib.parse

import wire
from cases import NotOffered
from client import Connection, Haggling
from transmission import Transmission

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import daemon  # pylint: disable=wrong-import-position

SIZE = (24 << 20) + 3 * 4096 + 512  # no multiple of 4 KiB, 64 KiB or 1 MiB
LARGE_SIZE = 1 << 40
DESCRIPTION = "Prüfling für die Conformance"
BITMAP = b"qemu:dirty-bitmap:b0"


class Target:
    """Where the server is and what it exports. An export that a server does not have is None, and what is
    about it is not offered. The content of `export` and `large` is overwritten."""

    def __init__(self, address, export, read_only=None, large=None, aligned=None):
        self.address = address
        self.export = export
        self.read_only = read_only
        self.large = large
        self.aligned = aligned
        self.missing = b"there-is-no-such-export"
        self.process = None  # ours only: a daemon.Daemon
        self.tls = None  # an ssl.SSLContext: connections begin with STARTTLS

    @property
    def ours(self):
        return self.process is not None

    def connect(self):
        return Connection(self.address)

    def haggle(self, client_flags=wire.C_FIXED_NEWSTYLE | wire.C_NO_ZEROES):
        return Haggling(self.address, client_flags, self.tls)

    def haggle_structured(self):
        c = self.haggle()
        c.negotiate(wire.STRUCTURED_REPLY)
        return c

    def transmit(self, style=wire.SIMPLE, contexts=(), export=None, wanted=()):
        return Transmission(self, style, contexts, export, wanted)

    def need_ours(self):
        if not self.ours:
            raise NotOffered("a server whose process the suite may end")
        return self.process

    def exit_code(self, seconds=20):
        """Of our server, which was told to end."""
        daemon.until(lambda: not self.process.alive(), "the server's end", seconds)
        return self.process.process.returncode

    def has(self, name):
        """An export of a kind: read_only, large, aligned."""
        export = getattr(self, name)
        if export is None:
            raise NotOffered(f"an export for --{name.replace('_', '-')}")
        return export


def from_uri(uri):
    """(address, export) of nbd://HOST[:PORT]/EXPORT or nbd+unix:///EXPORT?socket=PATH."""
    parts = urllib.parse.urlsplit(uri)
    export = urllib.parse.unquote_to_bytes(parts.path.removeprefix("/"))
    if parts.scheme == "nbd+unix":
        return urllib.parse.parse_qs(parts.query)["socket"][0], export
    if parts.scheme == "nbd":
        return (parts.hostname, parts.port or 10809), export
    raise ValueError(f"{uri}: not a URI of the kinds nbd:// and nbd+unix://")


@contextlib.contextmanager
def our_server(listen=None, extra=()):
    """A daemon with one disk of each kind."""
    with daemon.scratch() as folder:
        image = daemon.make_image(os.path.join(folder, "disk0.img"), SIZE)
        sealed = daemon.make_image(os.path.join(folder, "sealed.img"), 1 << 20)
        large = os.path.join(folder, "large.img")
        with open(large, "wb") as f:
            f.truncate(LARGE_SIZE)
        # Our file stores take every alignment; a store that is an NBD server has the sizes of that server.
        blocks = daemon.nbdkit(folder, "--filter=blocksize-policy", "memory", "8M",
                               "blocksize-minimum=4096", "blocksize-error-policy=error", name="blocks")
        first = ("--bitmap", "b0:64KiB", "--description", DESCRIPTION, *extra)
        with blocks, daemon.Daemon(folder, image, extra=first, listen=listen) as process:
            for name, source, options in (("sealed", sealed, ["--read-only"]), ("large", large, []),
                                          ("aligned", blocks.uri, [])):
                added = process.cli("serve", name, "--source", source, *options)
                assert added.returncode == 0, added.stderr
            target = Target(process.socket_path, daemon.EXPORT.encode(), b"sealed", b"large", b"aligned")
            target.process = process
            yield target
