# SPDX-License-Identifier: Apache-2.0
"""Requests to settle a disk that arrive at once, also with one to detach it: one job at most, and the daemon
goes on."""
import os
import socket

import daemon

SIZE = 4 << 20


def at_once(disk, *requests):
    """Sends all but the last byte of each, then all last bytes; the status codes."""
    sockets = []
    for request in requests:
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(30)
        s.connect(os.path.join(disk.state_dir, "control.sock"))
        s.sendall(f"{request} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r".encode())
        sockets.append(s)
    for s in sockets:
        s.sendall(b"\n")
    codes = []
    for s in sockets:
        answer = b""
        while part := s.recv(65536):
            answer += part
        s.close()
        codes.append(int(answer.split()[1]) if answer else 0)
    return codes


def main():
    settle = f"POST /v1/disks/{daemon.EXPORT}/settle"
    with daemon.scratch() as folder:
        for number in range(6):
            name = f"d{number}"
            image = daemon.make_image(os.path.join(folder, name + ".img"), SIZE, holes=False)
            local = os.path.join(folder, name + ".local")
            with daemon.Daemon(folder, image, name=name) as disk:
                disk.migrate(local, "shared", "--hydrate", "never")
                if number % 2 == 0:
                    codes = at_once(disk, *[settle] * 6)
                    assert 0 not in codes and sum(code < 300 for code in codes) >= 1, codes
                    daemon.until(lambda d=disk: all(j["state"] == "done" for j in d.get("/v1/jobs")["jobs"]),
                                 "the disk to be whole")
                    assert daemon.same(image, local)
                else:
                    codes = at_once(disk, settle, f"DELETE /v1/disks/{daemon.EXPORT}")
                    assert 0 not in codes, codes
                assert disk.alive() and disk.get("/v1/jobs") is not None


main()
