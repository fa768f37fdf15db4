# SPDX-License-Identifier: Apache-2.0
"""Of a report's figures, those of ours that are not there: pure functions.

A verdict is never a failure of the report, and a peer that is missing is none. A part in which ours could not be
measured is one: it claims nothing, and nobody would see it.
"""
import live
import peers


def of_ours(data):
    """["part: what: why"]; empty where every part that was asked for has figures of ours."""
    return [f"{part}: {what}" for part, look in LOOKS.items() if part in data for what in look(data[part])]


def _why(failures, who):
    return " ".join(failures.get(who, "no run").split())[:300]


def _compared(part):
    return [f"{row['cell']}: {row['ours']}: {_why(row['failures'], row['ours'])}" for row in part["rows"]
            if row["ours"] not in row["servers"]]


def _scale(part):
    rows = {row["server"]: row["iops"] for row in part["rows"]}
    ours = rows.get(peers.OURS, {})
    missing = [f"{peers.OURS}, {n} connections" for n, iops in ours.items() if iops is None]
    return [f"{what}: {_why(part['failures'], what)}" for what in (missing if ours else [peers.OURS])]


def _failures(part):
    """Of a part with one server, which is ours; without fio there is nothing to hold it against."""
    return [f"{who}: {_why(part['failures'], who)}" for who in part["failures"] if who != "fio"]


def _memory(part):
    return [] if part else ["no figures"]


def _move(part):
    return [] if any(who.startswith(peers.OURS) and seconds for who, seconds in part["times"].items()) else ["no move"]


def _live(part):
    return [f"{row['name']}: {who}: {_why(row['failures'], who)}" for row in part["rows"] for who, _ in live.MODES
            if who in row["failures"] or not row["runs"][who]]


def _second(part):
    return [f"{row['cell']}: {_why(row['failures'], peers.OURS)}" for row in part["rows"]
            if peers.OURS not in row["gains"]]


LOOKS = {**dict.fromkeys(("serve", "tcp", "two", "limit", "tls", "portable"), _compared), "second": _second,
         "direct": _failures, "scale": _scale, "control": _failures, "tracking": _failures, "memory": _memory,
         "move": _move, "live": _live}
