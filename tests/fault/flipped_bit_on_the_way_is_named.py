# SPDX-License-Identifier: Apache-2.0
"""A server that flips one bit of what it is sent: `--verify full` names its offset, counts it, and the guest
stays."""
import moves
import metrics
from moves import daemon

FLIP = 5 * moves.MIB + 12345


def flipping_target(scene, name):
    """An nbdkit over an image, in which one bit of every write to FLIP comes out wrong."""
    daemon.need("nbdkit")
    image = scene.empty_target(name + ".img")
    flip = (f"python3 -B -c \"f=open('{image}','r+b');f.seek({FLIP});b=f.read(1)[0];f.seek({FLIP});"
            f"f.write(bytes([b^8]))\"")
    write = (f"dd of={image} conv=notrunc iflag=fullblock bs=1M oflag=seek_bytes seek=$4 status=none; "
             f"if [ $4 -le {FLIP} ] && [ $(($4 + $3)) -gt {FLIP} ]; then {flip}; fi")
    read = f"dd if={image} iflag=skip_bytes,count_bytes bs=1M skip=$4 count=$3 status=none"
    return daemon.nbdkit(scene.folder, "eval", f"get_size=stat -c %s {image}", f"pread={read}",
                         f"pwrite={write}", "flush=exit 0", "can_write=exit 0", "can_flush=exit 0",
                         "thread_model=echo serialize_requests", name=name)


# The guest writes rarely, so that it hardly ever writes just there in the meantime.
with moves.scene("--rate", "20", size=8 * moves.MIB + moves.ODD, holes=False) as scene:
    for moved, mode in enumerate(("cold", "dbt", "mirror"), 1):
        with flipping_target(scene, mode) as server:
            patient = () if mode == "cold" else ("--mirror-deadline", "1s")
            job = scene.disk.start_migration(server.uri, mode, "--verify", "full", "--max-downtime", "2s", *patient)
            ended = scene.disk.wait_job(job, seconds=150)
            assert ended["state"] == "failed", (mode, ended)
            assert ended["error"]["code"] == "mismatch", (mode, ended["error"])
            assert f"at offset {FLIP}" in ended["error"]["message"], (mode, ended["error"])
            page = metrics.scrape(scene.disk)
            assert page.value("blockmig_verify_mismatched_chunks_total", disk=daemon.EXPORT) == moved
            scene.guest_is_on_source()
            scene.guest_goes_on(20)
