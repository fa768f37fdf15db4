# SPDX-License-Identifier: Apache-2.0
"""A disk of which everything is in use leaves nothing at rest in its folder: it is whole, and is served again without
the folder's image."""
import os

import lives
from moves import daemon

BLOCKS = 512
SIZE = BLOCKS * lives.BLOCK
USE_ALL = f"""
for at in range(0, {SIZE}, 4096):
    for _ in range(8):
        h.pwrite(b"x" * 4096, at)
"""

for hydrate in ("never", "on-demand", "background"):
    with daemon.scratch() as folder, lives.Daemon(os.path.join(folder, "state"), os.path.join(folder, "log")) as server:
        old, new = os.path.join(folder, "old.img"), os.path.join(folder, "new.img")
        lives.make_image(old, BLOCKS)
        server.start()
        server.ok("serve", "vm1", "--source", old)
        daemon.nbdsh("-u", server.uri(), "-c", USE_ALL)
        job = server.shown("migrate", "vm1", "--to", new, "--mode", "shared", "--hydrate", hydrate)
        assert job["state"] == "done" and job["hydration"]["depends_on"] == "", (hydrate, job)
        os.unlink(old)
        server.stop()
        server.start()
        served = server.shown("ls", "disks")["disks"]
        assert [view["name"] for view in served] == ["vm1"], (hydrate, served, server.process.log()[-600:])
        daemon.nbdsh("-u", server.uri(), "-c", f"assert h.pread({SIZE}, 0) == b'x' * {SIZE}")
