# SPDX-License-Identifier: Apache-2.0
"""Moving an idle, fully allocated disk from file to file: blockmig, QEMU's storage daemon, cp.

All of them end with the data flushed at the target, since that is what a finished migration means; the
time runs from the command until then. The source is in the page cache.
"""
import filecmp
import json
import os
import select
import signal
import socket
import statistics
import subprocess
import time

import peers
import servers
import serving

TIMEOUT_SECONDS = 600


class Qmp:
    """A connection to a QMP monitor."""

    def __init__(self, path):
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(path)
        self._received = b""
        self._events = []
        self._read()
        self.execute("qmp_capabilities")

    def _read(self, deadline=None):
        """The next message; None if there is none by then."""
        deadline = deadline or time.monotonic() + TIMEOUT_SECONDS
        while b"\n" not in self._received:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._socket], [], [], left)[0]:
                return None
            piece = self._socket.recv(65536)
            if not piece:
                raise RuntimeError("QEMU has closed its monitor")
            self._received += piece
        line, _, self._received = self._received.partition(b"\n")
        return json.loads(line)

    def execute(self, command, **arguments):
        """The command's result; RuntimeError with QEMU's words if it failed."""
        self._socket.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        while True:
            message = self._read()
            if message is None:
                raise RuntimeError(f"{command}: QEMU does not answer")
            if "event" in message:
                self._events.append(message)
            elif "error" in message:
                raise RuntimeError(f"{command}: {message['error']['desc']}")
            else:
                return message["return"]

    def wait_event(self, name, deadline=None):
        """The event's data; None if it has not come by then, in seconds of time.monotonic()."""
        while True:
            for event in self._events:
                if event["event"] == name:
                    self._events.remove(event)
                    return event["data"]
            message = self._read(deadline)
            if message is None:
                return None
            if "event" in message:
                self._events.append(message)

    def close(self):
        self._socket.close()


def move_qemu(folder, source, target):
    """Seconds that blockdev-mirror needs, until the pivot is done. The source stays exported."""
    monitor = os.path.join(folder, "qmp.sock")
    with open(target, "wb") as f:
        f.truncate(os.path.getsize(source))
    node = "driver=raw,node-name={},file.driver=file,file.filename={},discard=unmap"
    command = [servers.program("qemu-storage-daemon"),
               "--blockdev", node.format("src", source), "--blockdev", node.format("dst", target),
               "--chardev", f"socket,id=m,path={monitor},server=on,wait=off", "--monitor", "chardev=m",
               "--nbd-server", f"addr.type=unix,addr.path={folder}/qsd.sock",
               "--export", "type=nbd,id=e,node-name=src,name=bench,writable=on"]
    daemon = subprocess.Popen(command)  # pylint: disable=consider-using-with
    try:
        while not os.path.exists(monitor):
            if daemon.poll() is not None:
                raise RuntimeError("qemu-storage-daemon did not start")
            time.sleep(0.01)
        qmp = Qmp(monitor)
        begin = time.monotonic()
        qmp.execute("blockdev-mirror", **{"job-id": "j", "device": "src", "target": "dst",
                                          "sync": "full"})
        qmp.wait_event("BLOCK_JOB_READY")
        qmp.execute("block-job-complete", device="j")
        data = qmp.wait_event("BLOCK_JOB_COMPLETED")
        seconds = time.monotonic() - begin
        if "error" in data:
            raise RuntimeError(data["error"])
        qmp.close()
        return seconds
    finally:
        daemon.terminate()
        daemon.wait()
        for leftover in (monitor, f"{folder}/qsd.sock"):
            if os.path.exists(leftover):
                os.unlink(leftover)


def move_cp(_folder, source, target):
    """Seconds of cp and of making it durable."""
    begin = time.monotonic()
    subprocess.run(["cp", "--reflink=never", "--sparse=never", source, target], check=True)
    subprocess.run(["sync", target], check=True)
    return time.monotonic() - begin


def forget_stamps(image):
    """The next move of the image is a new disk's: what says where this one went to goes."""
    folder, name = os.path.split(image)
    for other in os.listdir(folder):
        if other.startswith((name + ".", "." + name)):
            os.unlink(os.path.join(folder, other))


def move_blockmig(blockmig, mode):
    """A function like the two above, for one mode of ours."""
    def move(folder, source, target):
        state = os.path.join(folder, "state")
        sock = os.path.join(folder, "ours.sock")
        command = peers.blockmig_command(servers.program(blockmig), source, "unix:" + sock, state)
        server = servers.Server("blockmig", command, "unix:" + sock, os.path.join(folder, "ours.log"))
        try:
            begin = time.monotonic()
            run = subprocess.run(
                [blockmig, "migrate", servers.EXPORT, "--to", target, "--mode", mode,
                 "--state-dir", state, "-o", "json"],
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False,
                timeout=TIMEOUT_SECONDS)
            seconds = time.monotonic() - begin
        finally:
            server.stop()
        if run.returncode != 0:
            raise RuntimeError(f"blockmig migrate --mode {mode}: {run.stderr or run.stdout}")
        subprocess.run(["rm", "-rf", state], check=True)
        forget_stamps(source)
        forget_stamps(target)
        return seconds
    return move


def compare(blockmig, folder, size_bytes, pairs, note):
    """{who: [seconds]}; each round runs all of them in turn and compares each target with the source."""
    source = os.path.join(folder, "source.img")
    target = os.path.join(folder, "target.img")
    serving.make_image(source, size_bytes, 1 << 20)
    movers = {"cp": move_cp, "qemu-storage-daemon": move_qemu}
    try:
        servers.program(blockmig)
        for mode in ("dbt", "mirror", "cold"):
            movers[f"blockmig {mode}"] = move_blockmig(blockmig, mode)
    except servers.Unavailable as e:
        note(f"{e}: left out")
    results = {name: [] for name in movers}
    names = list(movers)
    for i in range(pairs + 1):  # the first round warms up: it is not counted
        for name in names[i % len(names):] + names[:i % len(names)]:
            if os.path.exists(target):
                os.unlink(target)
            subprocess.run(["sync", "-f", folder], check=True)
            results[name].append(movers[name](folder, source, target))
            if not filecmp.cmp(source, target, shallow=False):
                raise RuntimeError(f"{name}: the target differs from the source")
        note(f"round {i} of {pairs}: " +
             ", ".join(f"{n} {results[n][-1]:.2f} s" for n in names))
    for seconds in results.values():
        del seconds[0]
    return results


def summarise(results):
    """Per mover the median seconds, and its ratio to the two yardsticks by round (above 1: slower)."""
    table = []
    for name, seconds in results.items():
        row = {"who": name, "seconds": statistics.median(seconds)}
        for yardstick in ("cp", "qemu-storage-daemon"):
            row[f"to {yardstick}"] = statistics.median(
                a / b for a, b in zip(seconds, results[yardstick]))
        table.append(row)
    return table


def ignore_signals():
    """A benchmark in a pipeline should not die before it has stopped its servers."""
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
