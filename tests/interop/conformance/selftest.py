# SPDX-License-Identifier: Apache-2.0
"""The suite sees faults: for each fault of broken.py it passes on the good server and fails on the broken one."""
import contextlib
import io
import sys

import broken
import client
import run
import target
from cases import ALL

BROKEN_ANSWER_SECONDS = 1.5  # a reply that a fault swallowed does not come later


def chosen(parts):
    found = [case for case in ALL if any(part in case.name for part in parts)]
    assert found, f"no case is named {parts}"
    return found


def through(server, folder, fault):
    """The server as it looks from behind the man in the middle."""
    middle = broken.Middle(folder, server.address, fault)
    seen = target.Target(middle.address, server.export, server.read_only, server.large, server.aligned)
    seen.process = server.process
    return middle, seen


def failures(cases, server, folder, fault):
    """The names of the cases that fail."""
    middle, seen = through(server, folder, fault)
    with middle, contextlib.redirect_stdout(io.StringIO()):
        return [case.name for case in cases if run.outcome(case, seen)[0] == "FAILED"]


def main():
    run.load(run.AREAS)
    bad = 0
    with target.our_server() as server:
        folder = server.process.folder
        everything = chosen([part for _, parts in broken.FAULTS.values() for part in parts])
        wrong = failures(everything, server, folder, lambda data: data)
        print(f"{'FAILED' if wrong else 'ok':6} {len(everything)} cases through an honest man in the middle {wrong}")
        bad += len(wrong)
        client.ANSWER_SECONDS = BROKEN_ANSWER_SECONDS
        for name, (fault, parts) in broken.FAULTS.items():
            found = failures(chosen(parts), server, folder, fault)
            bad += not found
            print(f"{'ok' if found else 'FAILED':6} {name}: {len(found)} of {len(chosen(parts))} cases see it",
                  flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
