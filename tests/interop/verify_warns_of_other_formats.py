# SPDX-License-Identifier: Apache-2.0
"""`blockmig verify` of an image in another format says that it compares the file, and not what is in it."""
import os

import daemon

SIZE = 1 << 20


def verify(a, b):
    return daemon.run(daemon.built("blockmig"), "verify", a, b)


daemon.need("qemu-img")
with daemon.scratch() as folder:
    raw, qcow2 = daemon.make_image(os.path.join(folder, "a.img"), SIZE), os.path.join(folder, "a.qcow2")
    daemon.ok("qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, qcow2)
    warned = verify(raw, qcow2)
    assert warned.returncode == 6, warned
    assert "a.qcow2 looks like a qcow2 image" in warned.stderr and "qemu-nbd" in warned.stderr, warned
    assert "looks like" not in verify(raw, raw).stderr
    same = verify(f"file://{qcow2}?format=raw", f"file://{qcow2}?format=raw")
    assert same.returncode == 0 and "looks like" not in same.stderr, same
    with daemon.qemu_nbd(folder, qcow2, fmt="qcow2") as inside:
        assert verify(raw, inside.uri).returncode == 0
