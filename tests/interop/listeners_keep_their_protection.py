# SPDX-License-Identifier: Apache-2.0
"""Who leaves the TLS options, rules or users out at the next start does not open the disks to strangers by it.

With --replace everything stays as it is; with --fd-store, and at a plain start, what was protected is not listened on.
"""
import os
import signal
import socket
import stat

import daemon
import systemd_store
import tls_credentials
from successor import control, ready, refused, start

PLAIN = b"\x00\x00\x00\x03" + b"IHAVEOPT" + b"\x00\x00\x00\x03" + b"\x00" * 4


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def state_of(address):
    """What LIST without TLS gets: "closed" (nobody listens), "TLS" (it is demanded) or "open"."""
    unix = isinstance(address, str)
    with socket.socket(socket.AF_UNIX if unix else socket.AF_INET) as s:
        s.settimeout(10)
        try:
            s.connect(address)
        except OSError:
            return "closed"
        s.recv(18, socket.MSG_WAITALL)
        s.sendall(PLAIN)
        reply = s.recv(20, socket.MSG_WAITALL)
        return "TLS" if reply[12:16] == b"\x80\x00\x00\x05" else "open"


def replaced(folder, keys, image):
    for host in ("127.0.0.1", "0.0.0.0"):
        place = os.path.join(folder, host)
        os.mkdir(place)
        port = free_port()
        where = f"tcp:{host}:{port}"
        old = start(place, "old", "--listen", where, "--disk", f"a={image}", *keys)
        try:
            assert ready(old), old.log()
            said = refused(place, "careless")
            assert where in said and "--tls" in said, said
            assert old.alive() and state_of(("127.0.0.1", port)) == "TLS", "nothing was given up"
            new = start(place, "new", "--replace", *keys)
            try:
                assert ready(new), new.log()
                assert state_of(("127.0.0.1", port)) == "TLS"
            finally:
                new.stop()
        finally:
            old.stop()


def stored(folder, keys, image):
    port = free_port()
    manager = systemd_store.DescriptorStore(os.path.join(folder, "notify"))
    plain = os.path.join(folder, "nbd.sock")
    first = manager.start(folder, "d0", "--disk", f"a={image}", "--listen", f"tcp:0.0.0.0:{port}", *keys)
    second = None
    try:
        daemon.until(lambda: manager.take().ready == 1 or not first.alive(), "READY=1")
        first.process.send_signal(signal.SIGTERM)
        assert first.process.wait(30) == 0, first.log()
        assert manager.take().stored
        second = manager.start(folder, "d1", "--listen", f"unix:{plain}")
        daemon.until(lambda: manager.take().ready == 2 or not second.alive(), "READY=1")
        assert second.alive(), second.log()
        assert state_of(("127.0.0.1", port)) == "closed", "it was taken over without its TLS"
        assert f"tcp:0.0.0.0:{port}" in second.log(), second.log()
        assert state_of(plain) == "open", "what was asked for is there"
    finally:
        first.stop()
        if second:
            second.stop()


def restarted(folder, keys, image):
    """After a plain end and after a kill."""
    port = free_port()
    where = f"tcp:127.0.0.1:{port}"
    server = start(folder, "d0", "--listen", where, "--disk", f"a={image}", *keys)
    try:
        assert ready(server), server.log()
        server.kill()
        for name in ("d1", "d2"):
            server = start(folder, name)
            assert ready(server), server.log()
            assert state_of(("127.0.0.1", port)) == "closed", "it came back without its TLS"
            assert "was listened on with --tls require" in server.log() and where in server.log(), server.log()
            server.stop()
        server = start(folder, "same", *keys)
        assert ready(server) and state_of(("127.0.0.1", port)) == "TLS", server.log()
        server.stop()
        server = start(folder, "wished", "--listen", where)
        assert ready(server) and state_of(("127.0.0.1", port)) == "open", server.log()
        assert "was listened on with" not in server.log(), "it was told to"
    finally:
        server.stop()


def restarted_for_users(folder, image):
    path = os.path.join(folder, "nbd.sock")
    server = start(folder, "d0", "--listen", f"unix:{path}", "--disk", f"a={image}", "--socket-mode", "0606",
                   "--allow-uid", str(os.getuid()), "--allow", f"uid:{os.getuid()} -> a")
    try:
        assert ready(server), server.log()
        server.stop()
        server = start(folder, "d1")
        assert ready(server) and state_of(path) == "closed", server.log()
        for option in ("--allow-uid", "--allow,"):
            assert option in server.log(), server.log()
        server.stop()
        for name in ("d2", "d3"):
            server = start(folder, name, "--allow-uid", str(os.getuid()), "--allow", f"uid:{os.getuid()} -> a")
            assert ready(server) and state_of(path) == "open", server.log()
            assert stat.S_IMODE(os.stat(path).st_mode) == 0o606, "the mode comes back with the socket"
            server.stop()
        server = start(folder, "d4", "--allow-uid", str(os.getuid()), "--allow", f"uid:{os.getuid()} -> a")
        assert ready(server), server.log()
        control(folder, "detach", "a")
    finally:
        server.stop()


with daemon.scratch() as top:
    psk = ("--tls", "require", "--tls-psk", tls_credentials.keys(top, "alice"))
    for number, case in enumerate((replaced, stored, restarted)):
        one = os.path.join(top, str(number))
        os.mkdir(one)
        case(one, psk, daemon.make_image(os.path.join(one, "a.img"), 1 << 20))
    last = os.path.join(top, "last")
    os.mkdir(last)
    restarted_for_users(last, daemon.make_image(os.path.join(last, "a.img"), 1 << 20))
