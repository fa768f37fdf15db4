# SPDX-License-Identifier: Apache-2.0
"""Direct I/O on a real file: fio on the file itself beside the same file through our server.

Who does the I/O, fio or our server, is measured on each of both processors and counts with the one that is the
better for it: one of them takes the disk's interrupts. Our client has the other one and polls. `in_series` is fio's
time and null_server's, which only answers, added: what a server would reach whose store and sockets take turns.
"""
import json
import os
import statistics
import subprocess

import cells as all_cells
import peers
import servers
import serving
import verdict

FIO = ("--name=direct", "--ioengine=io_uring", "--direct=1", "--time_based", "--norandommap",
       "--randrepeat=0", "--output-format=json")

PROCESSORS = (peers.SERVER_CPU, peers.CLIENT_CPU)

# Longer than a batch takes: the time in which the client's processor wakes up is not the server's.
CLIENT_POLLS = ("--spin", "2000")


def fio_command(cpu, image, size_bytes, arguments, seconds):
    return ["taskset", "-c", cpu, servers.program("fio"), *FIO, f"--filename={image}",
            f"--size={size_bytes}", f"--runtime={seconds}", f"--ramp_time={min(0.3, seconds / 3)}",
            *arguments]


def run_fio(command, seconds):
    """fio's requests per second, in a dictionary as nbdload's."""
    run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                         timeout=seconds * 10 + 60, check=False)
    if run.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {run.stderr}")
    job = json.loads(run.stdout[run.stdout.index("{"):])["jobs"][0]
    side = job["write" if job["write"]["total_ios"] else "read"]
    return {"iops": side["iops"], "mb_per_second": side["bw_bytes"] / 1e6,
            "p50_us": side["clat_ns"]["percentile"]["50.000000"] / 1e3,
            "p99_us": side["clat_ns"]["percentile"]["99.000000"] / 1e3}


def _round(plan, server, answering, cell, arguments, seconds, ours_first):
    """(ours, fio, null_server) with who does the I/O on plan.cpus; seconds are whole, as fio wants them."""
    server.pin(plan.cpus)
    answering.pin(plan.cpus)
    fio = fio_command(plan.cpus, plan.image(peers.OURS), plan.size_bytes, arguments, seconds)
    ours = serving.measure(plan, server, cell, seconds) if ours_first else None
    theirs = run_fio(fio, seconds)
    ours = ours or serving.measure(plan, server, cell, seconds)
    return ours, theirs, serving.measure(plan, answering, cell, seconds)


def _rounds(plan, server, answering, cell, arguments, pairs, seconds):
    """[{processor: what _round() gives}]; the orders alternate."""
    out = []
    for i in range(pairs):
        measured = {}
        for cpu in PROCESSORS[::-1] if i % 2 else PROCESSORS:
            plan.cpus, plan.client_cpu = cpu, next(other for other in PROCESSORS if other != cpu)
            measured[cpu] = _round(plan, server, answering, cell, arguments, seconds, i % 2 == 0)
        out.append(measured)
    return out


def compare(plan, quick, names, pairs, seconds, note):
    """{"rows": [...], "commands": {...}, "failures": {...}}."""
    seconds = max(1, round(seconds))
    wanted = all_cells.chosen([c for c, _ in all_cells.DIRECT], quick, names)
    chosen = [(c, a) for c, a in all_cells.DIRECT if c in wanted]
    rows, failures = [], {}
    try:
        servers.program("fio")
    except servers.Unavailable as e:
        note(f"direct: {e}")
        return {"rows": [], "commands": {}, "failures": {"fio": str(e)}}
    image = plan.image(peers.OURS)
    try:
        serving.make_image(image, plan.size_bytes, plan.piece_bytes)
        with open(image, "rb") as f:
            os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        plan.client_options = CLIENT_POLLS
        server = peers.start(plan, peers.OURS, lambda p, address: peers.ours(
            p, address, extra=("--bitmap", "bench", "--cache", "direct")))
    except serving.FAILURES as e:
        note(f"direct: {e}")
        return {"rows": [], "commands": {}, "failures": {peers.OURS: str(e)}}
    commands = {peers.OURS: " ".join(server.command)}
    answering = None
    try:
        server.freeze()
        answering = peers.start(plan, "null_server")
        answering.freeze()
        serving.measure(plan, server, all_cells.VERIFIED, 0.2)
        for cell, arguments in chosen:
            note("direct: " + cell.name)
            commands["fio, " + cell.name] = " ".join(
                fio_command(plan.cpus, image, plan.size_bytes, arguments, seconds))
            rows.append(row(cell, _rounds(plan, server, answering, cell, arguments, pairs, seconds)))
    except serving.FAILURES as e:
        note(f"direct: {e}")
        failures["direct"] = str(e)
    finally:
        server.stop()
        if answering:
            answering.stop()
    return {"rows": rows, "commands": commands, "failures": failures}


def _at_its_best(rounds, which):
    """The runs of one of _round()'s on the processor on which their median is the greatest."""
    runs = {cpu: [measured[cpu][which] for measured in rounds] for cpu in rounds[0]}
    return max(runs.values(), key=lambda those: statistics.median(run["iops"] for run in those))


def row(cell, rounds):
    ours, theirs, answers = (_at_its_best(rounds, which) for which in range(3))
    value = verdict.ratio(list(zip(ours, theirs)))
    series = [1 / (1 / a["iops"] + 1 / b["iops"]) for a, b in zip(theirs, answers)]
    return {"cell": cell.name, "must": cell.must, "value": value,
            "verdict": verdict.verdict(value, cell.must),
            "ours": statistics.median(run["iops"] for run in ours),
            "fio": statistics.median(run["iops"] for run in theirs),
            "in_series": statistics.median(series)}
