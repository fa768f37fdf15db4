# SPDX-License-Identifier: Apache-2.0
"""Other servers' exports as our stores: a disk moves to each and back from it while it is served, and is the same
to the bit. qemu-nbd, nbdkit, nbd-server."""
import contextlib
import os
import shutil
import signal
import socket

import daemon

SIZE = (8 << 20) + 4096  # nbd-server rounds a size down to whole blocks


@contextlib.contextmanager
def qemu_nbd(folder, image):
    with daemon.qemu_nbd(folder, image) as server:
        yield server.uri


@contextlib.contextmanager
def nbdkit(folder, image):
    with daemon.nbdkit(folder, "file", image) as server:
        yield server.uri


@contextlib.contextmanager
def nbd_server(folder, image):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config, pid_file = os.path.join(folder, "ns.conf"), os.path.join(folder, "ns.pid")
    path = os.path.join(folder, "ns.sock")
    with open(config, "w", encoding="ascii") as f:
        f.write(f"[generic]\nunixsock = {path}\nlistenaddr = 127.0.0.1\nport = {port}\n"
                f"[{daemon.EXPORT}]\nexportname = {image}\nflush = true\nfua = true\ntrim = true\n")
    daemon.ok("nbd-server", "-C", config, "-p", pid_file)  # goes to the background by itself
    try:
        daemon.until(lambda: daemon.greets(path), "nbd-server's greeting")
        yield f"nbd+unix:///{daemon.EXPORT}?socket={path}"
    finally:
        with contextlib.suppress(OSError, ValueError), open(pid_file, encoding="ascii") as f:
            os.kill(int(f.read()), signal.SIGTERM)


SERVERS = {"qemu-nbd": qemu_nbd, "nbdkit": nbdkit, "nbd-server": nbd_server}


def there_and_back(serving):
    with daemon.scratch() as folder:
        image = daemon.make_image(os.path.join(folder, "disk.img"), SIZE)
        original = os.path.join(folder, "original.img")
        shutil.copy(image, original)
        store = os.path.join(folder, "store.img")
        with open(store, "wb") as f:
            f.write(b"\xa5" * SIZE)  # it may hold something else (trap 9)
        home = os.path.join(folder, "home.img")
        with serving(folder, store) as uri, daemon.Daemon(folder, image) as server:
            assert server.migrate(uri, "mirror", "--verify", "full")["state"] == "done"
            daemon.ok("qemu-io", "-f", "raw", "-c", "write -P 0x5c 65536 20000", server.uri)
            assert server.migrate(home, "dbt", "--verify", "full")["state"] == "done"
            daemon.ok("qemu-io", "-f", "raw", "-c", "read -P 0x5c 65536 20000", server.uri)
        with open(original, "r+b") as f:
            f.seek(65536)
            f.write(b"\x5c" * 20000)
        assert daemon.same(original, home), "the disk has come back changed"


def main():
    for name, serving in SERVERS.items():
        daemon.need(name)
        there_and_back(serving)
        print(name + ": there and back")


main()
