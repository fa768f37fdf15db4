# SPDX-License-Identifier: Apache-2.0
"""fio writes at random over two connections and verifies every block by checksum."""
import daemon
import served

daemon.need("fio")
if "nbd" not in daemon.run("fio", "--enghelp").stdout:
    daemon.skip("this fio has no NBD engine")
SIZE = 32 << 20
with served.served_disk(size_bytes=SIZE) as (_, server, _):
    for name, extra in (("random", ["--rw=randwrite", "--bs=4k"]),
                        ("mixed", ["--rw=randwrite", "--bsrange=512-128k", "--blockalign=512"])):
        daemon.ok("fio", f"--name={name}", "--ioengine=nbd", f"--uri={server.uri}", "--iodepth=16",
                  f"--size={SIZE // 2}", "--numjobs=2", f"--offset_increment={SIZE // 2}",
                  "--verify=crc32c", "--verify_state_save=0", "--do_verify=1", "--verify_fatal=1",
                  "--randseed=11", "--group_reporting", *extra, timeout=150)
