# SPDX-License-Identifier: Apache-2.0
"""The metrics are what clients have done, on the control socket and on a TCP port alike; promtool finds no
fault with the page, idle, used and during a move."""
import http.client
import os
import re

import daemon
import metrics
import served

WORK = """
h.pwrite(bytes(4096), 0)
h.pwrite(b"x" * 512, 4096)
h.pread(65536, 0)
h.flush()
h.zero(8192, 16384)
try:
    h.set_strict_mode(0)
    h.pread(512, h.get_size())
except nbd.Error:
    pass
"""
# What the design promises by name; the rest may change.
PROMISED = {
    "blockmig_nbd_requests_total": "counter",
    "blockmig_nbd_errors_total": "counter",
    "blockmig_nbd_bytes_total": "counter",
    "blockmig_nbd_request_duration_seconds": "histogram",
    "blockmig_nbd_in_flight_requests": "gauge",
    "blockmig_nbd_clients": "gauge",
    "blockmig_disk_dirty_chunks": "gauge",
    "blockmig_disk_dirty_rate_bytes_per_second": "gauge",
    "blockmig_migration_phase": "gauge",
    "blockmig_migration_copied_bytes_total": "counter",
    "blockmig_migration_wire_bytes_total": "counter",
    "blockmig_migration_zero_bytes_total": "counter",
    "blockmig_migration_remaining_bytes": "gauge",
    "blockmig_migration_throttled_seconds_total": "counter",
    "blockmig_migration_eta_seconds": "gauge",
    "blockmig_migration_switchover_stall_seconds": "histogram",
    "blockmig_postcopy_remote_reads_total": "counter",
    "blockmig_verify_mismatched_chunks_total": "counter",
    "blockmig_late_disks": "gauge",
    "blockmig_refused_disks": "gauge",
    "blockmig_journal_healthy": "gauge",
    "blockmig_journal_sync_duration_seconds": "histogram",
    "blockmig_build_info": "gauge",
    "process_cpu_seconds_total": "counter",
}


def check(page):
    """promtool's opinion, where it is installed; True if it was asked."""
    if daemon.shutil.which("promtool") is None:
        return False
    result = daemon.run("promtool", "check", "metrics", stdin=page.text)
    assert result.returncode == 0 and not result.stdout + result.stderr, result
    return True


with served.served_disk(extra=("--metrics", "tcp:127.0.0.1:0", "--bitmap", "daily", "--log", "json")) as (
        folder, disk, image):
    idle = metrics.scrape(disk)
    assert idle.value("blockmig_nbd_requests_total", disk="disk0", op="read") == 0
    checked = check(idle)
    assert idle.value("blockmig_late_disks") == 0

    daemon.nbdsh("-u", disk.uri, "-c", WORK)
    daemon.until(lambda: metrics.scrape(disk).value("blockmig_nbd_disconnects_total", reason="left") == 1,
                 "the client to be gone")
    used = metrics.scrape(disk)
    for op, count in (("read", 1), ("write", 2), ("flush", 1), ("zero", 1), ("trim", 0), ("cache", 0)):
        assert used.value("blockmig_nbd_requests_total", disk="disk0", op=op) == count, op
    for op in ("read", "write", "flush", "zero"):
        count = used.value("blockmig_nbd_requests_total", disk="disk0", op=op)
        assert used.value("blockmig_nbd_request_duration_seconds_count", disk="disk0", op=op) == count
    assert used.value("blockmig_nbd_bytes_total", disk="disk0", direction="read") == 65536
    assert used.value("blockmig_nbd_bytes_total", disk="disk0", direction="write") == 4608
    assert used.value("blockmig_nbd_range_bytes_total", disk="disk0", op="zero") == 8192
    assert used.value("blockmig_nbd_refused_requests_total") == 1
    assert used.value("blockmig_disk_dirty_chunks", disk="disk0", bitmap="daily") == 1
    assert used.value("blockmig_nbd_clients", disk="disk0") == 0
    check(used)

    lost = daemon.run("nbdinfo", disk.uri.replace("disk0", "nope"))
    assert lost.returncode != 0, lost
    daemon.until(lambda: metrics.scrape(disk).value("blockmig_nbd_handshake_failures_total",
                                                    reason="unknown-export") == 1, "the failure to be counted")

    job = disk.start_migration(os.path.join(folder, "b.img"), "dbt", "--bwlimit", "8MiB/s")
    moving = daemon.until(lambda: (lambda page: page if page.value(
        "blockmig_migration_copied_bytes_total", disk="disk0", pass_="first") else None)(
            metrics.Page(metrics.scrape(disk).text.replace('pass="', 'pass_="'))), "bytes to be copied")
    assert moving.value("blockmig_migration_phase", disk="disk0", mode="dbt", phase="copying") == 1
    assert moving.value("blockmig_migration_phase", disk="disk0", mode="dbt", phase="ended") == 0
    assert moving.value("blockmig_migration_remaining_bytes", disk="disk0") > 0
    check(metrics.scrape(disk))
    seen = set(moving.types)
    assert disk.cli("set", job, "bwlimit=none").returncode == 0
    disk.wait_job(job, "done")
    done = metrics.scrape(disk)
    assert done.value("blockmig_migration_phase", disk="disk0", mode="dbt", phase="ended") == 1
    assert done.value("blockmig_migration_jobs_total", disk="disk0", state="done") == 1
    assert done.value("blockmig_migration_switchover_stall_seconds_count", disk="disk0") == 1
    assert done.value("blockmig_disk_epoch", disk="disk0") == 2
    assert done.value("blockmig_verify_mismatched_chunks_total", disk="disk0") == 0
    assert done.value("blockmig_postcopy_remote_reads_total", disk="disk0", kind="demand") == 0
    for name, kind in PROMISED.items():
        assert done.types.get(name) == kind or (name in seen and moving.types[name] == kind), (name, kind)

    port = int(re.search(r"answering scrapes on tcp:127\.0\.0\.1:(\d+)", disk.log()).group(1))
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", "/metrics")
    response = connection.getresponse()
    assert response.status == 200, response.status
    assert response.getheader("Content-Type").startswith("text/plain; version=0.0.4")
    by_tcp = metrics.Page(response.read().decode())
    assert by_tcp.types == done.types
    for path in ("/v1/status", "/v1/disks", "/"):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("GET", path)
        assert connection.getresponse().status == 404, path

if not checked:
    daemon.skip("promtool is not installed; all but its opinion was checked")
