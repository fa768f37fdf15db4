# SPDX-License-Identifier: Apache-2.0
"""A daemon that dies again and again, a writer that notes what it was told, and what must be left."""
import json
import os
import struct
import subprocess

import instants
import moves
from moves import daemon
from state_folder import StateFolder

BLOCK = 4096
BLOCKS = 24 * moves.MIB // BLOCK  # of the disk of a Move
RECORD = struct.Struct("<cQQ")  # kind, block, number; the kinds are in allowed_by() and WRITER
MODES = ("mirror", "dbt", "cold", "auto", "snapshot", "point-in-time", "postcopy", "hybrid", "shared", "settle", "return")
BEGIN_ANEW = ("postcopy",)  # mode of which no progress is recorded
FIRST_NUMBER = 7  # what a block holds in the beginning; see first_number()
WRITER = """
import os, random, struct, time
h.connect_uri(os.environ["URI"])
log = os.open(os.environ["LOG"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
pick, number = random.Random(int(os.environ["FIRST"])), int(os.environ["FIRST"])
blocks = h.get_size() // 4096 // int(os.environ["PART"])
hot = max(blocks // 16, 1)
pause, known = float(os.environ["PAUSE"]), {}
os.write(log, struct.pack("<cQQ", b"s", 0, number))
while True:
    number += 1
    block = pick.randrange(hot if number % 4 else blocks)
    fua = nbd.CMD_FLAG_FUA if number % 23 == 0 else 0
    os.write(log, struct.pack("<cQQ", b"b", block, number))
    h.pwrite(struct.pack("<Q", number) * 512, block * 4096, fua)
    os.write(log, struct.pack("<cQQ", b"u" if fua else b"a", block, number))
    known[block] = number
    if number % 8 == 0:
        block = pick.choice(list(known))
        if h.pread(4096, block * 4096) != struct.pack("<Q", known[block]) * 512:
            os.write(log, struct.pack("<cQQ", b"w", block, known[block]))
    if pause:
        time.sleep(pause)
    if number % 16 == 0:
        h.flush()
        os.write(log, struct.pack("<cQQ", b"f", 0, number))
"""


def first_number(block):
    """What a block holds in the beginning: zero now and then, where make_image() leaves a hole."""
    return FIRST_NUMBER if block % 7 else 0


def make_image(path, blocks):
    with open(path, "wb") as image:
        for block in range(blocks):
            if first_number(block) == 0:
                image.seek(BLOCK, os.SEEK_CUR)
            else:
                image.write(struct.pack("<Q", first_number(block)) * (BLOCK // 8))
        image.truncate(blocks * BLOCK)
        image.flush()
        os.fsync(image.fileno())
    return path


class Daemon(StateFolder):
    """A state folder, and the job that the test is about."""

    def __init__(self, state, log):
        super().__init__(state, log)
        self.last_job = "job-1"

    def answers_or_dies(self):
        """Whether it answers, in the end."""
        daemon.until(lambda: not self.alive() or self.cli("status").returncode == 0, "the daemon to answer", pause=0.05)
        return self.alive()

    def job(self):
        shown = self.cli("status", self.last_job, "-o", "json")
        return daemon.last_json(shown.stdout) if shown.returncode == 0 else {"state": "unknown"}

    def wait_for_end(self):
        daemon.until(lambda: self.job()["state"] not in ("running", "paused"), "the move to end",
                     seconds=120, pause=0.1)
        ended = self.job()
        assert ended["state"] == "done", ended


def writer(server, log, first, part=1, disk="vm1", pause=0.0):
    """A client that writes until its daemon is gone, with numbers that begin with `first`, into the first
    `part`-th of the disk; it reads, too, what it has written, and rests `pause` seconds after each write."""
    env = dict(os.environ, URI=server.uri(disk), LOG=log, FIRST=str(first), PART=str(part), PAUSE=str(pause),
               PATH="/usr/bin:" + os.environ.get("PATH", ""))  # libnbd's module is of that Python
    return subprocess.Popen(["nbdsh", "-c", WRITER], env=env, stdin=subprocess.DEVNULL,
                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def wait_for_writes(log, count=16):
    """Until the writer has been told of so many more."""
    def size():
        return os.path.getsize(log) if os.path.exists(log) else 0

    enough = size() + 2 * count * RECORD.size
    daemon.until(lambda: size() >= enough, f"{count} more writes")


class Move:
    """A disk under a writer, on its way from a folder's source.img to its target.img. In the modes `settle` and `return`
    it has gone there before, and is on its way back; in `point-in-time` it stays, and is copied there."""

    def __init__(self, place, folder, mode, pick, part=1):
        """`place` holds the images and the daemon's state, `folder` what outlives them; `part` as of writer()."""
        self.target = os.path.join(place, "target.img")
        self.log = os.path.join(folder, "writes")
        self.server = Daemon(os.path.join(place, "state"), os.path.join(folder, "blockmigd.log"))
        self.client = None
        self.mode = mode
        self._source = make_image(os.path.join(place, "source.img"), BLOCKS)
        self.report = None  # the job as it has ended
        self.others = set()  # blocks that somebody else has written to; the test looks at them itself
        self._part = part
        self._first = pick.randrange(1, 1000)
        self._lives = 0
        self._hydrates = pick.choice(("background", "never"))  # mode `shared`

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        if self.client is not None:
            self.client.kill()
            self.client.wait()
        self.server.kill()
        if kind is not None and os.path.exists(self.server.log):
            with open(self.server.log, encoding="utf-8", errors="replace") as log:
                print(f"--- output of the daemons:\n{log.read()[-8000:]}")

    def begin(self, *options):
        self.prepare()
        self.ask(*options)
        assert self.server.alive(), "the daemon has ended by itself"

    def prepare(self, *daemon_options):
        """All but the command that the test is about."""
        self.server.start(*daemon_options)
        served = self.server.cli("serve", "vm1", "--source", self._source)
        assert served.returncode == 0, served.stderr
        self.client = writer(self.server, self.log, self._first * 1_000_000_000, self._part)
        self._go_there()
        self.server.last_job = None

    def ask(self, *options):
        """The command that the test is about; only the daemon's death excuses a refusal."""
        asked = self.server.cli(*self._command(options), "--detach", "-o", "json")
        if asked.returncode == 0:
            self.server.last_job = daemon.last_json(asked.stdout)["id"]
        else:
            daemon.until(lambda: not self.server.alive(), f"the death of the daemon that refused: {asked.stderr}")

    def names(self):
        """The files that it is about, by what they are."""
        there = os.path.join(os.path.dirname(self._source), "target.img")
        old = there if self.target == self._source else self._source
        return {"new": self.target, "old": old, "source": self._source, "state": self.server.state,
                "place": os.path.dirname(self._source)}

    def _go_there(self):
        """In the modes that come back from there."""
        there = {"settle": ("--mode", "shared"), "return": ("--keep-record",)}.get(self.mode)
        if there:
            gone = self.server.cli("migrate", "vm1", "--to", self.target, *there)
            assert gone.returncode == 0, gone.stderr
            wait_for_writes(self.log)  # that are to come back
            self.target = self._source

    def _command(self, options):
        if self.mode == "settle":
            return ("settle", "vm1", "--into", self._source, "--bwlimit", "6MiB/s")
        if self.mode == "point-in-time":
            return ("backup", "vm1", self.target, "--bwlimit", "12MiB/s", *options)
        is_recorded = self.mode not in BEGIN_ANEW and "abort" not in options
        recorded = ("--checkpoint-interval", "200ms") if is_recorded else ()
        hydrates = ("--hydrate", self._hydrates) if self.mode == "shared" else ()
        return ("migrate", "vm1", "--to", self.target, "--mode", self.mode, "--bwlimit", "12MiB/s", *hydrates, *recorded,
                *options)

    def power_goes(self):
        """Before its medium is cut: what is answered from now on may be a lie."""
        note_power_loss(self.log)

    def kill(self):
        self.server.kill()
        if self.client is not None:
            self.client.wait()

    def live_again(self, *daemon_options):
        self.server.start(*daemon_options)
        self.go_on()

    def go_on(self):
        """A daemon has begun: the writer begins anew, and the command is given again if nothing is known of it."""
        self.client = writer(self.server, self.log, (1000 + self._lives) * 1_000_000_000, self._part)
        self._lives += 1
        if self.server.last_job is None:
            shown = self.server.cli("ls", "jobs", "-o", "json")
            jobs = daemon.last_json(shown.stdout)["jobs"] if shown.returncode == 0 else []
            mode = "snapshot" if self.mode == "point-in-time" else self.mode
            self.server.last_job = next((job["id"] for job in jobs if job["mode"] == mode), None)
        if self.server.last_job is None:
            self.ask()

    def end(self, power_was_lost=False):
        """The move ends; the number of blocks that were written, none of which was lost."""
        # What was written where nothing had been fetched yet goes with its daemon unless it was flushed.
        only_flushed_counts = power_was_lost or self.mode in ("settle", "shared")
        if self.mode in ("settle", "shared"):  # no mirror beats this writer: as fast as it goes, or it is throttled
            self.server.cli("set", "vm1", "bwlimit=none")
        self.server.wait_for_end()
        self.report = self.server.job()
        wait_for_writes(self.log)  # that only the target gets, or not even that
        image = self._whole()
        self.kill()
        if self.mode == "point-in-time":
            self._check_copy(power_was_lost)
        return check(self.log, image, BLOCKS, only_flushed_counts, self.others)

    def _whole(self):
        """The image that the whole disk is in; read from its server where it is in two."""
        if self.mode == "point-in-time":
            return self._source
        if self.mode != "shared" or self._hydrates == "background":
            return self.target
        self.client.kill()
        self.client.wait()
        seen = self.log + ".seen"
        daemon.ok("nbdcopy", self.server.uri(), seen)
        return seen

    def _check_copy(self, power_was_lost):
        with open(self.target + ".blockmig-backup", encoding="utf-8") as record:
            told = json.load(record)
        assert told["state"] == "complete", told
        instants.check(self.log, self.target, BLOCKS, power_was_lost)


def note_power_loss(log_path):
    """While a filesystem is being shut down it may call a sync successful that it did not do: what the writer is told
    after this, and before its next life, is not relied upon."""
    log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(log, RECORD.pack(b"x", 0, 0))
    os.close(log)


def records_of(log_path):
    """What a writer noted, whole records only."""
    with open(log_path, "rb") as log:
        noted = log.read()
    return RECORD.iter_unpack(noted[:len(noted) // RECORD.size * RECORD.size])


def allowed_numbers(log_path, power_was_lost):
    """As allowed_by(), and nothing that the writer read was wrong."""
    records = list(records_of(log_path))
    for kind, block, number in records:
        assert kind != b"w", f"{log_path}: block {block} did not read as {number}, which had been acknowledged"
    return allowed_by(records, power_was_lost)


def allowed_by(records, power_was_lost, alive=False):
    """By block, what it may hold: the last write that counts, or one that began after it. After a power loss
    only what was flushed counts; `alive`: in the writer's last life nothing is lost yet."""
    allowed, unflushed, powered = {}, {}, True
    def settle(block, number):
        allowed[block] = {n for n in allowed[block] if n >= number}

    def settle_all():
        for flushed, newest in unflushed.items():
            settle(flushed, newest)
        unflushed.clear()

    for kind, block, number in records:
        if kind == b"b":
            allowed.setdefault(block, {first_number(block)}).add(number)
        elif kind == b"s":
            unflushed.clear()  # of a life before: it may be lost
            powered = True
        elif kind == b"x":
            powered = False
        elif not powered:
            continue  # it may have happened, and it may be lost
        elif kind == b"f":
            settle_all()
        elif kind == b"u" or not power_was_lost:
            settle(block, number)
        else:
            unflushed[block] = number
    if alive:
        settle_all()
    return allowed


def words_of(image, blocks):
    """The numbers in each block of an image: one, unless a death cut a write in two."""
    assert os.path.getsize(image) == blocks * BLOCK, (image, os.path.getsize(image))
    with open(image, "rb") as content:
        return [set(struct.unpack("<512Q", content.read(BLOCK))) for _ in range(blocks)]


def check(log_path, image, blocks, power_was_lost=False, others=()):
    """The number of blocks that were written. Every other one holds what it held in the beginning, but for `others`:
    those that somebody else has written to."""
    allowed = allowed_numbers(log_path, power_was_lost)
    for block, words in enumerate(words_of(image, blocks)):
        numbers = allowed.get(block, {first_number(block)})
        assert words <= numbers or block in others, (image, block, sorted(words)[:4], sorted(numbers))
    return len(allowed)
