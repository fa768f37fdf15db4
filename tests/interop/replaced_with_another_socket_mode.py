# SPDX-License-Identifier: Apache-2.0
"""--replace with another --socket-mode changes the mode of a socket that comes along; without one it stays. A daemon
that takes back what it handed over has its own mode again."""
import os
import stat

import daemon
import raw_nbd
import successor

with daemon.scratch() as folder:
    image = daemon.make_image(os.path.join(folder, "a.img"), 1 << 20)
    path = os.path.join(folder, "n.sock")

    def mode():
        return stat.S_IMODE(os.stat(path).st_mode)

    def started(name, *arguments):
        server = successor.start(folder, name, "--listen", f"unix:{path}", *arguments)
        assert successor.ready(server), server.log()
        return server

    with started("first", "--disk", f"vm1={image}", "--socket-mode", "0666") as first:
        assert mode() == 0o666
        with raw_nbd.attached(path, "vm1") as client, \
                started("second", "--replace", "--socket-mode", "0600") as second:
            assert mode() == 0o600, f"{mode():o}"
            assert raw_nbd.works(client)
            with started("third", "--replace"):
                assert mode() == 0o600, f"{mode():o}"
                with started("fourth", "--replace", "--socket-mode", "0660") as fourth:
                    assert mode() == 0o660, f"{mode():o}"
                    os.chmod(path, 0o666)
                    successor.Doomed(folder).die()
                    daemon.until(lambda: "handed over was taken back" in fourth.log(), "the daemon to say so")
                    assert mode() == 0o660, f"{mode():o}"
                    assert raw_nbd.works(client)
