# SPDX-License-Identifier: Apache-2.0
"""From runs to figures: pure functions. A run is what nbdload printed, as a dictionary.

A pair is (run of ours, run of a peer's), measured next to each other. A figure is the median of the
pairs' ratios; the best peer of a cell is the one against which that figure is smallest.
"""
import statistics

KEYS = ("iops", "mb_per_second", "p50_us", "p99_us", "server_cpu_us_per_request",
        "client_cpu_us_per_request")


def ratio(pairs, key="iops"):
    """The median of the pairs' ratios."""
    return statistics.median(a[key] / b[key] for a, b in pairs)


def medians(runs):
    out = {key: statistics.median(r[key] for r in runs) for key in KEYS if all(key in r for r in runs)}
    ciphers = {r["tls"] for r in runs if r.get("tls")}
    return out | ({"tls": " or ".join(sorted(ciphers))} if ciphers else {})


def against_peers(pairs_by_peer):
    """({peer: ratio}, best peer); the best peer is None where no peer could be measured."""
    ratios = {peer: ratio(pairs) for peer, pairs in pairs_by_peer.items() if pairs}
    return ratios, min(ratios, key=ratios.get) if ratios else None


def verdict(value, must):
    """'met', 'missed', or 'not measured'; '' where nothing is asked."""
    if must is None:
        return ""
    if value is None:
        return "not measured"
    return "met" if value >= must else "missed"


def summarise(cell, measured):
    """One row. `measured` has ours (a name), pairs {peer: pairs}, runs {server: runs}, and failures
    {server: why}: a server in there has no say, ours among them."""
    failures = measured["failures"]
    ratios, best = against_peers({peer: pairs for peer, pairs in measured["pairs"].items()
                                  if peer not in failures})
    if measured["ours"] in failures:
        ratios, best = {}, None
    value = ratios[best] if best else None
    by_server = {server: medians(runs) for server, runs in measured["runs"].items()
                 if runs and server not in failures}
    for server, count in measured["syscalls"].items():
        if server in by_server:
            by_server[server]["syscalls_per_request"] = count
    return {"cell": cell.name, "must": cell.must, "aim": cell.aim, "ours": measured["ours"],
            "ratios": ratios, "best": best, "value": value, "verdict": verdict(value, cell.must),
            "servers": by_server, "failures": failures}


def settled(rows):
    """(met, asked for) of these rows."""
    asked = [r for r in rows if r["verdict"]]
    return sum(r["verdict"] == "met" for r in asked), len(asked)
