# SPDX-License-Identifier: Apache-2.0
"""`blockmig status -w` shows clients, rates and latencies while they change; JSON has every field."""
import json
import os
import signal
import subprocess

import daemon
import served

daemon.need("fio")
with served.served_disk(holes=False) as (folder, disk, image):
    load = daemon.Process(["fio", "--name=load", "--ioengine=nbd", f"--uri={disk.uri}", "--rw=randrw", "--bs=4k",
                           "--iodepth=4", "--time_based", "--runtime=60", "--rate_iops=200"],
                          os.path.join(folder, "fio.log"))
    with load:
        watch = subprocess.Popen([daemon.built("blockmig"), "status", "-w", "-o", "jsonl", "--state-dir",
                                  disk.state_dir], stdout=subprocess.PIPE, text=True)
        try:
            def look():
                return json.loads(watch.stdout.readline())

            seen = daemon.until(
                lambda: (lambda o: o if o["disks"][0]["rate"]["requests_per_second"] > 0 else None)(look()),
                "a rate")
            disk_now = seen["disks"][0]
            assert set(disk_now["rate"]) == {"requests_per_second", "read_bytes_per_second",
                                             "write_bytes_per_second", "p50_ms", "p99_ms", "max_ms"}
            assert 0 < disk_now["rate"]["p50_ms"] <= disk_now["rate"]["p99_ms"] <= disk_now["rate"]["max_ms"]
            assert {o["op"] for o in disk_now["ops"]} == {"read", "write", "flush", "trim", "zero",
                                                          "block_status", "cache"}
            client = [c for c in seen["clients"] if c["requests"] > 0][0]
            assert client["disk"] == "disk0" and client["connected_seconds"] > 0, client
            assert client["requests_by_op"]["read"] > 0 and client["requests_by_op"]["write"] > 0, client
            later = daemon.until(
                lambda: (lambda o: o if o["disks"][0]["requests"] > disk_now["requests"] else None)(look()),
                "progress")
            assert later["clients"][0]["requests"] > client["requests"]
        finally:
            watch.send_signal(signal.SIGINT)
            code = watch.wait(30)
            watch.stdout.close()
        assert code == 130, code

        table = daemon.ok(daemon.built("blockmig"), "status", "--state-dir", disk.state_dir)
        for word in ("REQUESTS/S", "P99", "IN FLIGHT", "PEER", "disk0"):
            assert word in table, table
        one = daemon.ok(daemon.built("blockmig"), "status", "disk0", "--state-dir", disk.state_dir)
        assert "requests/s" in one and "read " in one, one
