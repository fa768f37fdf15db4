#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs the NBD conformance cases against our daemon, or against any server; see README.md.

    run.py                                              our daemon, built in build/release
    run.py --uri nbd://localhost/export                 any server; the export's CONTENT IS OVERWRITTEN
    run.py --uri 'nbd+unix:///e?socket=/run/nbd.sock' --read-only-export ro --large-export big
    run.py --list       run.py --only status            names, or parts of names
Exit: 0 if no case failed. Against our daemon a case that finds nothing to test fails too.
"""
import argparse
import contextlib
import importlib
import os
import sys
import time
import traceback

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import cases  # pylint: disable=wrong-import-position
import client  # pylint: disable=wrong-import-position
import sections  # pylint: disable=wrong-import-position
import target  # pylint: disable=wrong-import-position

AREAS = ("handshake", "options", "info", "meta", "simple", "changes", "flags", "structured", "extended",
         "status", "limits", "lifecycle", "cve", "starttls",
         "tls")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--uri", help="the server and its export")
    parser.add_argument("--socket", help="the unix socket of a server, instead of --uri")
    parser.add_argument("--export", default="", help="with --socket: the export")
    for kind in ("read-only", "large", "aligned"):
        parser.add_argument(f"--{kind}-export", help=f"an export that is {kind}")
    parser.add_argument("--area", action="append", choices=AREAS, help="only this area; may be repeated")
    parser.add_argument("--only", action="append", help="only names with this part; may be repeated")
    parser.add_argument("--list", action="store_true", help="print the cases and end")
    parser.add_argument("--quiet", action="store_true", help="print what did not pass, and the sum")
    return parser.parse_args()


def load(areas):
    """Importing an area registers its cases. Each rests on a section that exists."""
    for area in areas:
        importlib.import_module(f"area_{area}")
    chosen = [case for case in cases.ALL if case.area in areas]
    nowhere = [f"{case.name}: no section {case.section!r}" for case in chosen if not sections.known(case.section)]
    if nowhere:
        sys.exit("\n".join(nowhere))
    return chosen


@contextlib.contextmanager
def server_of(options):
    if not options.uri and not options.socket:
        with target.our_server() as ours:
            yield ours
        return
    client.ABORT_IS_ANSWERED = False
    address, export = target.from_uri(options.uri) if options.uri else (
        options.socket, options.export.encode())
    kinds = [getattr(options, kind + "_export") for kind in ("read_only", "large", "aligned")]
    yield target.Target(address, export, *[k.encode() if k is not None else None for k in kinds])


def outcome(case, server):
    """(word, reason): ok, FAILED or n/a."""
    try:
        case.run(server)
        return "ok", ""
    except cases.NotOffered as what:
        return ("FAILED" if server.ours else "n/a"), f"not offered: {what}"
    except cases.Failed as why:
        return "FAILED", str(why)
    except (OSError, AssertionError, UnicodeDecodeError, KeyError, ValueError):
        return "FAILED", traceback.format_exc()


def run_all(chosen, server, quiet=False):
    """{word: number} after each case was printed."""
    counts = {"ok": 0, "FAILED": 0, "n/a": 0}
    for case in chosen:
        word, reason = outcome(case, server)
        counts[word] += 1
        if not quiet or word == "FAILED":
            print(f'{word:6} {case.name}  [{case.level}, "{case.section}"]', flush=True)
            if reason:
                print("       " + reason.replace("\n", "\n       "), flush=True)
    return counts


def main():
    options = arguments()
    chosen = [c for c in load(options.area or AREAS)
              if not options.only or any(part in c.name for part in options.only)]
    if options.list:
        for case in chosen:
            print(f'{case.name}  [{case.level}, "{case.section}"]')
        print(f"{len(chosen)} cases")
        return 0
    if not chosen:
        print("no such case")
        return 2
    begun = time.monotonic()
    with server_of(options) as server:
        counts = run_all(chosen, server, options.quiet)
    print(f"{counts['ok']} passed, {counts['FAILED']} failed, {counts['n/a']} not offered; "
          f"{time.monotonic() - begun:.1f} s")
    return 1 if counts["FAILED"] else 0


if __name__ == "__main__":
    sys.exit(main())
