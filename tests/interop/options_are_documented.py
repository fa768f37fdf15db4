# SPDX-License-Identifier: Apache-2.0
"""Every option of every command, and of the daemon, is in README.md or in one of the pages that it names."""
import os
import re

import daemon

PAGES = ("README.md", "tools/SERVICE.md", "tools/cli/README.md")
# What every command has, and says of itself.
GENERAL = {"--help", "--version"}
OPTION = re.compile(r"^  (?:-\w,)?(--[a-z][a-z-]*)", re.MULTILINE)
COMMAND = re.compile(r"^  ([a-z][a-z-]*) {2,}\S", re.MULTILINE)


def options_of(program, *words):
    """Its options, and those of its subcommands, each with the command that has it."""
    text = daemon.ok(daemon.built(program), *words, "--help")
    found = {(" ".join((program,) + words), name) for name in OPTION.findall(text)}
    _, _, listed = text.partition("\nSubcommands:\n")
    for name in COMMAND.findall(listed.partition("\n\n")[0]):
        found |= options_of(program, *words, name)
    return found


def documented():
    found = set()
    for page in PAGES:
        with open(os.path.join(daemon.TOP, page), encoding="utf-8") as f:
            found |= set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", f.read()))
    return found


offered = options_of("blockmig") | options_of("blockmigd")
commands = {command for command, _ in offered}
assert len(offered) > 100 and "blockmig bitmap merge" in commands, sorted(commands)
known = documented() | GENERAL
missing = sorted(f"{command} {name}" for command, name in offered if name not in known)
assert not missing, f"in no page: {missing}"
