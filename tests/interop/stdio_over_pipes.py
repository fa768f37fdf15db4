# SPDX-License-Identifier: Apache-2.0
"""--stdio with a pipe for each direction: one client, nothing else on standard output, ends with it."""
import os
import struct
import subprocess

import daemon
import raw_nbd

with daemon.scratch() as folder:
    image = daemon.make_image(os.path.join(folder, "a.img"), 1 << 20, holes=False)
    command = [daemon.built("blockmigd"), "--state-dir", os.path.join(folder, "s"), "--stdio", "--disk",
               f"{daemon.EXPORT}={image}"]
    with open(os.path.join(folder, "log"), "wb") as log, \
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log) as server:
        assert server.stdout.read(18)[:8] == b"NBDMAGIC"
        server.stdin.write(struct.pack(">I", 3) +
                           raw_nbd.option(raw_nbd.OPT_EXPORT_NAME, daemon.EXPORT.encode()))
        server.stdin.flush()
        server.stdout.read(10)
        server.stdin.write(raw_nbd.request(raw_nbd.READ, 5, 0, 1 << 20) +
                           raw_nbd.request(raw_nbd.DISC, 6, 0, 0))
        server.stdin.flush()
        answer = server.stdout.read()  # to the end: nothing but the reply may be there
        with open(image, "rb") as f:
            assert answer == struct.pack(">IIQ", raw_nbd.REPLY_MAGIC, 0, 5) + f.read(), len(answer)
        assert server.wait(30) == 0
    # A file or nothing at all is no client.
    refused = daemon.run(*command)
    assert refused.returncode == 9 and "standard input" in refused.stderr, refused
