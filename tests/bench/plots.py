# SPDX-License-Identifier: Apache-2.0
"""The report's plots: {name: SVG} from its data."""
import svg


def ratio_bars(rows):
    out = []
    for r in rows:
        text = f"{r['value']:.2f} x {r['best']}" if r["value"] is not None else "not measured"
        out.append(svg.Bar(r["cell"], r["value"], text, r["verdict"] if r["value"] else "plain", r["must"]))
    return out


def cpu_bars(rows):
    """Per cell ours, and the peer that needs least."""
    out = []
    for r in rows:
        used = {n: s["server_cpu_us_per_request"] for n, s in r["servers"].items()
                if "server_cpu_us_per_request" in s}
        ours = used.pop(r["ours"], None)
        if ours is None:
            continue
        out.append(svg.Bar(f"{r['cell']}, blockmig", ours, f"{ours:.2f} us"))
        if used:
            best = min(used, key=used.get)
            out.append(svg.Bar(best, used[best], f"{used[best]:.2f} us", "other"))
    return out


def scaling_bars(rows):
    out = []
    for r in rows:
        for n, iops in r["iops"].items():
            kind = "plain" if r is rows[0] else "other"
            out.append(svg.Bar(f"{r['server']}, {n} connections", iops,
                               f"{iops:,.0f}/s" if iops is not None else "failed", kind))
    return out


def all_plots(data):
    """What was measured only."""
    out = {}
    for part, title in (("serve", "Unix socket"), ("tcp", "TCP loopback"),
                        ("two", "Two connections, two cores"), ("tls", "TLS"),
                        ("portable", "Portable loop beside nbdkit")):
        rows = data.get(part, {}).get("rows")
        if rows:
            out[f"ratios-{part}"] = svg.bars(
                f"{title}: requests per second, as a ratio to the best peer",
                "The line is what must be reached; green reaches it.", ratio_bars(rows))
    for name, what, small in (("cpu-4k", "4 KiB", True), ("cpu-large", "64 KiB and 1 MiB", False)):
        shown = cpu_bars([r for r in data.get("serve", {}).get("rows", [])
                          if r["cell"].startswith("4 KiB") == small])
        if shown:
            out[name] = svg.bars(f"CPU time of the server per request, {what}, unix socket",
                                 "Microseconds; beside ours the peer that needs least. Shorter is better.",
                                 shown)
    if data.get("scale", {}).get("rows"):
        out["scaling"] = svg.bars("Requests per second by connections, one in flight on each",
                                  "4 KiB random read, server and client on one core each.",
                                  scaling_bars(data["scale"]["rows"]))
    return out
