# SPDX-License-Identifier: Apache-2.0
"""nbdserver/README.md, `blockmigd --limits` and `blockmig help limits` say the same of every limit."""
import os

import daemon

printed = daemon.ok(daemon.built("blockmigd"), "--limits")
assert printed == daemon.ok(daemon.built("blockmig"), "help", "limits")
with open(os.path.join(daemon.TOP, "nbdserver/README.md"), encoding="utf-8") as f:
    rows = [line.strip().strip("|").split(" | ") for line in f if line.startswith("| `") and
            line.count(" | ") == 3]
documented = {cells[0].strip(" `"): [c.strip() for c in cells[1:]] for cells in rows}
lines = printed.splitlines()
assert [line.split()[0] for line in lines] == list(documented), (lines, documented)
for line in lines:
    name = line.split()[0]
    default, limits, meaning = documented[name]
    assert line.split(None, 1)[1].startswith(default + " "), (line, default)
    assert line.endswith(f"{meaning} ({limits})"), (line, meaning, limits)
