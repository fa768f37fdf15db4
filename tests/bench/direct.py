# SPDX-License-Identifier: Apache-2.0
"""Direct I/O on a real file: fio on the file itself beside the same file through our server.

Who does the I/O, fio or our server, runs on the processor on which the disk serves best; our client has the other
one and polls. `in_series` is fio's time and null_server's, which only answers, added: what a server would reach
whose store and sockets take turns.
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


def disk_cpu(plan, seconds):
    """The processor on which the disk serves fio best: the one that takes its interrupts, if one does. Who
    does the I/O gets it, be it fio or our server; our client gets the other."""
    arguments = all_cells.DIRECT[0][1]
    return max((peers.SERVER_CPU, peers.CLIENT_CPU), key=lambda cpu: run_fio(
        fio_command(cpu, plan.image(peers.OURS), plan.size_bytes, arguments, seconds), seconds)["iops"])


def _rounds(plan, server, answering, cell, arguments, pairs, seconds):
    """[(ours, fio, null_server)]; seconds are whole, as fio wants them; the order alternates."""
    fio = fio_command(plan.cpus, plan.image(peers.OURS), plan.size_bytes, arguments, seconds)
    out = []
    for i in range(pairs):
        if i % 2 == 0:
            ours = serving.measure(plan, server, cell, seconds)
            theirs = run_fio(fio, seconds)
        else:
            theirs = run_fio(fio, seconds)
            ours = serving.measure(plan, server, cell, seconds)
        out.append((ours, theirs, serving.measure(plan, answering, cell, seconds)))
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
        plan.cpus = disk_cpu(plan, seconds)
        plan.client_options = CLIENT_POLLS
        plan.client_cpu = (peers.CLIENT_CPU if plan.cpus == peers.SERVER_CPU else peers.SERVER_CPU)
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


def row(cell, rounds):
    value = verdict.ratio([(ours, theirs) for ours, theirs, _ in rounds])
    series = [1 / (1 / theirs["iops"] + 1 / answers["iops"]) for _, theirs, answers in rounds]
    return {"cell": cell.name, "must": cell.must, "value": value,
            "verdict": verdict.verdict(value, cell.must),
            "ours": statistics.median(ours["iops"] for ours, _, _ in rounds),
            "fio": statistics.median(theirs["iops"] for _, theirs, _ in rounds),
            "in_series": statistics.median(series)}
