# SPDX-License-Identifier: Apache-2.0
"""How soon commands are answered in the middle of a move, also beside a source or a target that has frozen.

Both stores are servers of nbdkit; one is stopped with SIGSTOP while the copy is under way, and stays so. Times are of
one request on the control socket, from the connection to the last byte of the answer, one after the other.
"""
import contextlib
import http.client
import json
import os
import socket
import time

import live
import peers
import servers

MUST_MS = 100.0
REQUESTS = 200
FROZEN = ("nothing", "target", "source")
SIZE_BYTES = 256 << 20
BYTES_PER_SECOND = 4 << 20  # so that the move does not end meanwhile
JOB_SECONDS = 10


class Store:
    """An NBD server that can be frozen."""

    def __init__(self, folder, name):
        path = os.path.join(folder, name + ".sock")
        self.uri = "nbd+unix:///?socket=" + path
        # With data everywhere, so that there is something to copy.
        self.server = servers.Server("nbdkit", [servers.program("nbdkit"), "-f", "-U", path, "pattern", str(SIZE_BYTES)]
                                     if name == "source" else
                                     [servers.program("nbdkit"), "-f", "-U", path, "memory", str(SIZE_BYTES)],
                                     "unix:" + path, os.path.join(folder, name + ".log"))


class Disk:
    """A disk of ours on such a server, and a move of it to another."""

    def __init__(self, blockmig, folder, source):
        self._state = os.path.join(folder, "state")
        address = "unix:" + os.path.join(folder, "ours.sock")
        command = peers.blockmig_command(servers.program(blockmig), source, address, self._state, ["--read-only"])
        self.server = servers.Server("blockmig", command, address, os.path.join(folder, "ours.log"))

    def ask(self, method, path, body=None):
        """(what it says, how long it took in milliseconds)."""
        begin = time.monotonic()
        connection = http.client.HTTPConnection("localhost")
        connection.sock = socket.socket(socket.AF_UNIX)
        with contextlib.closing(connection.sock):
            connection.sock.settimeout(JOB_SECONDS)
            connection.sock.connect(os.path.join(self._state, "control.sock"))
            connection.request(method, path, json.dumps(body) if body else None)
            answer = connection.getresponse()
            text = answer.read()
        took = (time.monotonic() - begin) * 1e3
        if answer.status not in (200, 201, 202):
            raise RuntimeError(f"{method} {path}: {answer.status} {text[:200]}")
        return json.loads(text), took

    def begin(self, target):
        """Its id, once something has been copied."""
        job, _ = self.ask("POST", "/v1/jobs", {"disk": servers.EXPORT, "target": target, "mode": "dbt",
                                               "bwlimit_bytes_per_second": BYTES_PER_SECOND})
        deadline = time.monotonic() + JOB_SECONDS
        while not self.ask("GET", "/v1/jobs/" + job["id"])[0]["bytes_copied"]:
            if time.monotonic() > deadline:
                raise RuntimeError("the copy does not begin")
            time.sleep(0.01)
        return "/v1/jobs/" + job["id"]


def _times(disk, job, requests):
    """By command, milliseconds."""
    took = {"status": [], "status DISK": [], "ls disks": [], "pause": [], "resume": [], "abort": []}
    for number in range(requests):
        took["status"].append(disk.ask("GET", "/v1/status")[1])
        took["status DISK"].append(disk.ask("GET", job)[1])
        took["ls disks"].append(disk.ask("GET", "/v1/disks")[1])
        if number % 4 == 0:
            took["pause"].append(disk.ask("POST", job + "/pause")[1])
            took["resume"].append(disk.ask("POST", job + "/resume")[1])
    took["abort"].append(disk.ask("POST", job + "/abort")[1])
    return took


def measure(blockmig, folder, frozen, requests):
    """Rows of one case."""
    with contextlib.ExitStack() as stack:
        stores = {}
        for name in ("source", "target"):
            stores[name] = Store(folder, name)
            stack.callback(stores[name].server.stop)
        disk = Disk(blockmig, folder, stores["source"].uri)
        stack.callback(disk.server.stop)
        job = disk.begin(stores["target"].uri)
        if frozen in stores:
            stores[frozen].server.freeze()
            stack.callback(stores[frozen].server.thaw)
            time.sleep(0.5)  # until everything that is on its way there waits
        copied = disk.ask("GET", job)[0]["bytes_copied"]
        took = _times(disk, job, requests)
        if frozen in stores and disk.ask("GET", job)[0]["bytes_copied"] != copied:
            raise RuntimeError("the copy went on beside a store that was to be frozen")
        return [summarise(frozen, command, times) for command, times in took.items()]


def summarise(frozen, command, took):
    """One row of the report."""
    took = sorted(took)
    return {"frozen": frozen, "command": command, "requests": len(took), "p50_ms": live.quantile(took, 0.5),
            "max_ms": took[-1], "verdict": "met" if took[-1] <= MUST_MS else "missed"}


def compare(bin_folder, folder, requests, note):
    """{"rows": rows of all cases, "failures": why there are none of a case}."""
    rows, failures = [], {}
    for frozen in FROZEN:
        place = os.path.join(folder, "control-" + frozen)
        os.mkdir(place)
        note(f"control, frozen: {frozen}")
        try:
            rows += measure(os.path.join(bin_folder, "blockmig"), place, frozen, requests)
        except (OSError, RuntimeError, servers.Unavailable) as e:
            note(f"control, frozen {frozen}: {e}")
            failures[f"frozen {frozen}"] = str(e)
    return {"rows": rows, "failures": failures}
