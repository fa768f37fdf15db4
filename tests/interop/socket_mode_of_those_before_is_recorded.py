# SPDX-License-Identifier: Apache-2.0
"""A disk that is served on a socket of an earlier daemon is recorded with its mode: also when all that came with it are
gone, a restart opens it as it was. A socket that the disk alone asks for has the mode of its own daemon."""
import os
import stat

import daemon
import successor
from successor import control


def mode(path):
    return stat.S_IMODE(os.stat(path).st_mode)


def check(folder, *arguments):
    """`arguments`: how the second daemon begins."""
    usual, own = os.path.join(folder, "s", "nbd.sock"), os.path.join(folder, "own.sock")
    images = {name: daemon.make_image(os.path.join(folder, name), 1 << 20) for name in ("old", "new", "other")}
    first = successor.start(folder, "first", "--socket-mode", "0666")
    assert successor.ready(first), first.log()
    control(folder, "serve", "old", "--source", images["old"])
    assert mode(usual) == 0o666
    if not arguments:
        first.kill()
    second = successor.start(folder, "second", *arguments)
    assert successor.ready(second), second.log()
    first.stop()
    assert mode(usual) == 0o666
    control(folder, "serve", "new", "--source", images["new"])
    control(folder, "serve", "other", "--source", images["other"], "--listen", f"unix:{own}")
    strict = mode(own)
    assert strict != 0o666
    control(folder, "detach", "old")
    second.kill()
    third = successor.start(folder, "third")
    try:
        assert successor.ready(third), third.log()
        assert (mode(usual), mode(own)) == (0o666, strict), (f"{mode(usual):o}", f"{mode(own):o}")
    finally:
        third.stop()


for words in (("--replace",), ()):
    with daemon.scratch() as scratch:
        check(scratch, *words)
