# SPDX-License-Identifier: Apache-2.0
"""Ours beside its peers, in pairs: A B, B A, A B, ...

Every server has its own copy of the file and is frozen while another one is measured. A pair is measured
at once, since a neighbour's noise moves both. A server that fails is named with its reason and left out.
"""
import contextlib
import json
import os
import subprocess

import cells as all_cells
import peers
import servers
import syscalls

PIECE_BYTES = 4096
FAILURES = (RuntimeError, subprocess.SubprocessError, OSError, servers.Unavailable, ValueError)


def make_image(path, size_bytes, piece_bytes=PIECE_BYTES):
    """A fully allocated file without zeros, in the page cache; one that is there is taken.

    It is written in small pieces: ext4 puts a file that is written by the mebibyte into large folios of the
    page cache, and then a 4 KiB write costs the kernel 7 us instead of 1.5 (Linux 6.18), which hides the
    server.
    """
    if not os.path.exists(path) or os.path.getsize(path) != size_bytes:
        block = os.urandom(piece_bytes)
        with open(path, "wb", buffering=0) as f:
            for _ in range(size_bytes // piece_bytes):
                f.write(block)
    with open(path, "rb+", buffering=0) as f:
        os.fsync(f.fileno())
        while f.read(1 << 20):
            pass


def nbdload_command(plan, server, cell, seconds):
    own_cpu = [] if plan.cpus == peers.BOTH_CPUS else ["--cpu", plan.client_cpu]
    tls = ["--tls-psk", plan.psk_file] if plan.psk_file else []
    return [plan.own("nbdload"), "--connect", server.address, "--export", servers.EXPORT,
            "--seconds", str(seconds), "--warmup", str(min(0.3, seconds / 3)), *own_cpu, *tls, *plan.client_options,
            *cell.arguments]


def run_nbdload(command, seconds, what):
    run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                         timeout=seconds * 10 + 60, check=False)
    if run.returncode != 0:
        raise RuntimeError(f"{what}: {' '.join(command)}: {run.stderr or run.stdout}")
    return json.loads(run.stdout)


@contextlib.contextmanager
def awake(server):
    """Thawed inside, frozen outside."""
    server.thaw()
    try:
        yield
    finally:
        server.freeze()


def measure(plan, server, cell, seconds):
    """One run: what nbdload printed, and the server's CPU per request in microseconds."""
    with awake(server):
        before = server.cpu_seconds()
        out = run_nbdload(nbdload_command(plan, server, cell, seconds), seconds,
                          f"{server.name}, {cell.name}")
        server.rest()
        cpu = server.cpu_seconds() - before
    out["server_cpu_us_per_request"] = cpu * 1e6 / max(out["issued"], 1)
    return out


def writes(cell):
    return any(op in cell.arguments for op in ("write", "seqwrite", "mix"))


def make_dirty(plan, server):
    """Writes the whole file once: a first write to a clean page costs more than the next, by a fault if the
    server maps the file, so every run that writes begins in the steady state."""
    block = 1 << 20
    cell = all_cells.Cell("make dirty", ("--op", "seqwrite", "--block", str(block), "--depth", "8",
                                         "--count", str(plan.size_bytes // block)))
    with awake(server):
        run_nbdload([*nbdload_command(plan, server, cell, 60), "--warmup", "0"], 60,
                    f"{server.name}, making the file dirty")


def count_syscalls(plan, server, cell, seconds):
    """The server's system calls per request, in a run of its own."""
    with awake(server):
        server.rest()
        command = nbdload_command(plan, server, cell, seconds)
        calls, out = syscalls.during(server.pid, command, seconds)
    return calls / max(out["issued"], 1)


class Field:
    """The servers of one part of the report, started and verified.

    Use as a context; `running` maps names to servers, `failures` those that are out to the reason.
    """

    def __init__(self, plan, kinds, note):
        self.plan = plan
        self.note = note
        self.running = {}
        self.failures = {}
        self.commands = {}
        self._kinds = kinds

    def __enter__(self):
        try:
            for kind in self._kinds:
                self._start(kind)
        except BaseException:
            self.__exit__()
            raise
        return self

    def _start(self, kind):
        try:
            if "null" not in kind:
                make_image(self.plan.image(kind.split(",")[0]), self.plan.size_bytes,
                           self.plan.piece_bytes)
            server = peers.start(self.plan, kind)
        except FAILURES as e:
            self.leave_out(kind, e)
            return
        self.running[kind] = server
        self.commands[kind] = " ".join(server.command)
        server.freeze()
        if "null" in kind:
            return  # nothing is kept there, so nothing can be verified
        try:
            measure(self.plan, server, all_cells.VERIFIED, 0.2)
        except FAILURES as e:
            self.leave_out(kind, e)

    def leave_out(self, kind, why):
        self.note(f"{kind} is left out: {why}")
        self.failures[kind] = str(why)
        if kind in self.running:
            self.running.pop(kind).stop()

    def __exit__(self, *_):
        for server in self.running.values():
            server.stop()

    def settle(self):
        """What was written is on the disk: it would be written back during somebody else's turn."""
        for kind in self.running:
            with contextlib.suppress(OSError), open(self.plan.image(kind.split(",")[0]), "rb") as f:
                os.fsync(f.fileno())


def measure_cell(field, cell, ours, pairs, seconds):
    """See verdict.summarise()."""
    field.note(cell.name)
    others = [k for k in field.running if k != ours]
    out = {"ours": ours, "pairs": {k: [] for k in others}, "runs": {k: [] for k in field.running},
           "syscalls": {}, "failures": dict(field.failures)}

    def run(kind):
        if kind in out["failures"]:
            return None
        try:
            if writes(cell) and "null" not in kind:
                make_dirty(field.plan, field.running[kind])
            result = measure(field.plan, field.running[kind], cell, seconds)
        except FAILURES as e:
            field.note(f"{kind}: {e}")
            out["failures"][kind] = str(e)
            return None
        out["runs"][kind].append(result)
        return result

    for i in range(pairs):
        for peer in others:
            runs = {k: run(k) for k in ((ours, peer) if i % 2 == 0 else (peer, ours))}
            if all(runs.values()):
                out["pairs"][peer].append((runs[ours], runs[peer]))
        if not others:
            run(ours)
    for kind in [k for k in field.running if k not in out["failures"]]:
        try:
            out["syscalls"][kind] = count_syscalls(field.plan, field.running[kind], cell,
                                                   min(seconds, 0.5))
        except FAILURES as e:
            field.note(f"system calls of {kind}: {e}")
    if writes(cell):
        field.settle()
    return out


def compare(plan, kinds, cells, pairs, seconds, note):
    """{"cells": [(cell, measured)], "commands": {server: command}}; the first kind is ours."""
    with Field(plan, kinds, note) as field:
        measured = [(cell, measure_cell(field, cell, kinds[0], pairs, seconds)) for cell in cells]
        return {"cells": measured, "commands": field.commands, "failures": field.failures}
