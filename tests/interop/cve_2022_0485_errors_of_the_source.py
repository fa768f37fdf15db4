# SPDX-License-Identifier: Apache-2.0
"""CVE-2022-0485 (nbdcopy): an error in reading the source was taken for data, so that a copy with zeros in it was
called good. Ours fails, names the reason, and leaves the disk where it is; the other way round, a target that
fails to write fails the move. Invariant I11."""
import os

import daemon


def expect_failure(result, what):
    assert result.returncode not in (0, 2) and result.returncode > 0, (what, result)
    assert result.stderr.strip() or result.stdout.strip(), what + ": no reason"


def main():
    daemon.need("nbdkit")
    with daemon.scratch() as folder:
        image = daemon.make_image(os.path.join(folder, "disk.img"), 8 << 20, holes=False)
        read_fails = daemon.nbdkit(folder, "--filter=error", "file", image, "error-pread=EIO",
                                   "error-pread-rate=40%", name="bad-source")
        with read_fails:
            target = os.path.join(folder, "copy.img")
            result = daemon.run(daemon.built("blockmig"), "migrate", read_fails.uri, "--to", target,
                                "--state-dir", os.path.join(folder, "s1"))
            if result.returncode == 0:  # every read succeeded in the end: then all of it is right
                assert daemon.same(image, target), "a copy of an unreadable source was called good"
            else:
                expect_failure(result, "copy")
        always = daemon.nbdkit(folder, "--filter=error", "file", image, "error-pread=EIO",
                               "error-pread-rate=100%", name="dead-source")
        with always:
            expect_failure(daemon.run(daemon.built("blockmig"), "migrate", always.uri, "--to",
                                      os.path.join(folder, "copy2.img"), "--state-dir",
                                      os.path.join(folder, "s2")), "copy of a dead source")
        write_fails = daemon.nbdkit(folder, "--filter=error", "memory", "8M", "error-pwrite=ENOSPC",
                                    "error-pwrite-rate=100%", name="bad-target")
        with write_fails, daemon.Daemon(folder, image) as server:
            expect_failure(server.cli("migrate", daemon.EXPORT, "--to", write_fails.uri,
                                      "--on-target-error", "fail"), "move")
            assert server.served_store() == f"file://{image}", server.served_store()


if __name__ == "__main__":
    main()
