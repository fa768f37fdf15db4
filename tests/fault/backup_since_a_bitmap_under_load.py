# SPDX-License-Identifier: Apache-2.0
"""backup: a full copy and incrementals are the disk of their instants, whatever the guest writes meanwhile; what fails
or is killed on the way loses nothing, and the same command again completes the copy."""
import filecmp
import json
import os
import shutil

import moves
from moves import daemon


def record(copy):
    with open(copy + ".blockmig-backup", encoding="ascii") as f:
        return json.load(f)


def bitmaps(disk):
    done = disk.cli("bitmap", "ls", disk.export, "-o", "json")
    assert done.returncode == 0, done.stderr
    return {b["name"]: b for b in json.loads(done.stdout)["bitmaps"]}


def refused(disk, code, word, *words):
    done = disk.cli("backup", disk.export, *words)
    assert done.returncode == code and word in done.stderr, (words, done.returncode, done.stderr)


def start(scene, copy, *words):
    done = scene.disk.cli("backup", scene.disk.export, copy, "--detach", "-o", "json", *words)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["id"]


def backup_at_an_instant(scene, copy, *words):
    """Under load, slowly; the report, and the disk as it was at the instant."""
    scene.client.hold()
    expected = scene.path("expected.img")
    shutil.copyfile(scene.image, expected)
    job = start(scene, copy, "--bwlimit", "8MiB/s", *words)
    daemon.until(lambda: scene.disk.job(job)["generations_begun"] == 1, "the instant")
    scene.client.resume()
    ended = scene.disk.wait_job(job, seconds=90)
    assert ended["state"] == "done", ended
    assert filecmp.cmp(expected, copy, shallow=False), f"{words}: not the disk of that instant"
    return ended


with moves.scene("--writes", "100", "--largest", "64k", size=8 * moves.MIB + moves.ODD, holes=False) as scene:
    disk, copy = scene.disk, scene.path("copy.img")
    # What cannot be is said before anything changes.
    refused(disk, 4, "no bitmap 'none'", copy, "--since", "none")
    refused(disk, 2, "needed until the copy is whole", copy, "--since", "mon", "--bitmap", "mon")
    refused(disk, 9, "regular file", "nbd+unix:///?socket=/nowhere", "--bitmap", "mon")
    assert disk.cli("bitmap", "add", disk.export, "early", "--transient").returncode == 0
    refused(disk, 4, "there is no copy", copy, "--since", "early")
    assert not os.path.exists(copy) and not os.path.exists(copy + ".blockmig-backup")

    full = backup_at_an_instant(scene, copy, "--bitmap", "mon")
    assert full["digests"]["source"] == full["digests"]["target"] != "", full
    assert full["chunks_kept"] > 0 and full["bytes_total"] == os.path.getsize(scene.image), full
    told = record(copy)
    assert told["state"] == "complete" and {b["name"] for b in told["bitmaps"]} == {"early", "mon"}, told
    scene.guest_goes_on()

    # An incremental is what was written, and makes the copy the disk of the later instant.
    assert disk.cli("bitmap", "add", disk.export, "late").returncode == 0
    refused(disk, 9, "began after the copy's instant", copy, "--since", "late")
    ended = backup_at_an_instant(scene, copy, "--since", "mon", "--bitmap", "tue")
    assert ended["since"] == "mon" and ended["digests"]["target"] == "", ended
    assert {b["name"] for b in record(copy)["bitmaps"]} == {"early", "mon", "late", "tue"}, record(copy)
    assert disk.cli("bitmap", "rm", disk.export, "mon").returncode == 0

    # An aborted one leaves a mixture, which says so; its new bitmap is gone, the other has everything.
    marked = bitmaps(disk)["tue"]["dirty_chunks"]
    scene.client.hold()
    job = start(scene, copy, "--since", "tue", "--bitmap", "wed", "--bwlimit", "64KiB/s")
    daemon.until(lambda: disk.job(job)["bytes_copied"] > 0, "the first bytes")
    refused(disk, 5, "is being migrated", scene.path("other.img"))
    assert disk.cli("abort", job).returncode == 0
    assert disk.wait_job(job)["state"] == "aborted"
    assert record(copy)["state"] == "incomplete" and record(copy)["bitmaps"], record(copy)
    served = disk.cli("serve", "restored", "--source", copy)
    assert served.returncode == 9 and "incomplete copy" in served.stderr, served.stderr
    assert "wed" not in bitmaps(disk) and bitmaps(disk)["tue"]["dirty_chunks"] >= marked, bitmaps(disk)
    scene.client.resume()
    scene.guest_goes_on()
    backup_at_an_instant(scene, copy, "--since", "tue", "--bitmap", "wed")
    assert record(copy)["state"] == "complete"

    # A copy that somebody has changed is none; a full one makes it one again.
    with open(copy, "r+b") as f:
        f.write(b"x")
    refused(disk, 9, "was changed since", copy, "--since", "wed")
    os.rename(copy + ".blockmig-backup", scene.path("away"))
    refused(disk, 9, "no copy made by", copy, "--since", "wed")
    backup_at_an_instant(scene, copy)
    scene.guest_is_on_source()
    # One that is made anew under an old name is another bitmap.
    assert disk.cli("bitmap", "rm", disk.export, "wed").returncode == 0
    assert disk.cli("bitmap", "add", disk.export, "wed").returncode == 0
    refused(disk, 9, "began after the copy's instant", copy, "--since", "wed")
    # A full one that fails removes what it has made.
    job = start(scene, scene.path("new.img"), "--bwlimit", "64KiB/s", "--bitmap", "thu")
    daemon.until(lambda: os.path.exists(scene.path("new.img.blockmig-backup")), "the record")
    assert record(scene.path("new.img"))["state"] == "incomplete"
    assert disk.cli("abort", job).returncode == 0
    disk.wait_job(job)
    daemon.until(lambda: not os.path.exists(scene.path("new.img")), "the file to go")
    daemon.until(lambda: not os.path.exists(scene.path("new.img.blockmig-backup")), "the record to go")
    assert "thu" not in bitmaps(disk)
