# SPDX-License-Identifier: Apache-2.0
"""The manual pages name every command and every mode, and are made without a complaint."""
import os
import re

import daemon

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def page(name):
    with open(os.path.join(TOP, "tools/man", name), encoding="utf-8") as source:
        return source.read()


def commands():
    shown = daemon.ok(daemon.built("blockmig"), "--help").partition("Subcommands:\n")[2].partition("\n\n")[0]
    return re.findall(r"^  ([a-z-]+)", shown, re.M)


def modes():
    shown = daemon.ok(daemon.built("blockmig"), "migrate", "--help")
    found = re.search(r"--mode [A-Z]+ +([^\n]*)", shown)
    return set(re.findall(r"\b(cold|snapshot|dbt|mirror|postcopy|hybrid|shared|auto|return)\b", found.group(1)))


named = page("blockmig.1.scd")
assert len(commands()) > 15, commands()
for command in commands():
    assert f"*{command}*" in named, command
promised = page("blockmig-modes.7.scd")
assert len(modes()) == 9, modes()
for mode in modes():
    assert re.search(rf"^# .*\b{mode.upper()}\b", promised, re.M), mode
daemon.need("scdoc")
for name in sorted(os.listdir(os.path.join(TOP, "tools/man"))):
    if name.endswith(".scd"):
        made = daemon.run("scdoc", stdin=page(name))
        assert made.returncode == 0 and not made.stderr and ".TH" in made.stdout, (name, made)
