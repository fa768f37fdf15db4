# SPDX-License-Identifier: Apache-2.0
"""A disk whose store is gone for good, with writes that are not durable there, can be detached: the command says that
they are lost, by its exit code too; the disk is not there afterwards, nor after a restart."""
import os

import daemon
from state_folder import StateFolder

daemon.need("qemu-nbd", "nbdsh")
with daemon.scratch() as place:
    image = daemon.make_image(os.path.join(place, "a.img"), 4 << 20)
    with daemon.qemu_nbd(place, image) as store, StateFolder(os.path.join(place, "s")) as host:
        host.start()
        host.ok("serve", "vm1", "--source", store.uri)
        daemon.nbdsh("-u", host.uri(), "-c", "h.pwrite(b'x' * 4096, 0)")
        store.kill()
        said = host.cli("detach", "vm1")
        assert said.returncode == 1, said
        assert "disk 'vm1' is detached; its store did not close in order" in said.stderr, said.stderr
        assert "vm1" not in host.ok("ls", "disks")
        host.stop()
        host.start()
        assert "vm1" not in host.ok("ls", "disks")
