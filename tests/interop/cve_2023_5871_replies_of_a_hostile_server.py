# SPDX-License-Identifier: Apache-2.0
"""CVE-2023-5871 (libnbd): replies that a server must not send reached an assertion of the client. Here: block
status and reads of every wrong form, from the source of a copy. The copy fails, or does without the status, and
the copy's data is never wrong."""
import os
import subprocess

import daemon
import hostile_server
import wire


def lies(cls, kind, payload):
    """A server whose answers to READ or BLOCK_STATUS carry this payload, made from (offset, length)."""
    def reply(self, cookie, offset, length):  # pylint: disable=unused-argument
        return wire.chunk(kind, cookie, payload(offset, length))
    method = "read_reply" if kind in (wire.OFFSET_DATA, wire.OFFSET_HOLE) else "status_reply"
    return type("Lying", (cls,), {method: reply})


BASE = hostile_server.HostileServer
STATUS = {
    "no extents": lambda at, n: wire.be32(1),
    "half an extent": lambda at, n: wire.be32(1) + b"\0\0\0\1",
    "extent of nothing": lambda at, n: wire.status_payload(1, (0, 0)),
    "extents of nothing": lambda at, n: wire.status_payload(1, *[(0, 3)] * 8),
    "sum beyond 32 bits": lambda at, n: wire.status_payload(1, *[(2**32 - 1, 0)] * 4),
    "unknown context": lambda at, n: wire.status_payload(99, (n, 3)),
    "empty": lambda at, n: b"",
    "more extents than we take at once": lambda at, n: wire.status_payload(1, *[(32, i & 1)
                                                                               for i in range(1 << 15)]),
}
READS = {
    "before the request": lambda at, n: wire.be64(max(at - 4096, 0) if at else 2**64 - 4096) + bytes(n),
    "beyond the request": lambda at, n: wire.be64(at) + bytes(n + 4096),
    "offset wraps": lambda at, n: wire.be64(2**64 - 1) + bytes(n),
    "too little": lambda at, n: wire.be64(at) + bytes(max(n // 2, 1)),
    "no offset": lambda at, n: b"\0\0\0",
}
CASES = [(name, lies(BASE, wire.STATUS, payload), True) for name, payload in STATUS.items()]
CASES += [(name, lies(BASE, wire.OFFSET_DATA, payload), False) for name, payload in READS.items()]
CASES.append(("hole beyond the request", lies(BASE, wire.OFFSET_HOLE, lambda at, n: wire.be64(at) +
                                              wire.be32(2**32 - 1)), False))


def copy(folder, hostile, target):
    """(exit code, what it said) of a copy; it must come to an end by itself."""
    process = daemon.Process([daemon.built("blockmig"), "migrate", hostile.uri, "--to", target, "--state-dir",
                              os.path.join(folder, "state")], os.path.join(folder, "copy.log"))
    with process:
        try:
            return process.process.wait(60), process.log()
        except subprocess.TimeoutExpired as error:
            raise AssertionError("the copy hangs:\n" + process.log()[-2000:]) from error


def main():
    for name, kind, may_succeed in CASES:
        with daemon.scratch() as folder, kind(folder) as hostile:
            target = os.path.join(folder, "target.img")
            code, said = copy(folder, hostile, target)
            assert code >= 0, f"{name}: killed by signal {-code}\n{said[-2000:]}"
            assert code == 0 or said.strip(), f"{name}: failed without a reason"
            if code == 0:
                assert may_succeed, f"{name}: success"
                with open(target, "rb") as f:
                    assert f.read() == bytes(BASE.size), f"{name}: wrong data"
            print(f"{name}: exit {code}")


if __name__ == "__main__":
    main()
