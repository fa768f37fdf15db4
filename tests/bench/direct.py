# SPDX-License-Identifier: Apache-2.0
"""Direct I/O on a real file: fio on the file itself beside the same file through our server."""
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


def fio_command(image, size_bytes, arguments, seconds):
    return ["taskset", "-c", peers.CLIENT_CPU, servers.program("fio"), *FIO, f"--filename={image}",
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


def _pairs(plan, server, cell, arguments, pairs, seconds):
    """Seconds are whole, as fio wants them; the order alternates."""
    fio = fio_command(plan.image(peers.OURS), plan.size_bytes, arguments, seconds)
    out = []
    for i in range(pairs):
        if i % 2 == 0:
            ours = serving.measure(plan, server, cell, seconds)
            out.append((ours, run_fio(fio, seconds)))
        else:
            theirs = run_fio(fio, seconds)
            out.append((serving.measure(plan, server, cell, seconds), theirs))
    return out


def compare(plan, quick, names, pairs, seconds, note):
    """{"rows": [...], "commands": {...}, "failures": {...}}."""
    seconds = max(1, round(seconds))
    wanted = all_cells.chosen([c for c, _ in all_cells.DIRECT], quick, names)
    chosen = [(c, a) for c, a in all_cells.DIRECT if c in wanted]
    rows, failures = [], {}
    image = plan.image(peers.OURS)
    try:
        serving.make_image(image, plan.size_bytes, plan.piece_bytes)
        with open(image, "rb") as f:
            os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        server = peers.start(plan, peers.OURS, lambda p, address: peers.ours(
            p, address, extra=("--bitmap", "bench", "--cache", "direct")))
    except serving.FAILURES as e:
        note(f"direct: {e}")
        return {"rows": [], "commands": {}, "failures": {peers.OURS: str(e)}}
    commands = {peers.OURS: " ".join(server.command)}
    try:
        server.freeze()
        serving.measure(plan, server, all_cells.VERIFIED, 0.2)
        for cell, arguments in chosen:
            note("direct: " + cell.name)
            commands["fio, " + cell.name] = " ".join(fio_command(image, plan.size_bytes, arguments,
                                                                 seconds))
            rows.append(row(cell, _pairs(plan, server, cell, arguments, pairs, seconds)))
    except serving.FAILURES as e:
        note(f"direct: {e}")
        failures["direct"] = str(e)
    finally:
        server.stop()
    return {"rows": rows, "commands": commands, "failures": failures}


def row(cell, pairs):
    value = verdict.ratio(pairs)
    return {"cell": cell.name, "must": cell.must, "value": value,
            "verdict": verdict.verdict(value, cell.must),
            "ours": statistics.median(a["iops"] for a, _ in pairs),
            "fio": statistics.median(b["iops"] for _, b in pairs)}
