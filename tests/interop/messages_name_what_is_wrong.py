# SPDX-License-Identifier: Apache-2.0
"""What commands say where something is not there, would be ignored, or is something else than was asked for."""
import os

import daemon

USAGE, NOT_FOUND = 2, 4

with daemon.scratch() as folder:
    image = daemon.make_image(os.path.join(folder, "a.img"), 1 << 20)
    other = os.path.join(folder, "b.img")
    blockmig = daemon.built("blockmig")

    def refused(exit_code, says, *words):
        ended = daemon.run(blockmig, "--state-dir", os.path.join(folder, "d.state"), *words)
        assert ended.returncode == exit_code, ended
        assert says in ended.stderr and ended.stderr.count("\n") == 1, ended
        return ended.stderr

    def copy(*options):
        return ("migrate", image, "--to", other, *options)

    # A copy without a daemon.
    refused(USAGE, "nobody would go on", *copy("--detach"))
    refused(USAGE, "--on-stall has no effect", *copy("--on-stall", "fail"))
    refused(USAGE, "--mirror-deadline has no effect", *copy("--mirror-deadline", "1s"))
    assert not os.path.exists(other)
    said = daemon.ok(blockmig, "--state-dir", folder, *copy())
    assert f"job-1 done: copied file://{image} to file://{other}" in said, said
    assert daemon.same(image, other)

    # One chunk.
    with open(other, "r+b") as f:
        f.write(b"another beginning")
    differ = daemon.run(blockmig, "--state-dir", folder, "verify", image, other)
    assert "1 chunk of 64 KiB differs" in differ.stdout, differ

    with daemon.Daemon(folder, image) as server:
        refused(NOT_FOUND, "there is no file 'nosuch.img'", "verify", image, "nosuch.img")
        refused(USAGE, "is no client's number", "disconnect", "--", "-1")
        text = refused(NOT_FOUND, "no bitmap 'y' of disk", "bitmap", "rm", daemon.EXPORT, "y")
        assert text.count(daemon.EXPORT) == 2, text  # once to say it, once in what to look at
        refused(USAGE, "smaller than 8EiB", "serve", "large", "--source", "null:8EiB")
        refused(USAGE, "not below 8EiB", "serve", "large", "--source", other + "2", "--create-size", "8EiB")
