# SPDX-License-Identifier: Apache-2.0
"""The benchmark's report in Markdown."""
import control
import live
import moving
import peers
import verdict

COMPARED = {
    "serve": ("Page-cached raw file, unix socket, one connection",
              "Server on processor 0, client on processor 1, dirty tracking on."),
    "tcp": ("The same over TCP loopback", "It must be ahead of the best peer in every cell."),
    "two": ("Two connections, server on two cores",
            "The machine has two processors: the server may use both, and so may the client, which drives "
            "each connection on a thread of its own. They share them."),
    "tls": ("TLS over TCP loopback, pre-shared key",
            "nbd-server has no pre-shared keys and is not in it. `client's default` is what libnbd and QEMU ask "
            "for; the cipher that was agreed stands beside each server's name."),
    "portable": ("Portable loop (`--loop portable`) beside nbdkit", "Unix socket, one core each."),
}
FIGURES = (("iops", "IOPS", ",.0f"), ("mb_per_second", "MB/s", ",.0f"), ("p50_us", "p50 us", ".0f"),
           ("p99_us", "p99 us", ".0f"), ("server_cpu_us_per_request", "CPU us/request", ".2f"),
           ("syscalls_per_request", "system calls/request", ".2f"),
           ("client_cpu_us_per_request", "client CPU us/request", ".2f"))


def table(header, rows):
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(str(c).replace("|", "/") for c in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def figure(value, form=".2f"):
    return "-" if value is None else format(value, form)


def compared(part, data):
    """A part that sets ours beside peers."""
    title, words = COMPARED[part]
    names = [p for p in peers.PEERS if any(p in r["ratios"] for r in data["rows"])]
    rows = [[r["cell"], f"**{figure(r['value'])}**", r["best"] or "-", figure(r["must"], "g"),
             figure(r["aim"], "g"), r["verdict"], *(figure(r["ratios"].get(n)) for n in names)]
            for r in data["rows"]]
    details = [[r["cell"], " ".join([name, s.get("tls", "")]).strip(),
                *(figure(s.get(key), form) for key, _, form in FIGURES)]
               for r in data["rows"] for name, s in r["servers"].items()]
    return [f"## {title}", "", words, "",
            table(["work", "ours / best peer", "best peer", "must reach", "aim at", "verdict",
                   *("/ " + n for n in names)], rows), *failed(data),
            "<details><summary>Medians of each server</summary>", "",
            table(["work", "server", *(f[1] for f in FIGURES)], details), "</details>", ""]


def failed(data):
    """What could not be measured, and why."""
    everywhere = data.get("failures", {})
    why = dict(everywhere)
    for r in data.get("rows", []):
        why.update({f"{k} at {r['cell']}": v for k, v in r.get("failures", {}).items()
                    if k not in everywhere})
    return [f"- not measured: {k}: `{' '.join(v.split())[:300]}`" for k, v in why.items()] + [""]


def limit(data):
    rows = []
    for r in data["rows"]:
        for name, s in r["servers"].items():
            rows.append([r["cell"], name, *(figure(s.get(k), f) for k, _, f in FIGURES)])
    return ["## The limit: no store at all", "",
            "`blockmig, null store` is our server before a store that does nothing; `null_server` does nothing "
            "but answer, in as few system calls as there can be, and so shows what the sockets and the load "
            "generator are able to do (it polls 50 us before it sleeps, which its calls at depth 1 are).", "",
            table(["work", "server", *(f[1] for f in FIGURES)], rows), *failed(data)]


def direct(data):
    rows = [[r["cell"], f"**{figure(r['value'])}**", figure(r["must"], "g"), r["verdict"],
             figure(r["ours"], ",.0f"), figure(r["fio"], ",.0f"), figure(r["in_series"], ",.0f")]
            for r in data["rows"]]
    return ["## Direct I/O on a real file", "",
            "`fio --ioengine=io_uring --direct=1` on the file itself, and the same file through "
            "`blockmig serve --cache direct` and NBD; medians of pairs. Who does the I/O is measured on each of both "
            "processors, and counts with the better one for it, cell by cell: one of them takes the disk's interrupts. Our "
            "client has the other one and polls. The last column adds fio's "
            "time per request to that of a server which only answers: what a server reaches whose store and "
            "sockets take turns.",
            "", table(["work", "ours / fio", "must reach", "verdict", "ours IOPS", "fio IOPS",
                       "fio and sockets, IOPS"], rows),
            *failed(data)]


def scale(data):
    counts = list(data["rows"][0]["iops"]) if data["rows"] else []
    rows = [[r["server"], *(figure(r["iops"][n], ",.0f") for n in counts), figure(r["many_to_few"])]
            for r in data["rows"]]
    return ["## Many connections, one request in flight on each", "",
            "4 KiB random reads, IOPS; server and client on one processor each.", "",
            table(["server", *(f"{n} connections" for n in counts), "1,000 to 16"], rows),
            f"1,000 connections to 16 of ours: {figure(data['value'])}, must reach {data['must']}: "
            f"**{data['verdict']}**.", "", *failed(data)]


def second(data):
    """What the second connection adds, beside what null_server says that it may."""
    out = ["## The second connection", "",
           "One connection with a processor each for server and client, then two where both may use both "
           "processors; requests per second. The gain is of two to one; what `null_server` gains, which only "
           "answers, is what this machine has to give, twofold at most.", ""]
    for row in data["rows"]:
        rows = [[kind, *(figure(rate, ",.0f") for rate in row["iops"][kind]), figure(gain)]
                for kind, gain in row["gains"].items()]
        out += [f"### {row['cell']}", "", table(["server", "1 connection", "2 connections", "gain"], rows),
                f"Our gain to what could be gained: {figure(row['value'])}, must reach {row['must']}: "
                f"**{row['verdict']}**.", ""]
    return out + failed(data)


def tracking(data):
    if "value" not in data:
        return ["## Dirty tracking", "", *failed(data)]
    return ["## Dirty tracking", "",
            f"{data['cell']}: with tracking {data['value']:.3f} x the requests per second of the same server "
            f"without (must reach {data['must']}: **{data['verdict']}**), at {data['cpu']:.3f} x the CPU per "
            "request.", ""]


def memory(cases):
    rows = [[c["case"], f"{c['bytes'] / (1 << 20):.2f}", f"{c['flat_bytes'] / (1 << 20):.2f}",
             f"{c['bytes'] / c['flat_bytes']:.3f}", "met" if c["bytes"] <= c["flat_bytes"] else "missed"]
            for c in cases]
    return ["## Memory of tracking: 16 TiB at 64 KiB granularity", "",
            "Filter, log and Roaring together; a flat bitmap beside it, which must not be smaller.", "",
            table(["dirty", "MiB", "flat bitmap MiB", "ratio", "verdict"], rows)]


def moves(data):
    gib = data["bytes"] / (1 << 30)
    rows = [[r["who"], f"{r['seconds']:.2f}", f"{gib * 1024 / r['seconds']:,.0f}",
             f"{r['to cp']:.2f}", f"{r['to qemu-storage-daemon']:.2f}"]
            for r in moving.summarise(data["times"])]
    return [f"## Moving an idle, fully allocated disk of {gib:g} GiB, file to file", "",
            f"On {data['filesystem']}, source in the page cache, time until the target is "
            "flushed. Below 1: faster.", "",
            table(["who", "seconds", "MiB/s", "time / cp", "time / qemu-storage-daemon"], rows)]


def _with_share(run, key):
    return f"{figure(live.median(run, key), ',.2f')} ({figure(live.median(run, key + '_before'), ',.2f')})"


def live_row(row):
    """One kind of work: what each did, and the verdicts."""
    table_rows = []
    for who, runs in row["runs"].items():
        if not runs:
            continue
        ended = sum(r["converged"] for r in runs)
        seconds = f"{live.median(runs, 'seconds'):.2f}" if ended else "never"
        table_rows.append([who, seconds, f"{live.median(runs, 'copied'):.2f}",
                           figure(live.median(runs, "iops"), ",.0f"), f"{live.median(runs, 'share'):.0%}",
                           _with_share(runs, "p99_ms"), figure(live.median(runs, "stall_ms"), ".1f"),
                           f"{ended} of {len(runs)}"])
    judged = [live.judge(row, who, rival) for who, rival in live.MODES]
    verdict_rows = [[j["who"], j["rival"], *(("met" if j["verdicts"][g] else "missed")
                                            if g in j["verdicts"] else "not measured" for g in live.GOALS),
                     figure(j.get("rate")), figure(j.get("seconds"))] for j in judged]
    return [f"### {row['name']}, {row['bytes'] >> 20} MiB", "",
            f"Guest: `nbdload {row['arguments']}`; ours with `--max-downtime {row['downtime_ms']}ms`.", "",
            table(["who", "seconds", "copied / disk", "guest requests/s", "of undisturbed",
                   "guest p99 ms (before)", "longest at switchover ms", "ended"], table_rows),
            table(["ours", "beside the peer's", *live.GOALS, "guest, ours / peer", "time, ours / peer"],
                  verdict_rows), *failed(row)]


def live_moves(data):
    out = ["## Moving a disk while a guest works on it", "",
           f"On {data['filesystem']}, source in the page cache, fully allocated; beside `blockdev-mirror` of "
           "QEMU's storage daemon with `copy-mode` background and write-blocking. Ours with digests, as "
           "always. Both may use both processors, as does the guest. "
           f"Goals: the longest request at the switchover takes at most {live.STALL_MUST_MS:g} ms and not longer "
           "than the peer's; the guest gets at least as many requests per second as with the peer; the time is "
           "not longer than the peer's; `mirror` and `auto` end everywhere.", ""]
    for row in data["rows"]:
        out += live_row(row)
    return out


def sparse(data):
    if not data["rows"]:
        return ["## A sparse disk of 16 TiB", "", "not measured: no file of that size can be made here", ""]
    rows = [[r["disk"], r["mode"], figure(r["first_byte"], ".3f"), figure(r["seconds"]),
             f"{r['peak_bytes'] >> 20}", f"{r['moved_bytes'] >> 20:,}", f"{r['saved_bytes'] >> 20:,}"]
            for r in data["rows"]]
    return ["## A sparse disk of 16 TiB", "",
            f"{data['bytes'] >> 20} MiB of data in eight places, beside a disk that is just this data.", "",
            table(["disk", "mode", "first byte after s", "seconds", "memory at most MiB", "moved MiB",
                   "saved MiB"], rows)]


def shared(data):
    rows = [[r["scenario"], r["mode"], figure(r["switched"], ".3f"), figure(r["first_read_ms"], ".3f"),
             f"{r['moved_bytes'] >> 20:,}", f"{r['moved_bytes'] / data['bytes']:.0%}",
             figure(r["read_seconds"], ".2f")] for r in data["rows"]]
    return ["## Data that stays in its folder", "",
            f"A disk of {data['bytes'] >> 20} MiB, of which a guest has used a twentieth; mode `shared` with "
            "`--hydrate on-demand` beside our own post-copy and dirty-block tracking.", "",
            table(["asked for after the move", "mode", "switched over after s", "first read ms", "moved MiB",
                   "of the disk", "s to read what is asked for"], rows)]


def commands_answered(data):
    rows = [[r["frozen"], r["command"], r["requests"], figure(r["p50_ms"], ".2f"), figure(r["max_ms"], ".1f"),
             r["verdict"]] for r in data["rows"]]
    return ["## Commands in the middle of a move", "",
            "On the control socket, one after the other; source and target are servers, of which one has been "
            f"frozen in mid-copy. Every answer takes at most {control.MUST_MS:g} ms.", "",
            table(["frozen", "command", "requests", "p50 ms", "longest ms", "verdict"], rows), *failed(data)]


def verdicts(data):
    """All verdicts of the run in one table."""
    rows = []
    for part in (*COMPARED, "second", "direct"):
        if data.get(part, {}).get("rows"):
            met, asked = verdict.settled(data[part]["rows"])
            missed = [r["cell"] for r in data[part]["rows"] if r["verdict"] not in ("", "met")]
            rows.append([part, f"{met} of {asked}", "; ".join(missed) or "-"])
    if data.get("control", {}).get("rows"):
        answered = data["control"]["rows"]
        missed = [f"{r['command']}, frozen {r['frozen']}" for r in answered if r["verdict"] != "met"]
        rows.append(["control", f"{len(answered) - len(missed)} of {len(answered)}", "; ".join(missed) or "-"])
    for part in ("scale", "tracking"):
        if data.get(part, {}).get("verdict"):
            met = data[part]["verdict"] == "met"
            rows.append([part, f"{int(met)} of 1", "-" if met else figure(data[part]["value"], ".3f")])
    if data.get("memory"):
        missed = [c["case"] for c in data["memory"] if c["bytes"] > c["flat_bytes"]]
        rows.append(["memory", f"{len(data['memory']) - len(missed)} of {len(data['memory'])}",
                     "; ".join(missed) or "-"])
    for row in data.get("live", {}).get("rows", []):
        judged = [live.judge(row, who, rival) for who, rival in live.MODES]
        asked = [(j["who"], goal) for j in judged for goal in j["verdicts"]]
        missed = [f"{j['who']}: {goal}" for j in judged for goal, met in j["verdicts"].items() if not met]
        rows.append([f"live, {row['name']}", f"{len(asked) - len(missed)} of {len(asked)}",
                     "; ".join(missed) or "-"])
    return ["## Targets", "", table(["part", "met", "not met"], rows)]


def commands(data):
    """So that a reader can repeat it."""
    out = ["## Commands", "", "Modes: " + "; ".join(f"{k}: {v}" for k, v in peers.MODES.items()) + ".", "",
           "FOLDER is a temporary folder. The client of a cell: `nbdload --connect ADDRESS --export bench "
           "--seconds S --cpu 1` and the cell's arguments.", ""]
    for part, value in data.items():
        found = value.get("commands") if isinstance(value, dict) else None
        if found:
            out += [f"`{part}`:", "", "```", *(c.replace(data["folder"], "FOLDER") for c in
                                              found.values()), "```", ""]
    arguments = {c: a for part in COMPARED for c, a in data.get(part, {}).get("arguments", {}).items()}
    if arguments:
        out += [table(["cell", "nbdload's arguments"], [[c, f"`{a}`"] for c, a in arguments.items()])]
    return out


def markdown(data, plots):
    """The whole report; `plots` maps a plot's name to its file beside the report."""
    out = ["# Benchmark", "", f"`{data['command']}`", ""]
    out += [f"- {key}: {value}" for key, value in data["environment"].items()]
    out += ["", f"{data['pairs']} pairs of {data['seconds']} s runs. Ours and a peer take turns (A B, B A, ...), "
            "all other servers frozen; a ratio is the median of the pairs' ratios, and the best peer is the one "
            "with the lowest. Above 1: blockmig is faster. Absolute values move with the machine's neighbours. "
            "Every server was first checked by a run that verifies what it reads. Files were written in "
            f"pieces of {data['piece_bytes']} bytes, which decides the size of their folios in the page cache and "
            "with it what a small write costs the kernel; runs that write begin with the whole file dirty. The "
            "client, `nbdload`, sleeps in its receive call and polls for nobody, but for direct I/O and where a row "
            "says so.", ""]
    out += verdicts(data)
    out += [f"![{name}]({file})\n" for name, file in plots.items()]
    for part in COMPARED:
        if part in data:
            out += compared(part, data[part])
    for part, write in (("second", second), ("limit", limit), ("direct", direct), ("scale", scale), ("tracking", tracking),
                        ("memory", memory), ("move", moves), ("live", live_moves), ("sparse", sparse),
                        ("shared", shared), ("control", commands_answered)):
        if data.get(part):
            out += write(data[part])
    return "\n".join(out + commands(data))
