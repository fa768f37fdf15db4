# SPDX-License-Identifier: Apache-2.0
"""While one daemon takes another's place nobody listens on the control socket: commands wait, `serve --foreground` and
`status -w` go on."""
import os
import subprocess
import time

import daemon
import successor

with daemon.scratch() as folder:
    image = daemon.make_image(os.path.join(folder, "a.img"), 1 << 20)
    second = daemon.make_image(os.path.join(folder, "b.img"), 1 << 20)
    state = os.path.join(folder, "s")
    with successor.start(folder, "first", "--disk", f"vm1={image}") as first:
        assert successor.ready(first), first.log()
        stays = daemon.Process([daemon.built("blockmig"), "serve", "vm2", "--source", second, "--foreground",
                                "--state-dir", state], os.path.join(folder, "stays.log"))
        watches = daemon.Process([daemon.built("blockmig"), "status", "-w", "-o", "jsonl", "--state-dir", state],
                                 os.path.join(folder, "watches.log"))
        with stays, watches:
            daemon.until(lambda: "serving" in stays.log() and "vm2" in watches.log(), "the second disk")
            doomed = successor.Doomed(folder)
            assert not os.path.exists(os.path.join(state, "control.sock"))
            asks = [subprocess.Popen([daemon.built("blockmig"), *words, "--state-dir", state], text=True,
                                     stdout=subprocess.PIPE, stderr=subprocess.PIPE)
                    for words in (("ls", "disks"), ("bitmap", "add", "vm1", "b1"))]
            time.sleep(2.5)  # two looks of those who look each second
            doomed.die()
            for command in asks:
                said, complaint = command.communicate(timeout=60)
                assert command.returncode == 0, complaint
            assert "b1" in successor.control(folder, "bitmap", "ls", "vm1")
            daemon.until(lambda: "vm2" in successor.control(folder, "ls", "disks"), "the disks to be back")
            time.sleep(1.5)
            assert stays.alive(), stays.log()
            assert watches.alive(), watches.log()
