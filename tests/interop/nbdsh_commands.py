# SPDX-License-Identifier: Apache-2.0
"""Every command by nbdsh: read, write with FUA, zero, trim, cache, flush, block status, errors."""
import daemon
import served

SCRIPT = """
import errno

def fails(expected, call, *arguments):
    try:
        call(*arguments)
    except nbd.Error as e:
        assert e.errnum == expected, (call, e.errnum, expected)
    else:
        raise AssertionError(f"{call} {arguments} did not fail")

size = h.get_size()
h.set_strict_mode(0)
data = bytes(range(256)) * 4
h.pwrite(data, 4096 + 3, nbd.CMD_FLAG_FUA)
assert h.pread(len(data), 4096 + 3) == data
h.pwrite(b"tail", size - 4)
assert h.pread(4, size - 4) == b"tail"
h.zero(1000, 4200)
assert h.pread(1000, 4200) == bytes(1000)
assert h.pread(100, 4096 + 3) == data[:100]
h.zero(65536, 1 << 20, nbd.CMD_FLAG_NO_HOLE)
assert h.pread(65536, 1 << 20) == bytes(65536)
h.trim(65536, 2 << 20)
stable = h.pread(65536, 2 << 20)
assert h.pread(65536, 2 << 20) == stable
h.cache(65536, 0)
h.flush()
entries = []
h.block_status(size, 0, lambda name, offset, e, error: entries.append((name, list(e))))
assert entries and entries[0][0] == "base:allocation" and entries[0][1][0] > 0, entries
# beyond the end: reads and hints EINVAL, writes ENOSPC; nothing is written
fails(errno.EINVAL, h.pread, 8, size - 4)
fails(errno.ENOSPC, h.pwrite, b"12345678", size - 4)
fails(errno.EINVAL, h.trim, 8, size - 4)
fails(errno.ENOSPC, h.zero, 8, size - 4)
assert h.pread(4, size - 4) == b"tail"
assert h.pread(4, 4096 + 3) == data[:4], "the connection goes on after errors"
"""

with served.served_disk() as (_, server, _):
    daemon.nbdsh("--base-allocation", "-u", server.uri, "-c", SCRIPT)
