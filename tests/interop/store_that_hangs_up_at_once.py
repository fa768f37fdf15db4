# SPDX-License-Identifier: Apache-2.0
"""A server that closes each connection at once is a store that is away, and no mistake in its URI: what is wrong with that
is not tried again."""
import os
import socket
import threading

import daemon
from state_folder import StateFolder

TRIES = 200
BAD_GATEWAY = 502


def hang_up(door):
    while True:
        try:
            door.accept()[0].close()
        except OSError:
            return


with daemon.scratch() as folder, StateFolder(os.path.join(folder, "s")) as host, socket.socket(socket.AF_UNIX) as listener:
    path = os.path.join(folder, "x.sock")
    listener.bind(path)
    listener.listen(8)
    server = threading.Thread(target=hang_up, args=(listener,))
    server.start()
    try:
        host.start()
        for _ in range(TRIES):
            answer = host.serve("vm1", f"nbd+unix:///e?socket={path}")
            assert answer[0] == BAD_GATEWAY, answer
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        server.join()
