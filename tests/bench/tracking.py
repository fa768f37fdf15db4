# SPDX-License-Identifier: Apache-2.0
"""What dirty tracking costs: 4 KiB random writes to blockmig with and without it."""
import os
import statistics

import servers
import serving

CELL = serving.Cell("4 KiB random write, depth 16", ["--op", "write", "--block", "4k", "--depth", "16"])
SIZE_BYTES = 256 << 20
VARIANTS = {"off": (), "on": ("--bitmap", "bench")}


def compare(blockmig, nbdload, folder, pairs, seconds, note):
    """{'on': [runs], 'off': [runs]}; None without blockmig."""
    running = {}
    try:
        for name, extra in VARIANTS.items():
            image = os.path.join(folder, f"tracking-{name}.img")
            sock = os.path.join(folder, f"tracking-{name}.sock")
            serving.make_image(image, SIZE_BYTES)
            command = servers.blockmig_command(
                servers.program(blockmig), image, sock,
                os.path.join(folder, f"tracking-{name}.state"), extra)
            running[name] = servers.Server(
                f"blockmig, tracking {name}", servers.pinned(serving.SERVER_CPU, command), sock,
                os.path.join(folder, f"tracking-{name}.log"))
            running[name].freeze()
        results = serving.compare(running, nbdload, [CELL], pairs * 2, seconds, note)
        return results[CELL.name]
    except servers.Unavailable as e:
        note(f"{e}: tracking left out")
        return None
    finally:
        for server in running.values():
            server.stop()


def sentence(runs):
    """The result in words."""
    rate = statistics.median(serving.ratios(runs, "on", "off"))
    cpu = statistics.median(serving.ratios(runs, "on", "off", "server_cpu_us_per_request"))
    return (f"{CELL.name}: with tracking {rate:.3f} x the requests per second of the same server "
            f"without, at {cpu:.3f} x the CPU per request.")
