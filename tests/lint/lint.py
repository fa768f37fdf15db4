#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks one rule, or all, on the tree: lint.py --root DIR [--list] [RULE ...]

exemptions.txt beside this file may excuse what is there already. It only ever shrinks: an exemption
that nothing needs is an error, and so is one whose number is larger than what it excuses.
"""
import argparse
import os
import sys

sys.dont_write_bytecode = True
import rules  # noqa: E402
import tree as source_tree  # noqa: E402


def read_exemptions(path):
    """{(rule, key): limit} of lines `rule key [limit]`."""
    out = {}
    if os.path.exists(path):
        with open(path, encoding="utf-8") as f:
            for number, line in enumerate(f, 1):
                fields = line.split("#")[0].split()
                if not fields:
                    continue
                if len(fields) not in (2, 3) or fields[0] not in rules.RULES:
                    raise SystemExit(f"{path}:{number}: expected `rule key [limit]`")
                out[(fields[0], fields[1])] = int(fields[2]) if len(fields) == 3 else 0
    return out


def check(tree, names, exemptions):
    """The complaints, each one line."""
    out = []
    for name in names:
        used = {}
        for v in rules.RULES[name](tree):
            limit = exemptions.get((name, v.key))
            if limit is not None and v.size <= limit:
                used[v.key] = max(used.get(v.key, 0), v.size)
                continue
            where = v.key.split(":")[0]
            out.append(f"{where}:{v.line}: {v.message} [{name}]")
        for (rule, key), limit in exemptions.items():
            if rule != name:
                continue
            if key not in used:
                out.append(f"exemptions.txt: {rule} {key} is not needed any more: remove it")
            elif used[key] < limit:
                out.append(f"exemptions.txt: {rule} {key} needs only {used[key]}: lower it")
    return out


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", default=os.path.dirname(os.path.dirname(here)))
    parser.add_argument("--list", action="store_true", help="print the rules and stop")
    parser.add_argument("rules", nargs="*", metavar="RULE")
    args = parser.parse_args()
    if args.list:
        for name, rule in rules.RULES.items():
            print(f"{name:24} {' '.join(rule.__doc__.split())}")
        return 0
    unknown = [r for r in args.rules if r not in rules.RULES]
    if unknown:
        parser.error("no such rule: " + ", ".join(unknown))
    exemptions = read_exemptions(os.path.join(args.root, "tests/lint/exemptions.txt"))
    complaints = check(source_tree.Tree(args.root), args.rules or list(rules.RULES), exemptions)
    for line in complaints:
        print(line)
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
