# SPDX-License-Identifier: Apache-2.0
"""10,000 idle clients cost less than 8 KiB each, beside a client that is served meanwhile."""
import os
import resource
import time

import daemon
import raw_nbd

CLIENTS = 10_000
PER_CLIENT_BYTES = 8 * 1024
NEEDED = CLIENTS + 200

soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
if hard != resource.RLIM_INFINITY and hard < NEEDED:
    daemon.skip(f"only {hard} descriptors are allowed")
resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, NEEDED), hard))


def measure(folder, image, threads):
    """Attaches the idle ones, waits until their memory is given back, and lets them go."""
    extra = ("--threads", threads, "--limit", f"connections={CLIENTS + 100}", "--limit",
             f"connections-per-peer={CLIENTS + 100}")
    with daemon.Daemon(folder, image, name=f"d{threads}", extra=extra) as server:
        good = raw_nbd.attached(server.socket_path)
        assert raw_nbd.works(good, 1 << 20)
        before = daemon.resident_bytes(server.pid)
        idle = []
        for i in range(CLIENTS):
            s = raw_nbd.attached(server.socket_path)
            if i % 10 == 0:  # some have done something before
                assert raw_nbd.works(s, 65536)
            idle.append(s)
            if i % 1000 == 0:
                assert raw_nbd.works(good)
        each = None
        deadline = time.monotonic() + 30
        while each is None or (each >= PER_CLIENT_BYTES and time.monotonic() < deadline):
            time.sleep(0.5)  # idle memory is given back now and then
            assert raw_nbd.works(good)
            each = (daemon.resident_bytes(server.pid) - before) / CLIENTS
        print(f"{threads} threads: {each:.0f} bytes resident per idle client", flush=True)
        assert each < PER_CLIENT_BYTES, f"{each:.0f} bytes resident per idle client"
        assert all(raw_nbd.works(s) for s in idle[::500])
        assert raw_nbd.works(good, 1 << 20)
        for s in idle:
            s.close()
        daemon.until(lambda: raw_nbd.works(good) and
                     len(server.get("/v1/clients")["clients"]) == 1, "all of them to be gone", 60, 0.2)


with daemon.scratch() as scratch:
    disk = daemon.make_image(os.path.join(scratch, "a.img"), 4 << 20, holes=False)
    for count in (1, 2):
        measure(scratch, disk, count)
