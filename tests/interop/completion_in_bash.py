# SPDX-License-Identifier: Apache-2.0
"""Bash completes commands, options, their values, and the disks of the daemon that the line names."""
import os

import daemon

daemon.need("bash")
SCRIPT = os.path.join(daemon.TOP, "tools/completion/blockmig.bash")
ASK = 'source "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _blockmig; printf "%s\\n" "${COMPREPLY[@]}"'


def completed(program, *words):
    return daemon.ok("bash", "-c", ASK, SCRIPT, daemon.built(program), *words).split()


with daemon.scratch() as folder:
    with daemon.Daemon(folder, daemon.make_image(os.path.join(folder, "a.img"), 1 << 20)) as server:
        here = ("--state-dir", server.state_dir)
        for words, found in (
                (("mig",), ["migrate"]),
                (("bitmap", "m"), ["merge"]),
                (("bitmap", "r"), ["rm"]),
                (("help", "lim"), ["limits"]),
                (("ls", "d"), ["disks"]),
                (("migrate", "vm1", "--max-d"), ["--max-downtime"]),
                (("bitmap", "add", "--tra"), ["--transient"]),
                (("migrate", "vm1", "--mode", "c"), ["cold"]),
                (("status", "-o", "jsonl"), ["jsonl"]),
                ((*here, "detach", ""), [daemon.EXPORT]),
                ((*here, "bitmap", "ls", daemon.EXPORT[:2]), [daemon.EXPORT]),
                (("serve", "vm1", "--source", "nosuch"), [])):
            assert completed("blockmig", *words) == found, (words, completed("blockmig", *words))
        assert {"serve", "migrate", "stop", "bitmap"} <= set(completed("blockmig", "")), completed("blockmig", "")
    assert completed("blockmigd", "--stop-") == ["--stop-timeout"]
    assert completed("blockmigd", "--log", "j") == ["json"]
