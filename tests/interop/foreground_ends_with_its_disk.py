# SPDX-License-Identifier: Apache-2.0
"""`serve --foreground` beside a running daemon: a signal detaches the disk; a disk that goes ends it."""
import os
import signal

import daemon

with daemon.scratch() as folder:
    images = [daemon.make_image(os.path.join(folder, name), 1 << 20) for name in ("a.img", "b.img")]
    with daemon.Daemon(folder, images[0]) as disk:
        def names():
            return [d["name"] for d in disk.get("/v1/disks")["disks"]]

        def stay():
            return daemon.Process([daemon.built("blockmig"), "serve", "second", "--source", images[1],
                                   "--state-dir", disk.state_dir, "--foreground"],
                                  os.path.join(folder, "stay.log"))

        with stay() as process:
            daemon.until(lambda: "second" in names(), "the second disk")
            process.signal(signal.SIGINT)
            assert process.process.wait(30) == 0, process.log()
            assert "second" not in names()
        with stay() as process:
            daemon.until(lambda: "second" in names(), "the second disk")
            assert disk.cli("detach", "second").returncode == 0
            assert process.process.wait(30) == 4, process.log()  # not found
            assert "no longer served" in process.log()
        assert names() == [daemon.EXPORT]
