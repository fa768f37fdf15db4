# SPDX-License-Identifier: Apache-2.0
"""blockmigd --replace, again and again, under clients that check every sector: nobody notices.

Also what goes wrong on the way: a successor that dies, or that cannot start, leaves everything where it is.
"""
import array
import json
import os
import socket
import struct
import types

import daemon

SIZE = 32 << 20
ROUNDS = 4


def start(folder, name, *arguments):
    return daemon.Process([daemon.built("blockmigd"), "--state-dir", os.path.join(folder, "s"),
                           *arguments], os.path.join(folder, name + ".log"))


def ready(server):
    daemon.until(lambda: "blockmigd ready" in server.log() or not server.alive(), "the daemon")
    return "blockmigd ready" in server.log()


def control(folder, *arguments):
    return daemon.ok(daemon.built("blockmig"), *arguments, "--state-dir", os.path.join(folder, "s"))


def bitmap_of(folder):
    return json.loads(control(folder, "bitmap", "ls", daemon.EXPORT, "-o", "json"))["bitmaps"][0]


def successor_that_dies(folder, old):
    """Takes the handover, as far as it comes, and goes away without a word."""
    path = os.path.join(folder, "s", "handover.sock")
    with socket.socket(socket.AF_UNIX) as place:
        place.bind(path)
        place.listen(1)
        place.settimeout(20)
        with socket.socket(socket.AF_UNIX) as asking:
            asking.connect(os.path.join(folder, "s", "control.sock"))
            asking.sendall(b"POST /v1/handover HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
            assert b" 200 " in asking.recv(100)
        connection, _ = place.accept()
        with connection:
            connection.settimeout(20)
            head = connection.recv(24, socket.MSG_WAITALL)
            magic, length, kind, descriptors = struct.unpack("=QQII", head)
            assert magic == 0x424d48414e444f56 and kind == 1, head
            text = json.loads(connection.recv(length, socket.MSG_WAITALL))
            assert text["version"] == 1 and text["disks"], text
            _, ancillary, _, _ = connection.recvmsg(1, socket.CMSG_SPACE(4 * 253))
            passed = array.array("i")
            for _, _, data in ancillary:
                passed.frombytes(data[:len(data) - len(data) % passed.itemsize])
            assert len(passed) == descriptors, (len(passed), descriptors)
            for fd in passed:
                os.close(fd)
    os.unlink(path)
    daemon.until(lambda: "everything was taken back" in old.log(), "the old daemon to say so")


def main(folder):
    image = daemon.make_image(os.path.join(folder, "a.img"), SIZE)
    path = os.path.join(folder, "nbd.sock")
    first = start(folder, "d0", "--listen", f"unix:{path}")
    servers = [first]
    try:
        assert ready(first), first.log()
        control(folder, "serve", daemon.EXPORT, "--source", image, "--bitmap", "kept")
        place = types.SimpleNamespace(socket_path=path, export=daemon.EXPORT)
        with daemon.Client(folder, place, "--connections", "4") as client:
            for i in range(ROUNDS):
                client.clean_report()
                following = start(folder, f"d{i + 1}", "--replace")
                servers.append(following)
                assert ready(following), following.log()
                daemon.until(lambda: not servers[-2].alive(), "the old daemon's end")
                assert servers[-2].process.returncode == 0, servers[-2].log()
            print(f"replaced {ROUNDS} times: {client.clean_report()}")

            old = servers[-1]
            successor_that_dies(folder, old)
            client.clean_report()
            # Its own wishes come second: it goes on although one of its disks is not there.
            last = start(folder, "last", "--replace", "--disk",
                         "other=" + os.path.join(folder, "missing.img"))
            servers.append(last)
            assert ready(last), last.log()
            assert "missing.img" in last.log(), last.log()
            client.clean_report()
            client.hold()
            assert client.check_file(image) == 0
            before = bitmap_of(folder)
            assert before["dirty_bytes"] > 0, before
            following = start(folder, "idle", "--replace")
            servers.append(following)
            assert ready(following), following.log()
            assert bitmap_of(folder) == before, "what was written before is still dirty"
        assert os.path.exists(path)
        servers[-1].stop()
        assert not os.path.exists(path), "the last owner of the socket removes it"
        alone = start(folder, "alone", "--replace")
        servers.append(alone)
        assert ready(alone), alone.log()
        assert daemon.EXPORT in control(folder, "ls", "disks"), "it starts as usual where none runs"
    finally:
        for server in servers:
            server.stop()


with daemon.scratch() as scratch:
    main(scratch)
