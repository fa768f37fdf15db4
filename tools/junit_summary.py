# SPDX-License-Identifier: Apache-2.0
"""Prints what failed in a JUnit file of ctest, then `passed failed skipped` as the last line."""
import sys
import xml.etree.ElementTree as ElementTree

TAIL_LINES = 60


def main():
    try:
        root = ElementTree.parse(sys.argv[1]).getroot()
    except (OSError, ElementTree.ParseError) as e:
        print(e, file=sys.stderr)
        return 1
    passed = failed = skipped = 0
    for case in root.iter("testcase"):
        status = case.get("status")
        reason = case.find("skipped").get("message", "") if case.find("skipped") is not None else ""
        if status == "run":
            passed += 1
        elif status == "fail" or not (status == "disabled" or reason.startswith("SKIP_")):
            # a test whose program is missing counts as failed: ctest itself says "not run"
            failed += 1
            print(f"--- {case.get('name')} {reason}")
            out = case.findtext("system-out") or ""
            print("\n".join(out.rstrip().splitlines()[-TAIL_LINES:]))
        else:
            skipped += 1
            print(f"skipped: {case.get('name')}")
    print(passed, failed, skipped)
    return 0


if __name__ == "__main__":
    sys.exit(main())
