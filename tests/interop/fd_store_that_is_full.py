# SPDX-License-Identifier: Apache-2.0
"""A descriptor store that has not kept all that a daemon has left there: more connections than
FileDescriptorStoreMax=, or an end that was cut short. The next start serves again on the same addresses, goes on with
the clients that are whole, and cuts the others; nothing stays in the store, and nobody is taken for another."""
import os
import signal
import socket

import daemon
import raw_nbd
import systemd_store

CLIENTS = 6


class Host:
    """A daemon with a listener and six clients, whose manager keeps no more than what is said."""

    def __init__(self, folder, listen, place):
        self.folder = folder
        self.place = place
        self.manager = systemd_store.DescriptorStore(os.path.join(folder, "notify"))
        self.arguments = ("--disk", "vm1=" + daemon.make_image(os.path.join(folder, "a.img"), 1 << 20),
                          "--listen", listen)
        self.lives = 0
        self.server = None
        self.start()
        self.clients = [raw_nbd.attached(place, "vm1") for _ in range(CLIENTS)]

    def start(self):
        self.lives += 1
        self.server = self.manager.start(self.folder, f"d{self.lives}", *self.arguments)
        daemon.until(lambda: self.manager.take().ready == self.lives or not self.server.alive(), "READY=1")
        assert self.server.alive(), self.server.log()

    def end(self):
        self.server.process.send_signal(signal.SIGTERM)
        assert self.server.process.wait(60) == 0, self.server.log()
        self.manager.take()

    def lose(self, names):
        for name in names:
            os.close(self.manager.stored.pop(name))

    def goes_on_with(self, count):
        """And serves who comes, with nothing left in the store."""
        works = [alive(client) for client in self.clients]
        assert sum(works) == count, (works, self.server.log())
        assert raw_nbd.works(raw_nbd.attached(self.place, "vm1")), self.server.log()
        assert not self.manager.take().stored, self.manager.stored
        self.clients = [c for c, there in zip(self.clients, works) if there]

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.server.stop()
        for client in self.clients:
            client.close()


def alive(client):
    """False: it has heard of its end. One that hears nothing is a failure (a timeout)."""
    try:
        return raw_nbd.works(client)
    except (ConnectionError, EOFError, AssertionError) as error:
        assert not isinstance(error, TimeoutError)
        return False


def what_is_whole_goes_on(host):
    """systemd drops what comes when it is full: the last."""
    host.end()
    assert len(host.manager.stored) == CLIENTS + 2, host.manager.stored
    host.lose(list(host.manager.stored)[4:])
    host.start()
    assert "FileDescriptorStoreMax" in host.server.log(), host.server.log()
    host.goes_on_with(2)
    host.end()
    host.start()
    assert "FileDescriptorStoreMax" not in host.server.log(), host.server.log()
    host.goes_on_with(2)


def no_state(host):
    """As a daemon leaves it that stores the state last; or one that is lost."""
    host.end()
    host.lose(["blockmig.state"])
    host.start()
    assert "FileDescriptorStoreMax" in host.server.log(), host.server.log()
    host.goes_on_with(0)


def damaged_state(host):
    host.end()
    state = host.manager.stored["blockmig.state"]
    os.pwrite(state, b"no state", 0)
    host.start()
    host.goes_on_with(0)


def nothing_but_the_state(host):
    host.end()
    host.lose([name for name in host.manager.stored if name != "blockmig.state"])
    host.start()
    host.goes_on_with(0)


def another_socket_of_that_name(host):
    """Of an earlier life, say: it is not taken for the client whose place it has."""
    host.end()
    stored = host.manager.stored
    stored["blockmig.1"], stored["blockmig.2"] = stored["blockmig.2"], stored["blockmig.1"]
    host.start()
    host.goes_on_with(CLIENTS - 2)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


for story in (what_is_whole_goes_on, no_state, damaged_state, nothing_but_the_state, another_socket_of_that_name):
    for family in ("unix", "tcp"):
        with daemon.scratch() as scratch:
            path, port = os.path.join(scratch, "nbd.sock"), free_port()
            address = (f"unix:{path}", path) if family == "unix" else (f"tcp:127.0.0.1:{port}", ("127.0.0.1", port))
            with Host(scratch, *address) as a_host:
                story(a_host)
