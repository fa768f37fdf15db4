# SPDX-License-Identifier: Apache-2.0
"""What the tests of disks with lost stores share."""
import os
import types

import daemon


def client_of(folder, export, store):
    """A client of a disk that lives in `store`, on the socket of its daemon. A server whose threads copy into and out
    of the page cache at once, as qemu-nbd's do, gives a read beside a write a bit of both."""
    place = types.SimpleNamespace(socket_path=os.path.join(folder, "nbd.sock"), export=export)
    torn = ("--tolerate-torn",) if store.startswith("nbd") else ()
    return daemon.Client(folder, place, "--connections", "2", "--renew", "0", *torn, name=export)
