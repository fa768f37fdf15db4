# SPDX-License-Identifier: Apache-2.0
"""The digest in a job's report is the one that `blockmig verify` computes from the target."""
import json
import os

import daemon

SIZE = 9 * 1024 * 1024 + 1536  # an odd last chunk, holes in between


def main():
    with daemon.scratch() as folder:
        image = daemon.make_image(os.path.join(folder, "a.img"), SIZE)
        with daemon.Daemon(folder, image) as disk:
            for number, how in enumerate(("digest", "full")):
                target = os.path.join(folder, f"target{number}.img")
                digests = disk.migrate(target, "cold", "--verify", how)["digests"]
                seen = json.loads(daemon.ok(daemon.built("blockmig"), "verify", target,
                                            daemon.EXPORT, "--state-dir", disk.state_dir,
                                            "-o", "json"))
                assert seen["equal"], seen
                for side in ("a", "b"):  # the file, and the disk as its clients see it
                    assert seen[side]["digest"] == digests["source"], (how, seen, digests)
                assert digests["target"] == digests["source"], digests


main()
