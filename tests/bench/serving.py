# SPDX-License-Identifier: Apache-2.0
"""Serving a page-cached raw file over a unix socket: blockmig beside qemu-nbd and nbdkit.

Every server has its own copy of the file, runs on processor 0, and is frozen while another one is
measured; the client runs on processor 1. Servers take turns (A B C, B C A, ...), and a cell's figure is
the median of the ratios of one round, since a neighbour's noise moves all of a round together.
"""
import collections
import json
import os
import statistics
import subprocess

import servers

Cell = collections.namedtuple("Cell", "name arguments")
CELLS = [
    *[Cell(f"4 KiB random {op}, depth {depth}", ["--op", op, "--block", "4k", "--depth", str(depth)])
      for op in ("read", "write") for depth in (1, 16, 64)],
    *[Cell(f"{name} sequential {op}, depth {depth}",
           ["--op", "seq" + op, "--block", size, "--depth", str(depth)])
      for name, size, depth in (("64 KiB", "64k", 16), ("1 MiB", "1M", 8)) for op in ("read", "write")],
]
QUICK = ("4 KiB random read, depth 1", "4 KiB random read, depth 16", "4 KiB random write, depth 16",
         "1 MiB sequential read, depth 8", "1 MiB sequential write, depth 8")
SERVER_CPU = 0
CLIENT_CPU = 1


def make_image(path, size_bytes):
    """A fully allocated file without zeros, in the page cache."""
    block = os.urandom(1 << 20)
    with open(path, "wb") as f:
        for _ in range(size_bytes >> 20):
            f.write(block)
        os.fsync(f.fileno())
    with open(path, "rb", buffering=0) as f:
        while f.read(1 << 20):
            pass


def measure(server, nbdload, cell, seconds):
    """One run: what nbdload printed, and the server's CPU per request in microseconds."""
    server.thaw()
    cpu_before = server.cpu_seconds()
    command = [nbdload, "--connect", f"unix:{server.socket_path}", "--export", servers.EXPORT,
               "--seconds", str(seconds), "--cpu", str(CLIENT_CPU), *cell.arguments]
    run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                         timeout=seconds * 10 + 60, check=False)
    cpu = server.cpu_seconds() - cpu_before
    server.freeze()
    if run.returncode != 0:
        raise RuntimeError(f"{server.name}, {cell.name}: {' '.join(command)}: {run.stderr}")
    out = json.loads(run.stdout)
    out["server_cpu_us_per_request"] = cpu * 1e6 / max(out["issued"], 1)
    return out


def verified_run(server, nbdload):
    """A short run that checks the data; raises if any is wrong."""
    return measure(server, nbdload, servers_cell_verify(), 1)


def servers_cell_verify():
    return Cell("verified", ["--op", "mix", "--block", "4k", "--depth", "16", "--verify",
                             "--range", "64M"])


def start_all(kinds, blockmig, folder, size_bytes, note):
    """The servers that can be started, by name; each on a copy of its own."""
    out = {}
    for kind in kinds:
        image = os.path.join(folder, f"{kind}.img")
        socket_path = os.path.join(folder, f"{kind}.sock")
        try:
            command = servers.serve_command(kind, blockmig, image, socket_path,
                                            os.path.join(folder, f"{kind}.state"))
        except servers.Unavailable as e:
            note(f"{kind}: {e}: left out")
            continue
        make_image(image, size_bytes)
        out[kind] = servers.Server(kind, servers.pinned(SERVER_CPU, command), socket_path,
                                   os.path.join(folder, f"{kind}.log"))
        out[kind].freeze()
    return out


def compare(running, nbdload, cells, pairs, seconds, note):
    """{cell: {server: [runs]}}; rounds rotate the order."""
    results = {}
    names = list(running)
    for cell in cells:
        note(cell.name)
        runs = {name: [] for name in names}
        for i in range(pairs):
            for name in names[i % len(names):] + names[:i % len(names)]:
                runs[name].append(measure(running[name], nbdload, cell, seconds))
        results[cell.name] = runs
    return results


def ratios(runs, ours, peer, key="iops"):
    return [a[key] / b[key] for a, b in zip(runs[ours], runs[peer])]


def summarise(results, ours="blockmig"):
    """Per cell: medians of each server, and ours against each peer and against the better one."""
    table = []
    for cell, runs in results.items():
        row = {"cell": cell, "servers": {}, "ratios": {}}
        for name, list_of_runs in runs.items():
            row["servers"][name] = {
                key: statistics.median(r[key] for r in list_of_runs)
                for key in ("iops", "mb_per_second", "p50_us", "p99_us",
                            "server_cpu_us_per_request")}
        peers = [n for n in runs if n != ours]
        if ours in runs and peers:
            for peer in peers:
                row["ratios"][peer] = statistics.median(ratios(runs, ours, peer))
            row["against_better"] = statistics.median(
                a["iops"] / max(runs[p][i]["iops"] for p in peers)
                for i, a in enumerate(runs[ours]))
        table.append(row)
    return table
