# SPDX-License-Identifier: Apache-2.0
"""A client whose host is gone is found by keepalive: each TCP connection of a client has it, as the limit
keepalive-time says."""
import ctypes
import os
import re
import socket

import daemon
import raw_nbd
import served

PIDFD_OPEN, PIDFD_GETFD = 434, 438  # Linux 5.6
libc = ctypes.CDLL(None, use_errno=True)


def sockets_of(pid):
    """Duplicates of the TCP sockets that the process has connected."""
    handle = libc.syscall(PIDFD_OPEN, pid, 0)
    if handle < 0:
        daemon.skip(f"pidfd_open: {os.strerror(ctypes.get_errno())}")
    try:
        for name in os.listdir(f"/proc/{pid}/fd"):
            fd = libc.syscall(PIDFD_GETFD, handle, int(name), 0)
            if fd < 0:
                continue  # closed meanwhile, or not for us: then there are too few in the end
            try:
                s = socket.socket(fileno=fd)
            except OSError:
                os.close(fd)
                continue
            with s:
                try:
                    s.getpeername()
                except OSError:
                    continue
                if s.family in (socket.AF_INET, socket.AF_INET6):
                    yield s
    finally:
        os.close(handle)


def keepalive(pid):
    """(on, silence, between, how often) of each."""
    tcp = socket.IPPROTO_TCP
    return [(s.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE), s.getsockopt(tcp, socket.TCP_KEEPIDLE),
             s.getsockopt(tcp, socket.TCP_KEEPINTVL), s.getsockopt(tcp, socket.TCP_KEEPCNT))
            for s in sockets_of(pid)]


for extra, expected in (((), (1, 30, 10, 3)), (("--limit", "keepalive-time=12s"), (1, 12, 4, 3))):
    with served.served_disk(listen="tcp:127.0.0.1:0", extra=extra) as (_, server, _):
        port = int(re.search(r"nbd://127\.0\.0\.1:(\d+)/", server.log()).group(1))
        with raw_nbd.attached(("127.0.0.1", port)) as first, raw_nbd.greeted(("127.0.0.1", port)) as second:
            second.sendall(raw_nbd.option(raw_nbd.OPT_LIST))
            assert raw_nbd.option_reply(second)[1] == raw_nbd.REP_SERVER and raw_nbd.works(first)
            found = keepalive(server.pid)
            if not found:
                daemon.skip("the daemon's sockets cannot be looked at (pidfd_getfd)")
            assert found == [expected] * 2, found

for wrong in ("keepalive-time=10ms", "keepalive-time=10h", "keepalive-time=0"):
    result = daemon.run(daemon.built("blockmigd"), "--limits", "--limit", wrong)
    assert result.returncode == 2 and "keepalive-time" in result.stderr, (wrong, result)
