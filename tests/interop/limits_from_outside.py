# SPDX-License-Identifier: Apache-2.0
"""Every limit of a negotiation and of connections, small enough to be reached from outside."""
import os
import time

import daemon
import raw_nbd
from raw_nbd import OPT_ABORT, OPT_EXPORT_NAME, OPT_GO, OPT_LIST, REP_ACK, REP_ERR_TOO_BIG

LIMITS = {"connections": 6, "connections-per-peer": 4, "handshake-time": "1s", "handshake-bytes": "2KiB",
          "skipped-bytes": "10KiB", "options": 5, "option-bytes": 300, "name-bytes": 100, "exports-listed": 1,
          "request-bytes": "128KiB", "advertised-bytes": "64KiB"}


def options(limits):
    return [part for name, value in limits.items() for part in ("--limit", f"{name}={value}")]


with daemon.scratch() as folder:
    image = daemon.make_image(os.path.join(folder, "a.img"), 1 << 20, holes=False)
    printed = daemon.ok(daemon.built("blockmigd"), "--limits", *options(LIMITS))
    for name in LIMITS:
        assert name in printed, printed
    with daemon.Daemon(folder, image, extra=options(LIMITS), listen="tcp:127.0.0.1:0") as server:
        path = server.socket_path
        port = int([u for u in server.get("/v1/disks")["disks"][0]["uris"] if "127.0.0.1" in u][0]
                   .split(":")[2].split("/")[0])

        def nobody_left():
            daemon.until(lambda: not server.get("/v1/clients")["clients"], "the clients to be gone")

        # Connections: of one peer, and in all.
        nobody_left()
        mine = [raw_nbd.attached(path) for _ in range(4)]
        with raw_nbd.connect(path) as fifth:
            assert raw_nbd.is_closed(fifth), "a fifth one of this user"
        others = [raw_nbd.attached(("127.0.0.1", port)) for _ in range(2)]
        with raw_nbd.connect(("127.0.0.1", port)) as seventh:
            assert raw_nbd.is_closed(seventh), "a seventh one in all"
        assert all(raw_nbd.works(s) for s in mine + others)
        for reason in ("it has too many connections", "there are too many connections"):
            daemon.until(lambda r=reason: r in server.log(), reason)
        for s in mine + others:
            s.close()
        nobody_left()
        with raw_nbd.attached(path) as s:
            assert raw_nbd.works(s), "the places are free again"

        # The time of the negotiation, for whoever says nothing and for a byte now and then (I16).
        begun = time.monotonic()  # before the server's clock begins to count
        with raw_nbd.connect(path) as silent, raw_nbd.greeted(path) as dripping:
            try:
                for byte in raw_nbd.option(OPT_EXPORT_NAME, b"x" * 64):
                    dripping.sendall(bytes([byte]))
                    time.sleep(0.1)
                raise AssertionError("a whole negotiation at ten bytes a second")
            except (BrokenPipeError, ConnectionResetError):
                assert time.monotonic() - begun >= 0.9, "cut before its time was over"
            raw_nbd.receive(silent, 18)
            assert raw_nbd.is_closed(silent)

        # How many options, how many bytes.
        with raw_nbd.greeted(path) as s:
            s.sendall(raw_nbd.option(99) * 6)
            for _ in range(5):
                assert raw_nbd.option_reply(s)[1] != REP_ERR_TOO_BIG
            assert raw_nbd.option_reply(s)[1] == REP_ERR_TOO_BIG, "a sixth option"
            assert raw_nbd.is_closed(s)
        with raw_nbd.greeted(path) as s:
            s.sendall(raw_nbd.option(OPT_GO, raw_nbd.info("x" * 300)))
            assert raw_nbd.option_reply(s)[1] == REP_ERR_TOO_BIG, "longer than option-bytes"
            s.sendall(raw_nbd.option(OPT_GO, raw_nbd.info("x" * 101)))
            assert raw_nbd.option_reply(s)[1] == REP_ERR_TOO_BIG, "longer than name-bytes"
            s.sendall(raw_nbd.option(OPT_ABORT))
            assert raw_nbd.option_reply(s)[1] == REP_ACK, "it is still in step"
        with raw_nbd.greeted(path) as s:
            s.sendall(raw_nbd.option(OPT_EXPORT_NAME, b"x" * 101))
            assert raw_nbd.is_closed(s), "that option has no error reply"

        # What is thrown away is bounded by itself: the header alone tells that it is too much.
        with raw_nbd.greeted(path) as s:
            for _ in range(2):
                s.sendall(raw_nbd.option(99, bytes(5120)))
                assert raw_nbd.option_reply(s)[1] not in (REP_ACK, REP_ERR_TOO_BIG)
            s.sendall(raw_nbd.option(99, bytes(1))[:-1])
            assert raw_nbd.option_reply(s)[1] == REP_ERR_TOO_BIG, "more than skipped-bytes"
            assert raw_nbd.is_closed(s)

        # LIST of more than one.
        with raw_nbd.greeted(path) as s:
            s.sendall(raw_nbd.option(OPT_LIST))
            assert raw_nbd.option_reply(s)[1] == raw_nbd.REP_SERVER
        second = daemon.make_image(os.path.join(folder, "b.img"), 1 << 20)
        assert server.cli("serve", "second", "--source", second).returncode == 0
        with raw_nbd.greeted(path) as s:
            s.sendall(raw_nbd.option(OPT_LIST))
            assert raw_nbd.option_reply(s)[1] == REP_ERR_TOO_BIG

        # Requests: what is larger than request-bytes is refused, and the connection stays in step.
        with raw_nbd.attached(path) as s:
            s.sendall(raw_nbd.request(raw_nbd.WRITE, 1, 0, 65536, b"x" * 65536))
            assert raw_nbd.reply(s)[0] == 0
            s.sendall(raw_nbd.request(raw_nbd.READ, 2, 0, 65537) + raw_nbd.request(raw_nbd.READ, 3, 0, 512))
            assert raw_nbd.reply(s)[0] != 0
            assert raw_nbd.reply(s, 512)[0] == 0
            s.sendall(raw_nbd.request(raw_nbd.WRITE, 4, 0, 1 << 20, b"y" * (1 << 20)))
            s.sendall(raw_nbd.request(raw_nbd.READ, 5, 0, 512))
            assert raw_nbd.reply(s)[0] != 0, "not dropped: up to 32 MiB is never abuse"
            assert raw_nbd.reply(s, 512)[2] == b"x" * 512
    for wrong, words in (("connections=0", "out of range"), ("nothing=1", "there is no limit"),
                         ("handshake-time=5", "handshake-time"), ("advertised-bytes=1GiB", "request-bytes")):
        result = daemon.run(daemon.built("blockmigd"), "--state-dir", folder, "--limit", wrong)
        assert result.returncode == 2 and words in result.stderr, (wrong, result)
    handshake_bytes = options({"handshake-bytes": "2KiB", "options": 1000})
    with daemon.Daemon(folder, image, name="h", extra=handshake_bytes) as server:
        answered = 0
        with raw_nbd.greeted(server.socket_path) as s:
            try:
                for _ in range(40):
                    s.sendall(raw_nbd.option(OPT_GO, raw_nbd.info("no-such-export" * 4)))
                    if raw_nbd.option_reply(s)[1] == REP_ERR_TOO_BIG:
                        break
                    answered += 1
                assert raw_nbd.is_closed(s)
            except OSError as ended:
                raise AssertionError("closed without a word") from ended
        size = len(raw_nbd.option(OPT_GO, raw_nbd.info("no-such-export" * 4)))
        assert answered == (2048 - 4) // size, (answered, size)
