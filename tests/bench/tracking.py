# SPDX-License-Identifier: Apache-2.0
"""What dirty tracking costs: requests per second with and without it, and memory."""
import json
import subprocess

import cells as all_cells
import peers
import serving
import verdict

VARIANTS = {"off": (), "on": ("--bitmap", "bench")}


def compare(plan, pairs, seconds, note):
    """{"value": rate with to without, "cpu": CPU per request likewise, ...}."""
    running, measured = {}, []
    cell = all_cells.TRACKING
    try:
        for name, extra in VARIANTS.items():
            own = peers.Plan(plan.binaries, plan.folder, plan.size_bytes, plan.piece_bytes,
                             label=f"tracking-{name}-")
            image = own.path("disk.img")
            serving.make_image(image, plan.size_bytes, plan.piece_bytes)
            running[name] = peers.start(own, peers.OURS, lambda p, address, i=image, e=extra:
                                        peers.ours(p, address, image=i, extra=e))
            running[name].freeze()
            serving.measure(own, running[name], all_cells.VERIFIED, 0.2)
        for i in range(pairs):
            note(f"tracking, pair {i + 1} of {pairs}")
            order = ("on", "off") if i % 2 == 0 else ("off", "on")
            runs = {}
            for name in order:
                serving.make_dirty(plan, running[name])
                runs[name] = serving.measure(plan, running[name], cell, seconds)
            measured.append((runs["on"], runs["off"]))
        commands = {f"tracking {k}": " ".join(s.command) for k, s in running.items()}
    except serving.FAILURES as e:
        note(f"tracking: {e}")
        return {"failures": {"tracking": str(e)}}
    finally:
        for server in running.values():
            server.stop()
    value = verdict.ratio(measured)
    return {"cell": cell.name, "value": value, "must": cell.must,
            "verdict": verdict.verdict(value, cell.must), "failures": {}, "commands": commands,
            "cpu": verdict.ratio(measured, "server_cpu_us_per_request")}


def memory(plan, note):
    """What bitmap_bench --memory says: bytes of ours and of a flat bitmap, per case."""
    try:
        run = subprocess.run([plan.own("bitmap_bench"), "--memory"], stdout=subprocess.PIPE, text=True,
                             check=True)
        return json.loads(run.stdout)
    except serving.FAILURES as e:
        note(f"memory: {e}")
        return None
