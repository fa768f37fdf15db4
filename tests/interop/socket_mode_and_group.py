# SPDX-License-Identifier: Apache-2.0
"""--socket-mode and --socket-group are in force from the moment that a client can get in."""
import os
import stat
import threading

import daemon

if os.geteuid() != 0:
    daemon.skip("only root can change groups and become somebody else")
daemon.need("setpriv")
GROUP = 23456
with daemon.scratch() as folder:
    os.chmod(folder, 0o755)
    image = daemon.make_image(os.path.join(folder, "a.img"), 1 << 20)
    path = os.path.join(folder, "d.sock")
    seen = set()
    ended = threading.Event()

    def watch():
        """Whoever gets through sees the final mode; until then it may be anything."""
        while not ended.is_set():
            if not daemon.greets(path):
                continue
            try:
                facts = os.stat(path)
            except FileNotFoundError:  # the daemon has ended in between
                continue
            seen.add((stat.S_IMODE(facts.st_mode), facts.st_gid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with daemon.Daemon(folder, image, extra=("--socket-mode", "0660", "--socket-group", GROUP)):
            assert seen or daemon.until(lambda: seen, "a client to get through")
            get_in = [daemon.SYSTEM_PYTHON, "-c",
                      f"import socket; socket.socket(socket.AF_UNIX).connect({path!r})"]
            inside = daemon.run("setpriv", "--reuid", 12345, "--regid", GROUP, "--clear-groups", *get_in)
            outside = daemon.run("setpriv", "--reuid", 12345, "--regid", 12345, "--clear-groups", *get_in)
            assert inside.returncode == 0, inside.stderr
            assert outside.returncode != 0 and "PermissionError" in outside.stderr, outside.stderr
    finally:
        ended.set()
        watcher.join()
    assert seen == {(0o660, GROUP)}, seen
    wrong = daemon.run(daemon.built("blockmigd"), "--state-dir", folder + "/s", "--socket-mode", "0999")
    assert wrong.returncode == 2 and "0999" in wrong.stderr, wrong
    wrong = daemon.run(daemon.built("blockmigd"), "--state-dir", folder + "/s", "--socket-group", "no-such")
    assert wrong.returncode == 2 and "no group 'no-such'" in wrong.stderr, wrong
