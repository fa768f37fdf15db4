# SPDX-License-Identifier: Apache-2.0
"""The configuration and the unit of tools/SERVICE.md are what blockmigd takes, key by key and option by option."""
import os
import re
import shlex

import daemon


def block(text, language):
    return re.search(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)[1]


def settings(unit, name):
    return re.findall(rf"^{name}=(.*)$", unit, re.MULTILINE)


with open(os.path.join(daemon.TOP, "tools/SERVICE.md"), encoding="utf-8") as f:
    document = f.read()
configuration, service = block(document, "toml"), block(document, "ini")
with daemon.scratch() as folder:
    path = os.path.join(folder, "blockmigd.toml")
    with open(path, "w", encoding="utf-8") as f:
        f.write(configuration)
    in_force = daemon.ok(daemon.built("blockmigd"), "--config", path, "--limits")
    limits = re.search(r"^limit = {(.*)}$", configuration, re.MULTILINE)[1]
    for limit, value in re.findall(r'([a-z-]+) = "?(\w+)"?', limits):
        shown = re.search(rf"^{limit} +(\S+ ?\S*)", in_force, re.MULTILINE)[1].replace(" ", "")
        assert shown == value, (limit, value, in_force)
    with open(path, "a", encoding="utf-8") as f:
        f.write("no-such-option = 1\n")
    refused = daemon.run(daemon.built("blockmigd"), "--config", path, "--limits")
    assert refused.returncode == 2 and "no-such-option" in refused.stderr, refused
options = daemon.ok(daemon.built("blockmigd"), "--help")
for word in shlex.split(settings(service, "ExecStart")[0])[1:]:
    assert not word.startswith("--") or f"{word} " in options, word
assert settings(service, "Type") == ["notify"] and "--fd-store" in service, service
assert int(settings(service, "FileDescriptorStoreMax")[0]) > 0, service
