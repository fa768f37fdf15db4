# SPDX-License-Identifier: Apache-2.0
"""The log says who came, what they did and who misbehaved, as JSON lines with disk, epoch and client; a flood of bad
clients is a bounded number of lines, one of which counts the rest."""
import json
import os
import socket

import daemon
import raw_nbd
import served

FLOOD = 2000


def lines(disk):
    """The log's lines; each is a JSON object of its own. What is no log is the command's own output."""
    return [json.loads(line) for line in disk.log().splitlines() if line.startswith("{")]


def garbage(path):
    """A client that cannot be one; waits until it was dropped."""
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(30)
        s.connect(path)
        try:
            s.sendall(b"\xff\xff\xff\xff" + b"NOT AN OPTION AT ALL")
            while s.recv(4096):
                pass
        except OSError:
            pass


with served.served_disk(extra=("--log", "json")) as (folder, disk, image):
    daemon.nbdsh("-u", disk.uri, "-c", "h.pwrite(bytes(4096), 0)", "-c", "h.pread(512, 0)")
    left = daemon.until(lambda: [x for x in lines(disk) if " left after " in x["message"]], "the farewell")[0]
    came = [x for x in lines(disk) if "connected" in x["message"]][0]
    for line in (came, left):
        assert line["level"] == "info" and line["disk"] == "disk0" and line["client"] == came["client"], line
        assert "time" in line
        assert line["epoch"] == 1, line
    assert "2 requests, 512 B read, 4 KiB written" in left["message"], left

    daemon.run("nbdinfo", disk.uri.replace("disk0", "nope"))
    daemon.until(lambda: [x for x in lines(disk) if "a disk that is not here" in x["message"]], "the stranger")
    stranger = [x for x in lines(disk) if "a disk that is not here" in x["message"]][0]
    assert "epoch" not in stranger, stranger

    before = len(lines(disk))
    for _ in range(FLOOD):
        garbage(disk.socket_path)
    told = daemon.until(lambda: [x for x in lines(disk) if "suppressed" in x["message"]], "the count")
    after = lines(disk)[before:]
    assert len(after) < FLOOD / 2, f"{len(after)} lines for {FLOOD} bad clients"
    assert all(x["level"] == "warning" for x in after), [x for x in after if x["level"] != "warning"]
    assert told[0]["message"].split()[1].isdigit(), told[0]
    # The good news is not held back with the bad.
    daemon.nbdsh("-u", disk.uri, "-c", "h.flush()")
    daemon.until(lambda: [x for x in lines(disk)[before:] if " left after " in x["message"]], "a good client")

    disk.migrate(os.path.join(folder, "b.img"), "cold")
    before = len(lines(disk))
    with raw_nbd.attached(disk.socket_path):
        came = daemon.until(lambda: [x for x in lines(disk)[before:] if " connected" in x["message"]], "the next one")
        assert came[0]["epoch"] == 2, came

with served.served_disk(extra=("--log", "systemd", "--log-level", "warning")) as (folder, disk, image):
    garbage(disk.socket_path)
    daemon.until(lambda: "<4>client" in disk.log(), "the warning, with its priority")
    assert "<6>" not in disk.log(), disk.log()
