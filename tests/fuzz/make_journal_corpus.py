#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the first inputs of the fuzz target journal_records: a payload of each kind, and corner cases."""
import os
import struct

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "corpus", "journal_records")


def number(*values):
    return struct.pack(f"<{len(values)}Q", *values)


def text(*values):
    return b"".join(number(len(value)) + value for value in values)


def write(name, key, rest, flags=1):
    os.makedirs(FOLDER, exist_ok=True)
    with open(os.path.join(FOLDER, name), "wb") as out:
        out.write(struct.pack("<BH", flags, len(key)) + key + rest)


def region(disk, name, index):
    return b"region/%d:%s/%d:%s/%08x" % (len(disk), disk, len(name), name, index)


write("disk", b"disk/vm1", text(b"vm1", b"file:///a") + number(7, 1 << 30) + text(b"file:///b"))
write("disk_hydrating", b"disk/vm1", text(b"vm1", b"file:///a") + number(7, 1 << 30) + text(b"", b"absent.job-1.2"))
write("job", b"job/job-1", text(b"job-1", b"vm1", b"dbt", b"file:///b", b"running") + number(2) +
      text(b"{}", b"{}", b"resume"), 3)
write("job_of_schema_1", b"job/job-1", text(b"job-1", b"vm1", b"dbt", b"file:///b", b"done") + number(2) + text(b"{}"))
write("job_with_phase", b"job/job-1", text(b"job-1", b"vm1", b"auto", b"file:///b", b"running") + number(2) +
      text(b"{}", b"{}", b"resume", b"mirroring"), 5)
write("hydration", b"hydration/vm1", text(b"vm1") + number(2) + text(b"file:///a") + number(65536, 1) +
      text(b"absent", b"job-1") + number(0, 30000, 1))
write("hydration_at_rest", b"hydration/vm1", text(b"vm1") + number(2) + text(b"file:///a") + number(65536, 1) +
      text(b"absent", b"job-1") + number(0, 30000, 1, 9, 2))
write("bitmap", b"set/3:vm1/bitmap/daily", text(b"vm1", b"bitmap/daily", b"bitmap") + number(1 << 30, 65536, 0, 1) +
      text(b""))
write("bitmap_distrusted", b"set/3:vm1/bitmap/daily", text(b"vm1", b"bitmap/daily", b"bitmap-distrusted") +
      number(1 << 30, 65536, 0, 1) + text(b"the journal failed"))
write("active", b"set/3:vm1/bitmaps/active", text(b"vm1", b"bitmaps/active", b"active") +
      number(1 << 30, 4 << 20, 0, 0) + text(b""))
write("closed", b"note/bitmaps-closed/vm1", text(b"bitmaps-closed", b"vm1", b"size 1 changed 2.3"))
write("region", region(b"vm1", b"bitmap/daily", 3), text(b"vm1", b"bitmap/daily") + number(3) + text(b"\x01\x80\xff"))
write("region_full", region(b"vm1", b"b", 0xffffffff), text(b"vm1", b"b") + number(0xffffffff) + text(b"\xff" * 4096))
write("region_too_long", region(b"vm1", b"b", 0), text(b"vm1", b"b") + number(0) + text(b"\xff" * 4097))
write("region_under_anothers_key", region(b"vm1", b"b", 1), text(b"vm1", b"b") + number(2) + text(b"\x01"))
DIGEST_KEY = b"digest/3:vm1/9:job/job-1/00000002"
write("digests", DIGEST_KEY, text(b"vm1", b"job/job-1") + number(2) + text(b"\x01", b"\x06") + bytes(range(32)))
write("digests_full", DIGEST_KEY, text(b"vm1", b"job/job-1") + number(2) + text(b"", b"\xff" * 32) + b"\x07" * 4096)
write("digests_too_few", DIGEST_KEY, text(b"vm1", b"job/job-1") + number(2) + text(b"", b"\x03") + b"\x07" * 16)
write("digests_of_zeros", DIGEST_KEY, text(b"vm1", b"job/job-1") + number(2) + text(b"\x01", b"\x01") + b"\x07" * 16)
write("no_name", b"disk/", text(b"", b"") + number(1, 1) + text(b""))
write("length_beyond_the_end", b"disk/vm1", number(1 << 63) + b"vm1")
write("granularity_zero", b"set/3:vm1/x", text(b"vm1", b"x", b"job") + number(1, 0, 0, 0) + text(b""))
write("unframed", b"disk/vm1", b"D\x01\x00\x00" + struct.pack("<I", 3) + b"abc" + b"\0" * 4, 0)
write("schema", b"schema", number(4))
