# SPDX-License-Identifier: Apache-2.0
"""What `set --daemon bwlimit=` has changed holds over a handover, also one that fails; a successor may have its own."""
import json
import os

import daemon
import successor

MIB = 1 << 20


def limit(folder):
    return json.loads(successor.control(folder, "status", "-o", "json"))["daemon"]["bwlimit_bytes_per_second"]


def replaced(folder, name, *arguments):
    server = successor.start(folder, name, "--replace", *arguments)
    assert successor.ready(server), server.log()
    return server


with daemon.scratch() as folder:
    image = daemon.make_image(os.path.join(folder, "a.img"), MIB)
    with successor.start(folder, "first", "--disk", f"vm1={image}", "--bwlimit", "100MiB/s") as first:
        assert successor.ready(first), first.log()
        assert limit(folder) == 100 * MIB
        successor.control(folder, "set", "--daemon", "bwlimit=10MiB/s")
        successor.Doomed(folder).die()
        daemon.until(lambda: "handed over was taken back" in first.log(), "the first daemon to say so")
        assert limit(folder) == 10 * MIB, limit(folder)
        with replaced(folder, "second"):
            assert limit(folder) == 10 * MIB, limit(folder)
            with replaced(folder, "third", "--bwlimit", "20MiB/s"):
                assert limit(folder) == 20 * MIB, limit(folder)
