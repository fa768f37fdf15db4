# SPDX-License-Identifier: Apache-2.0
"""The digest in a job's report is the one that `blockmig verify` computes from the target, in every mode; also where the
switchover comes before the copy."""
import json
import os

import daemon

SIZE = 9 * 1024 * 1024 + 1536  # an odd last chunk, holes in between
MOVES = (("cold", "digest"), ("cold", "full"), ("postcopy", "digest"), ("hybrid", "full"), ("mirror", "digest"),
         ("shared", "digest", "--hydrate", "background"), ("snapshot", "digest"),
         ("shared", "digest", "--hydrate", "on-demand"))  # the last: its target is not whole


def main():
    with daemon.scratch() as folder:
        image = daemon.make_image(os.path.join(folder, "a.img"), SIZE)
        with daemon.Daemon(folder, image) as disk:
            for number, (mode, how, *more) in enumerate(MOVES):
                target = os.path.join(folder, f"target{number}.img")
                digests = disk.migrate(target, mode, "--verify", how, *more)["digests"]
                other = image if "on-demand" in more else target
                seen = json.loads(daemon.ok(daemon.built("blockmig"), "verify", other,
                                            daemon.EXPORT, "--state-dir", disk.state_dir,
                                            "-o", "json"))
                assert seen["equal"], seen
                for side in ("a", "b"):  # the file, and the disk as its clients see it
                    assert seen[side]["digest"] == digests["source"], (mode, how, seen, digests)
                assert digests["target"] == digests["source"], (mode, digests)


main()
