# SPDX-License-Identifier: Apache-2.0
"""How many system calls a server makes while a command runs: by perf, else by strace."""
import json
import re
import signal
import subprocess
import tempfile
import time

import servers

EVENT = "raw_syscalls:sys_enter"
ATTACH_SECONDS = 5


def perf_works():
    try:
        run = subprocess.run(["perf", "stat", "-x,", "-e", EVENT, "true"], stdout=subprocess.DEVNULL,
                             stderr=subprocess.PIPE, text=True, check=False)
    except OSError:
        return False
    return run.returncode == 0 and parse_perf(run.stderr) is not None


def parse_perf(text):
    """The count of perf stat -x,; None if it could not count."""
    m = re.search(rf"^(\d+),,{re.escape(EVENT)}", text, re.M)
    return int(m.group(1)) if m else None


def parse_strace(text):
    """The calls in the last line of strace -c -U calls,name."""
    m = re.search(r"^\s*(\d+)\s+total$", text, re.M)
    return int(m.group(1)) if m else None


def _run(command, seconds):
    run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                         timeout=seconds * 20 + 60, check=False)
    if run.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {run.stderr}")
    return run


def by_perf(pids, command, seconds):
    with tempfile.NamedTemporaryFile("r") as counts:
        run = _run(["perf", "stat", "-x,", "-o", counts.name, "-e", EVENT, "-p",
                    ",".join(map(str, pids)), "--", *command], seconds)
        calls = parse_perf(counts.read())
    return calls, json.loads(run.stdout)


def by_strace(pids, command, seconds):
    with tempfile.NamedTemporaryFile("r") as counts:
        attach = [x for p in pids for x in ("-p", str(p))]
        with subprocess.Popen([servers.program("strace"), "-f", "-c", "-U", "calls,name", "-o",
                               counts.name, *attach], stderr=subprocess.DEVNULL) as tracer:
            try:
                _await_tracer(pids[0], tracer)
                run = _run(command, seconds)
            finally:
                tracer.send_signal(signal.SIGINT)
        text = counts.read()
    return parse_strace(text), json.loads(run.stdout)


def _await_tracer(pid, tracer):
    deadline = time.monotonic() + ATTACH_SECONDS
    while time.monotonic() < deadline and tracer.poll() is None:
        with open(f"/proc/{pid}/status", encoding="ascii") as f:
            if re.search(rf"^TracerPid:\s+{tracer.pid}$", f.read(), re.M):
                return
        time.sleep(0.01)
    raise RuntimeError("strace cannot attach")


def during(pid, command, seconds, count=None):
    """(system calls of the process, its threads and its children; what the command printed, as JSON)."""
    count = count or (by_perf if perf_works() else by_strace)
    calls, out = count(servers.living(pid), command, seconds)
    if calls is None:
        raise RuntimeError(f"{count.__name__} gave no number")
    return calls, out
