#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Shows that a rule can fail: selftest.py RULE

The rule must accept a small clean tree and the good variants of it, and object to each planted
violation; the list of exemptions must excuse what it names and nothing that is not there.
"""
import contextlib
import os
import sys
import tempfile

sys.dont_write_bytecode = True
import lint  # noqa: E402
import plants  # noqa: E402
import tree as source_tree  # noqa: E402


@contextlib.contextmanager
def planted(overlay):
    """CLEAN with `overlay` laid over it, on disk for as long as the block lasts."""
    with tempfile.TemporaryDirectory() as root:
        for path, text in {**plants.CLEAN, **overlay}.items():
            if text is not None:
                full = os.path.join(root, path)
                os.makedirs(os.path.dirname(full), exist_ok=True)
                with open(full, "w", encoding="utf-8") as f:
                    f.write(text)
        yield source_tree.Tree(root)


def complaints(rule, overlay, exemptions=None):
    """What the rule says about a planted tree."""
    with planted(overlay) as tree:
        return lint.check(tree, [rule], exemptions or {})


def check_exemptions(rule, bad):
    """An exemption excuses its violation; an unneeded or too generous one is an error."""
    failures = []
    with planted(bad) as tree:
        found = list(lint.rules.RULES[rule](tree))
    keys = {(rule, v.key): v.size for v in found}
    if complaints(rule, bad, keys):
        failures.append(f"exemptions {keys} did not excuse all of {found}")
    for key, size in keys.items():
        if size and not complaints(rule, bad, {**keys, key: size + 1}):
            failures.append(f"a limit above {size} was accepted: the list could grow")
        if size and not complaints(rule, bad, {**keys, key: size - 1}):
            failures.append(f"a limit below {size} still excused it")
    if not complaints(rule, {}, {(rule, "bitmap/map.cc"): 0}):
        failures.append("an exemption that nothing needs was accepted")
    return failures


def main():
    if len(sys.argv) != 2 or sys.argv[1] not in plants.PLANTS:
        print(f"usage: selftest.py {'|'.join(plants.PLANTS)}", file=sys.stderr)
        return 2
    rule = sys.argv[1]
    bad, good = plants.PLANTS[rule]
    failures = []
    for overlay in [{}] + good:
        for said in complaints(rule, overlay):
            failures.append(f"false alarm on {overlay}: {said}")
    for overlay in bad:
        if not complaints(rule, overlay):
            failures.append(f"silent on {overlay}")
    failures += check_exemptions(rule, bad[0])
    for f in failures:
        print(f)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
