# SPDX-License-Identifier: Apache-2.0
"""--allow-uid and --allow-gid: others are cut before the greeting, and the log says who it was."""
import os

import daemon

if os.geteuid() != 0:
    daemon.skip("only root can become somebody else")
daemon.need("setpriv")
ALICE, BOB, GROUP = 12345, 12346, 23456
with daemon.scratch() as folder:
    os.chmod(folder, 0o755)
    image = daemon.make_image(os.path.join(folder, "a.img"), 1 << 20)
    path = os.path.join(folder, "d.sock")
    greeting = ("import socket; s = socket.socket(socket.AF_UNIX); "
                f"s.connect({path!r}); print(s.recv(8))")

    def hears(uid, gid=100, groups=()):
        """What the server says first to that user."""
        extra = ["--groups", ",".join(map(str, groups))] if groups else ["--clear-groups"]
        return daemon.ok("setpriv", "--reuid", uid, "--regid", gid, *extra, daemon.SYSTEM_PYTHON,
                         "-c", greeting).strip()

    log = os.path.join(folder, "log")
    command = [daemon.built("blockmig"), "serve", daemon.EXPORT, "--source", image, "--listen",
               f"unix:{path}", "--socket-mode", "0666", "--state-dir", folder + "/s",
               "--allow-uid", ALICE, "--allow-gid", GROUP]
    with daemon.Process(command, log) as server:
        daemon.until(lambda: f"serving {daemon.EXPORT} at" in server.log(), "the disk")
        assert hears(ALICE) == "b'NBDMAGIC'"
        assert hears(BOB, gid=GROUP) == "b'NBDMAGIC'"
        assert hears(BOB, groups=(7, GROUP)) == "b'NBDMAGIC'", "supplementary groups count"
        assert hears(BOB) == "b''", "not a byte for others"
        assert hears(0) == "b''", "root is no exception"
        daemon.until(lambda: f"uid {BOB}" in server.log(), "the refusal in the log")
        assert hears(ALICE) == "b'NBDMAGIC'"
