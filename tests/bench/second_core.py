# SPDX-License-Identifier: Apache-2.0
"""What a second connection adds: one of them with a processor each for server and client, then two where both
may use both processors. It can double what there was, unless the machine has less to give, as one of two
processors may, where the client had the second one already: then what null_server gains, which only answers, is
what is to be had."""
import statistics

import peers
import serving
import verdict

MOST = 2.0  # of a second connection
ENOUGH_TO_SEE = 2  # rounds of a peer: no verdict rests on them


def _measure(plans, server, cell, seconds, connections):
    """Requests per second."""
    plan = plans[connections]
    server.pin(plan.cpus)
    more = ("--connections", str(connections), "--threads", str(connections))
    wanted = cell._replace(name=f"{cell.name}, {connections} connections", arguments=(*cell.arguments, *more))
    return serving.measure(plan, server, wanted, seconds)["iops"]


def compare(plans, kinds, cells, pairs, seconds, note):
    """`plans`: by the number of connections; the servers are started by that of two. The first kind is ours,
    the last null_server. {"rows": [...], ...}."""
    rows = []
    with serving.Field(plans[2], kinds, note) as field:
        for cell in cells:
            rounds, failures = {}, dict(field.failures)
            for kind, server in field.running.items():
                note(f"{kind}, {cell.name}")
                rounds[kind] = []
                enough = pairs if kind in (kinds[0], kinds[-1]) else min(pairs, ENOUGH_TO_SEE)
                try:
                    if serving.writes(cell):
                        serving.make_dirty(plans[2], server)
                    for i in range(enough):
                        turn = (1, 2) if i % 2 == 0 else (2, 1)
                        rates = {n: _measure(plans, server, cell, seconds, n) for n in turn}
                        rounds[kind].append((rates[1], rates[2]))
                except serving.FAILURES as e:
                    note(str(e))
                    failures[kind] = str(e)
            rows.append(summarise(cell, rounds, kinds[0], kinds[-1]) | {"failures": failures})
        return {"rows": rows, "commands": field.commands, "failures": field.failures}


def summarise(cell, rounds, ours, answering):
    """`rounds`: {server: [(rate of one connection, of two)]}. The value is our gain to what
    could be gained."""
    gains = {kind: statistics.median(two / one for one, two in each) for kind, each in rounds.items() if each}
    value = gains[ours] / min(MOST, gains[answering]) if ours in gains and answering in gains else None
    return {"cell": cell.name, "must": cell.must, "gains": gains, "value": value,
            "iops": {kind: tuple(statistics.median(r[i] for r in each) for i in (0, 1))
                     for kind, each in rounds.items() if each},
            "verdict": verdict.verdict(value, cell.must)}


def plans_of(args, folder):
    """One connection has a processor for the server and one for the client; two share both."""
    return {n: peers.Plan(args.bin, folder, args.bytes, args.pieces, label="second-", cpus=cpus)
            for n, cpus in ((1, peers.SERVER_CPU), (2, peers.BOTH_CPUS))}
