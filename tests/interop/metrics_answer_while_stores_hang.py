# SPDX-License-Identifier: Apache-2.0
"""A scrape answers, with figures of now, while the disk's store and a migration's target are frozen; what
hangs shows as in flight."""
import os
import threading

import daemon
import metrics

daemon.need("qemu-nbd", "nbdcopy")
MIB = 1 << 20

with daemon.scratch() as folder:
    image = daemon.make_image(os.path.join(folder, "source.img"), 16 * MIB, holes=False)
    target_image = os.path.join(folder, "target.img")
    with open(target_image, "wb") as f:
        f.truncate(16 * MIB)
    with daemon.qemu_nbd(folder, image, name="source") as source, \
            daemon.qemu_nbd(folder, target_image, name="target") as target, \
            daemon.Daemon(folder, source.uri) as disk:
        job = disk.start_migration(target.uri, "mirror", "--bwlimit", "2MiB/s")
        daemon.until(lambda: disk.job(job)["bytes_copied"] > 0, "the copy to begin")
        target.freeze()
        source.freeze()
        reader = threading.Thread(target=daemon.run, args=("nbdcopy", "--no-extents", disk.uri, "null:"))
        reader.start()
        try:
            stuck = daemon.until(
                lambda: (lambda page: page if page.value(
                    "blockmig_disk_in_flight_requests", disk="disk0", op="read") else None)(
                        metrics.scrape(disk)), "a request that hangs")
            assert stuck.value("blockmig_metrics_stale") == 0, "the loop must not wait for a store"
            assert stuck.value("blockmig_nbd_clients", disk="disk0") >= 1
            assert stuck.value("blockmig_nbd_in_flight_requests", disk="disk0") >= 1
            later = metrics.scrape(disk)
            assert later.value("blockmig_metrics_stale") == 0
            assert later.value("blockmig_uptime_seconds") > stuck.value("blockmig_uptime_seconds")
        finally:
            source.thaw()
            target.thaw()
            reader.join(60)
        assert not reader.is_alive()
