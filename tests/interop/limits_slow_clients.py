# SPDX-License-Identifier: Apache-2.0
"""A client that reads or writes a byte at a time, one that vanishes without a word, and a flood of
connections: each harms itself only."""
import os
import socket
import struct

import daemon
import raw_nbd

FLOOD = 2000
with daemon.scratch() as folder:
    image = daemon.make_image(os.path.join(folder, "a.img"), 4 << 20, holes=False)
    with daemon.Daemon(folder, image, extra=("--limit", "handshake-time=2s"),
                       listen="tcp:127.0.0.1:0") as server:
        path = server.socket_path
        good = raw_nbd.attached(path)

        # A byte at a time, both ways: right to the bit.
        slow = raw_nbd.attached(path)
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        payload = bytes(range(256)) * 2
        for byte in raw_nbd.request(raw_nbd.WRITE, 1, 512, 512, payload):
            slow.sendall(bytes([byte]))
        assert raw_nbd.reply(slow)[0] == 0
        slow.sendall(raw_nbd.request(raw_nbd.READ, 2, 0, 1 << 20))
        answer = b""
        while len(answer) < 4096:
            answer += slow.recv(1)
            if len(answer) % 512 == 0:
                assert raw_nbd.works(good), "beside a slow reader"
        answer += raw_nbd.receive(slow, (1 << 20) + 16 - len(answer))
        with open(image, "rb") as f:
            expected = bytearray(f.read(1 << 20))
        expected[512:1024] = payload
        assert answer[16:] == bytes(expected)

        # Half open: the peer's machine is gone, no end ever comes. (Repair mode closes silently.)
        uri = [u for u in server.get("/v1/disks")["disks"][0]["uris"] if "127.0.0.1" in u][0]
        port = int(uri.split(":")[2].split("/")[0])
        gone = raw_nbd.connect(("127.0.0.1", port))
        raw_nbd.receive(gone, 18)
        closes_silently = True
        try:
            gone.setsockopt(socket.IPPROTO_TCP, 19, 1)  # TCP_REPAIR
        except PermissionError:
            closes_silently = False  # then it is just one that says nothing
        gone_name = "tcp:%s:%d" % gone.getsockname()
        if closes_silently:
            gone.close()
        assert any(c["peer"] == gone_name for c in server.get("/v1/clients")["clients"])
        assert raw_nbd.works(good)
        daemon.until(lambda: all(c["peer"] != gone_name for c in server.get("/v1/clients")["clients"]),
                     "the half-open connection to be given up")

        # A flood: connect and leave, connect and say rubbish.
        before = daemon.resident_bytes(server.pid)
        rubbish = struct.pack(">I", 3) + b"GET / HTTP/1.1\r\n\r\n"
        for i in range(FLOOD):
            s = raw_nbd.connect(path)
            if i % 2:
                s.sendall(rubbish)
            s.close()
            if i % 100 == 0:
                assert raw_nbd.works(good), f"in a flood, after {i}"
        daemon.until(lambda: len(server.get("/v1/clients")["clients"]) <= 2, "the flood to be over")
        daemon.until(lambda: daemon.resident_bytes(server.pid) - before < 16 << 20, "its memory to be free again")
        assert len(server.log()) < 400_000, "a flood of clients is no flood of log lines"
        assert raw_nbd.works(good)
