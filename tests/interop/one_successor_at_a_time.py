# SPDX-License-Identifier: Apache-2.0
"""Of two that want a daemon's place at once one is told at once that it is the second; the first one takes over."""
import fcntl
import os

import daemon
import successor

WORDS = "is taking the place of the daemon"

with daemon.scratch() as folder:
    image = daemon.make_image(os.path.join(folder, "a.img"), 1 << 20)
    with successor.start(folder, "first", "--disk", f"vm1={image}") as first:
        assert successor.ready(first), first.log()
        with open(os.path.join(folder, "s", "handover.lock"), "w", encoding="ascii") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            assert WORDS in successor.refused(folder, "second")
        assert first.alive()
        both = [successor.start(folder, name, "--replace") for name in ("third", "fourth")]
        with both[0], both[1]:
            ready = [successor.ready(server) for server in both]
            assert any(ready), (both[0].log(), both[1].log())
            assert first.process.wait(60) == 0, first.log()
            for server, took_over in zip(both, ready):
                assert took_over or (WORDS in server.log() and server.process.wait(20) == 5), server.log()
            assert "vm1" in successor.control(folder, "ls", "disks")
