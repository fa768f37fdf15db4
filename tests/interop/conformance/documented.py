# SPDX-License-Identifier: Apache-2.0
"""README.md says how many cases there are; what passed, failed and was not offered by another server adds up to that."""
import os
import re
import sys

import run

number = len(run.load(run.AREAS))
with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "README.md"), encoding="utf-8") as f:
    text = f.read()
said = re.search(r"blockmig passes all of its (\d+)\.", text)
rows = re.findall(r"^\| (\S+) \| (\d+) \| (\d+) \| (\d+) \|", text, re.MULTILINE)
wrong = [] if said and int(said[1]) == number else [f"there are {number} cases: {said and said[0]}"]
wrong += [f"{server}: {sum(map(int, counts))} of {number}" for server, *counts in rows
          if sum(map(int, counts)) != number]
print("\n".join(wrong or [f"{number} cases, {len(rows)} servers"]))
sys.exit(1 if wrong or not rows else 0)
