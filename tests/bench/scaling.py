# SPDX-License-Identifier: Apache-2.0
"""Many connections with one request in flight on each: does their number cost throughput?"""
import statistics

import cells as all_cells
import serving
import verdict

MANY, FEW = 1000, 16
ENOUGH_TO_SEE = 2  # rounds of a peer: no verdict rests on them


def compare(plan, kinds, pairs, seconds, note):
    """{"rows": [...], "value": 1,000 to 16 of ours, ...}; the first kind is ours."""
    rates, failures = {}, {}
    with serving.Field(plan, kinds, note) as field:
        for kind in list(field.running):
            rates[kind] = {n: [] for n in all_cells.CONNECTIONS}
            for i in range(pairs if kind == kinds[0] else min(pairs, ENOUGH_TO_SEE)):
                turn = all_cells.CONNECTIONS if i % 2 == 0 else all_cells.CONNECTIONS[::-1]
                for n in turn:
                    if (kind, n) in failures:
                        continue
                    note(f"{kind}, {n} connections")
                    try:
                        rates[kind][n].append(serving.measure(field.plan, field.running[kind],
                                                              all_cells.scale(n), seconds)["iops"])
                    except serving.FAILURES as e:
                        note(str(e))
                        failures[(kind, n)] = str(e)
        commands = field.commands
        failures = {f"{kind}, {n} connections": why for (kind, n), why in failures.items()}
        failures.update(field.failures)
    return summarise(rates, kinds[0]) | {"commands": commands, "failures": failures}


def summarise(rates, ours):
    """The median rates, and what becomes of 16 connections' rate with 1,000, round by round."""
    rows = [{"server": kind, "iops": {n: statistics.median(r) if r else None for n, r in by.items()},
             "many_to_few": _many_to_few(by)} for kind, by in rates.items()]
    value = next((r["many_to_few"] for r in rows if r["server"] == ours), None)
    return {"rows": rows, "must": all_cells.SCALE_MUST, "value": value,
            "verdict": verdict.verdict(value, all_cells.SCALE_MUST)}


def _many_to_few(by):
    pairs = list(zip(by[MANY], by[FEW]))
    return statistics.median(a / b for a, b in pairs) if pairs else None

