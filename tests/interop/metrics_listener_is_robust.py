# SPDX-License-Identifier: Apache-2.0
"""Whoever connects to --metrics costs the daemon little: no memory, no scrape, no end in order, no replacement.

Clients that are silent, drip a byte now and then, or never come to an end; on the control socket too.
"""
import http.client
import os
import re
import socket
import threading

import daemon
import metrics
import raw_nbd
from successor import Doomed, control, ready, refused, start

MIB = 1 << 20
SIZE = 8 * MIB
PATIENCE = 20  # seconds; what is waited for takes a fraction of one
SCRAPE = b"GET /metrics HTTP/1.1\r\n"
ENDLESS = {
    "headers": (SCRAPE, b"X: " + b"y" * 4000 + b"\r\n"),
    "a line": (b"", b"A" * 4096),
    "a chunked body": (b"POST /metrics HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
                       b"1000\r\n" + b"z" * 0x1000 + b"\r\n"),
}


class Host:
    """A daemon that answers scrapes, with a guest on its disk."""

    def __init__(self, folder):
        self.folder = folder
        self.image = daemon.make_image(os.path.join(folder, "a.img"), SIZE)
        self.path = os.path.join(folder, "nbd.sock")
        self.server = start(folder, "d0", "--disk", f"{daemon.EXPORT}={self.image}", "--listen",
                            f"unix:{self.path}", "--metrics", "tcp:127.0.0.1:0")
        assert ready(self.server), self.server.log()
        found = re.search(r"answering scrapes on tcp:127\.0\.0\.1:(\d+)", self.server.log())
        self.address = ("127.0.0.1", int(found.group(1)))
        self.control_path = os.path.join(folder, "s", "control.sock")
        self.guest = raw_nbd.attached(self.path)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.guest.close()
        self.server.stop()

    def page(self):
        connection = http.client.HTTPConnection(*self.address, timeout=PATIENCE)
        try:
            connection.request("GET", "/metrics")
            response = connection.getresponse()
            assert response.status == 200, response.status
            return metrics.Page(response.read().decode())
        finally:
            connection.close()

    def serves(self):
        """Guest, scrape and command line."""
        assert raw_nbd.works(self.guest)
        assert self.page().value("blockmig_metrics_stale") == 0
        assert daemon.EXPORT in control(self.folder, "ls", "disks")


class Clients:
    """Silent ones on both listeners, and one on each that drips; connected until the test has done, or cut."""

    def __init__(self, host, silent):
        self.sockets = [socket.create_connection(host.address)]
        self.sockets.append(raw_nbd.connect(host.control_path))
        self._dripping = list(self.sockets)
        self._done = threading.Event()
        for s in self._dripping:
            s.sendall(SCRAPE + b"X: ")
        self._thread = threading.Thread(target=self._drip)
        self._thread.start()
        for _ in range(silent):
            self.sockets.append(socket.create_connection(host.address))
        self.sockets.append(raw_nbd.connect(host.control_path))

    def _drip(self):
        while not self._done.wait(0.2):
            for s in list(self._dripping):
                try:
                    s.sendall(b"A")
                except OSError:
                    self._dripping.remove(s)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self._done.set()
        self._thread.join()
        for s in self.sockets:
            s.close()


def endless_requests_take_no_memory(folder):
    with Host(folder) as host:
        host.serves()
        before = daemon.resident_bytes(host.server.pid)
        for what, (begin, part) in ENDLESS.items():
            with socket.create_connection(host.address, timeout=PATIENCE) as client:
                try:
                    client.sendall(begin)
                    for _ in range(256):
                        client.sendall(part * 256)
                except OSError:
                    pass  # cut off: just as well
                grown = daemon.resident_bytes(host.server.pid) - before
                assert grown < 32 * MIB, f"{what} without end: {grown >> 20} MiB more"
        host.serves()


def ranges_do_not_multiply_the_page(folder):
    with Host(folder) as host, socket.create_connection(host.address, timeout=PATIENCE) as client:
        client.sendall(SCRAPE + b"Range: bytes=" + b",".join([b"0-"] * 2000) + b"\r\n\r\n")
        size = 0
        while piece := client.recv(MIB):
            size += len(piece)
        assert 0 < size < 2 * len(host.page().text), size


def scrapes_are_answered_beside(folder):
    with Host(folder) as host, Clients(host, silent=40):
        host.serves()


def stop_waits_for_nobody(folder):
    with Host(folder) as host, Clients(host, silent=8):
        host.server.signal(15)
        assert host.server.process.wait(PATIENCE) == 0, host.server.log()


def replacement_waits_for_nobody(folder):
    with Host(folder) as host, Clients(host, silent=8):
        following = start(folder, "d1", "--replace")
        try:
            assert ready(following), following.log()
            assert raw_nbd.works(host.guest)
            assert host.server.process.wait(PATIENCE) == 0, host.server.log()
        finally:
            following.stop()


def replacement_that_fails_leaves_the_listeners(folder):
    """Whether it fails before the guests are parked, while they are, or behind the handover."""
    with Host(folder) as host:
        os.rename(host.image, host.image + ".away")
        assert "No such file" in refused(folder, "gone")
        os.rename(host.image + ".away", host.image)
        host.serves()
        with raw_nbd.attached(host.path) as unfinished:
            unfinished.sendall(raw_nbd.request(1, 1, 0, MIB) + b"x" * 100)
            daemon.until(lambda: host.page().value("blockmig_nbd_clients", disk=daemon.EXPORT) == 2, "both")
            assert "in the middle of a request" in refused(folder, "busy")
            host.serves()
        Doomed(folder).die()
        daemon.until(lambda: "handed over was taken back" in host.server.log(), "the old daemon to say so")
        host.serves()


with daemon.scratch() as scratch:
    for story in (endless_requests_take_no_memory, ranges_do_not_multiply_the_page, scrapes_are_answered_beside,
                  stop_waits_for_nobody, replacement_waits_for_nobody,
                  replacement_that_fails_leaves_the_listeners):
        place = os.path.join(scratch, story.__name__)
        os.mkdir(place)
        story(place)
