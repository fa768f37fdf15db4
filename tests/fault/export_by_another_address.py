# SPDX-License-Identifier: Apache-2.0
"""An NBD export of a blockmig is one store by all its addresses: a unix socket and TCP, a forwarded socket, through
another blockmig, after its server's restart or its disk's move. Never a target, or a second disk, beside itself."""
import contextlib
import os
import socket
import threading

import moves
import raw_nbd
from moves import daemon
from state_folder import StateFolder

SIZE = 4 * moves.MIB
BUSY, PRECONDITION = 5, 9


class Server(StateFolder):
    """A daemon with two addresses, and disks on images of their own."""

    def __init__(self, folder, name):
        super().__init__(os.path.join(folder, name))
        self.path = os.path.join(folder, name + ".sock")

    def start(self):  # pylint: disable=arguments-differ
        return super().start("--listen", "unix:" + self.path, "--listen", "tcp:127.0.0.1:0")

    def add(self, disk):
        """The disk's image."""
        image = daemon.make_image(f"{self.state}-{disk}.img", SIZE, seed=len(os.listdir(os.path.dirname(self.state))))
        self.take(disk, "file://" + image)
        return image

    def take(self, disk, source):
        code, body = self.serve(disk, source)
        assert code == 200, body

    def unix(self, disk):
        return f"nbd+unix:///{disk}?socket={self.path}"

    def tcp(self, disk):
        listening = self.request("GET", "/v1/status")[1]["daemon"]["listen"]
        address = next(each for each in listening if each.startswith("tcp:"))
        return f"nbd://{address.removeprefix('tcp:')}/{disk}"

    def refuses_move(self, disk, target, code, *names, modes=("dbt", "postcopy")):
        for mode in modes:
            refused(self.cli("migrate", disk, "--to", target, "--mode", mode), code, target, "by another address",
                    *names)

    def refuses_disk(self, source, *names):
        refused(self.cli("serve", "second", "--source", source), BUSY, source, *names)


def refused(result, code, *names):
    assert result.returncode == code, (result.returncode, result.stdout + result.stderr)
    for name in names:
        assert name in result.stderr, (name, result.stderr)


@contextlib.contextmanager
def forwarded(path, to):
    """Another unix socket of that server."""
    def pump(source, sink):
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def accept():
        with contextlib.suppress(OSError):
            while True:
                client, server = listener.accept()[0], raw_nbd.connect(to, timeout=None)
                for ends in ((client, server), (server, client)):
                    threading.Thread(target=pump, args=ends, daemon=True).start()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield path
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def content(*images):
    found = []
    for image in images:
        with open(image, "rb") as f:
            found.append(f.read())
    return found


def own_export(here, folder):
    """A disk's own export, by a socket that its daemon knows nothing of."""
    images = here.add("own"), here.add("other")
    before = content(*images)
    with forwarded(os.path.join(folder, "way"), here.path) as way:
        target = f"nbd+unix:///own?socket={way}"
        here.refuses_move("own", target, PRECONDITION, images[0], modes=("dbt", "mirror", "cold", "snapshot"))
        here.refuses_move("other", target, BUSY, "'own'", images[0])
        here.refuses_disk(target, "'own'")
    assert content(*images) == before


def store_of_a_disk(here, there):
    """What a disk lives on, by the other address of its server; also when that has been restarted."""
    images = there.add("store"), here.add("mover")
    before = content(*images)
    here.take("remote", there.unix("store"))
    for again in (False, True):
        if again:
            there.end()
            there.start()
        target = there.tcp("store")
        here.refuses_move("remote", target, PRECONDITION, there.unix("store"))
        here.refuses_move("mover", target, BUSY, "'remote'", there.unix("store"))
        here.refuses_disk(target, "'remote'")
    here.ok("detach", "remote")
    here.refuses_move("mover", there.tcp("store"), PRECONDITION, "'remote'", there.unix("store"))
    assert content(*images) == before
    here.ok("detach", "remote", "--forget")
    here.ok("migrate", "mover", "--to", there.tcp("store"))
    assert content(images[0]) == before[1:], "once nobody else has it, it is a target like any other"


def through_another(here, there):
    """A disk of another daemon that lives on our export is our disk."""
    image = here.add("base")
    before = content(image)
    there.take("layer", here.unix("base"))
    for target in (there.unix("layer"), there.tcp("layer")):
        here.refuses_move("base", target, PRECONDITION, image)
        here.refuses_disk(target, "'base'")
    refused(there.cli("migrate", "layer", "--to", here.tcp("base")), PRECONDITION, here.unix("base"))
    assert content(image) == before


def store_has_moved_on(here, there, further):
    """The disk below a disk's store has moved, unseen by the one above, and then back."""
    image = further.add("last")
    there.add("middle")
    here.take("top", there.unix("middle"))
    there.ok("migrate", "middle", "--to", further.unix("last"))
    before = content(image)
    here.refuses_move("top", further.tcp("last"), PRECONDITION, there.unix("middle"))
    assert content(image) == before
    there.ok("migrate", "middle", "--to", os.path.join(os.path.dirname(here.state), "back.img"))
    here.ok("migrate", "top", "--to", further.tcp("last"))


def two_moves_at_once(here, there):
    """To one export, by its two addresses: one of them gets it."""
    target = there.add("wanted")
    images = [here.add(disk) for disk in ("first", "second")]
    answers = [here.migrate("first", there.unix("wanted")), here.migrate("second", there.tcp("wanted"))]
    jobs = [body["id"] for code, body in answers if code == 200]
    assert len(jobs) == 2, answers

    def ended():
        states = [here.request("GET", f"/v1/jobs/{job}")[1]["state"] for job in jobs]
        return states if set(states) <= {"done", "failed", "aborted"} else None
    states = daemon.until(ended, "both to end")
    assert sorted(states) == ["done", "failed"], states
    assert content(target) == content(images[states.index("done")])


def main():
    with daemon.scratch() as folder, Server(folder, "d") as here, Server(folder, "e") as there, \
            Server(folder, "f") as further:
        for server in (here, there, further):
            server.start()
        own_export(here, folder)
        store_of_a_disk(here, there)
        through_another(here, there)
        store_has_moved_on(here, there, further)
        two_moves_at_once(here, there)
        for server in (here, there, further):
            server.stop()


main()
