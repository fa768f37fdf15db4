# SPDX-License-Identifier: Apache-2.0
"""A disk whose store comes back after its daemon died: another move that is asked for before the recorded one goes on
is refused, and does not take its place or lose its marks (I4, I5)."""
import os
import threading
import time

import moves
import raw_nbd
from moves import daemon
from state_folder import StateFolder

SIZE = 8 * moves.MIB
SLOW_WRITE = "1500ms"  # the guest's first write is under way while the disk is being taken up


def store(folder, image, delay):
    return daemon.nbdkit(folder, "--filter=delay", "file", image, f"delay-write={delay}", name="store")


class Rush:
    """A guest that writes and an operator who moves, as soon as the disk is there."""

    def __init__(self, server, target):
        self.server = server
        self.target = target
        self.guest = None
        self.answer = None
        self._threads = [threading.Thread(target=self._write), threading.Thread(target=self._move)]
        for thread in self._threads:
            thread.start()

    def _write(self):
        socket_path = os.path.join(self.server.state, "nbd.sock")
        deadline = time.monotonic() + daemon.START_SECONDS
        while self.guest is None and time.monotonic() < deadline:
            try:
                self.guest = raw_nbd.attached(socket_path, "vm1")
            except (OSError, EOFError):
                time.sleep(0.0005)
        self.guest.sendall(raw_nbd.request(raw_nbd.WRITE, 1, SIZE - 4096, 4096, b"\1" * 4096))
        assert raw_nbd.reply(self.guest)[0] == 0

    def _move(self):
        while self.answer is None or self.answer[0] == 404:
            self.answer = self.server.migrate("vm1", "file://" + self.target)

    def end(self):
        for thread in self._threads:
            thread.join()


daemon.need("nbdkit")
with daemon.scratch() as here, StateFolder(os.path.join(here, "state")) as lives:
    source = daemon.make_image(os.path.join(here, "source.img"), SIZE)
    place = os.path.join(here, "target.img")
    lives.start()
    with store(here, source, 0) as remote:
        assert lives.serve("other", "file://" + daemon.make_image(os.path.join(here, "other.img"), moves.MIB))[0] == 200
        assert lives.serve("vm1", remote.uri)[0] == 200
        job = lives.migrate("vm1", "file://" + place, bwlimit_bytes_per_second=200_000, checkpoint_interval_ms=100,
                            on_restart="resume")[1]["id"]
        daemon.until(lambda: lives.request("GET", "/v1/jobs/" + job)[1]["checkpoints"] > 2, "a record")
        lives.kill()
        remote.kill()
    os.unlink(remote.socket_path)
    lives.start()  # the store is away, so the disk is not served
    with store(here, source, SLOW_WRITE) as remote:
        rush = Rush(lives, os.path.join(here, "second.img"))
        assert lives.serve("vm1", remote.uri)[0] == 200
        rush.end()
        assert rush.answer[0] != 200, ("a second move beside the one that is taken up", rush.answer)
        for number, offset in enumerate((0, moves.MIB, 2 * moves.MIB)):
            rush.guest.sendall(raw_nbd.request(raw_nbd.WRITE, 2 + number, offset, 4096, b"\xee" * 4096))
            assert raw_nbd.reply(rush.guest)[0] == 0
        lives.ok("set", "vm1", "bwlimit=none")
        daemon.until(lambda: lives.request("GET", "/v1/jobs/" + job)[1]["state"] not in ("running", "paused"),
                     "the move to end", seconds=60)
        ended = lives.request("GET", "/v1/jobs/" + job)[1]
        assert ended["state"] == "done" and ended["resumed"], ended
        lives.stop()
        assert daemon.same(source, place)
