# SPDX-License-Identifier: Apache-2.0
"""A command whose output cannot be written has failed and says so; one whose reader has gone ends, with 141."""
import os
import subprocess

import daemon

FAILED, SIGPIPE = 1, 141

with daemon.scratch() as folder:
    image = daemon.make_image(os.path.join(folder, "a.img"), 1 << 20)
    with daemon.Daemon(folder, image) as server:
        blockmig = (daemon.built("blockmig"), "--state-dir", server.state_dir)
        commands = [(*blockmig, *words.split()) for words in (
            "status", "ls disks", "ls disks -o json", "ls clients -o jsonl", "metrics", "--help", "help limits",
            "migrate --help", "version", "status -w", "status -w -o jsonl")]
        commands += [(daemon.built("blockmigd"), word) for word in ("--help", "--limits", "--version")]
        for command in commands:
            with open("/dev/full", "w", encoding="ascii") as full:
                ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=30, check=False)
            if "jsonl" in command and "clients" in command:
                continue  # there is no line to write
            assert ended.returncode == FAILED, (command, ended)
            assert ended.stderr.count("\n") == 1 and "standard output" in ended.stderr, (command, ended)
        with subprocess.Popen((*blockmig, "status", "-w"), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as watch:
            watch.stdout.read(1)
            watch.stdout.close()
            assert watch.wait(timeout=30) == SIGPIPE
            assert watch.stderr.read() == b""
