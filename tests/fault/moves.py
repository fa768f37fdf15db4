# SPDX-License-Identifier: Apache-2.0
"""What the fault tests share: a served disk with a busy client, and what must hold beside a bad target."""
import contextlib
import os
import signal
import subprocess
import sys
import threading

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "interop"))
import daemon  # noqa: E402  pylint: disable=wrong-import-position

MIB = 1 << 20
ODD = 3 * 4096 + 512
# What "at once" may take on a busy machine with two cores; the target stays frozen all the while, so a
# wait for it would never end.
AT_ONCE_SECONDS = 10


class Scene:
    """A folder, a disk served by us, its image, and a client that writes, reads and checks."""

    def __init__(self, folder, disk, image, client):
        self.folder = folder
        self.disk = disk
        self.image = image
        self.client = client
        self._ended = False
        self.final = None  # what the client said at its end

    def end(self):
        """The client stops and reads everything once more: no error, no wrong sector, ever."""
        if not self._ended:
            self._ended = True
            self.final = self.client.finish()

    def give_up_client(self):
        """Nothing is asked of it any more."""
        self._ended = True
        self.client.kill()

    def path(self, name):
        return os.path.join(self.folder, name)

    def empty_target(self, name="target.img", size=None):
        path = self.path(name)
        with open(path, "wb") as f:
            f.truncate(os.path.getsize(self.image) if size is None else size)
        return path

    def guest_goes_on(self, requests=300):
        """The client gets answers to requests that it sends from now on, and all of them are right."""
        self.client.clean_report()
        done = 0

        def more():
            nonlocal done
            done += self.client.clean_report()["requests"]
            return done > requests
        daemon.until(more, f"{requests} answers for the guest", pause=0.05)

    def control_answers(self):
        """Every read of the control plane answers; a frozen target stays frozen meanwhile."""
        for path in ("/v1/status", "/v1/disks", "/v1/jobs", "/v1/clients"):
            status, _ = self.disk.request("GET", path, timeout=AT_ONCE_SECONDS)
            assert status == 200, (path, status)
        shown = self.disk.cli("status", "-o", "json", timeout=AT_ONCE_SECONDS)
        assert shown.returncode == 0, shown.stderr

    def abort_at_once(self, job):
        """Ends the move, whatever its target does or does not; the disk stays on its image."""
        result = self.disk.cli("abort", job, timeout=AT_ONCE_SECONDS)
        assert result.returncode == 0, result
        self.disk.wait_job(job, "aborted", seconds=AT_ONCE_SECONDS)
        self.guest_is_on_source()

    def guest_is_on_source(self):
        """The disk lives on its image, which holds exactly what the client knows."""
        assert self.disk.served_store().endswith(self.image), self.disk.served_store()
        self.client.hold()
        assert self.client.check_file(self.image) == 0
        self.client.resume()

    def guest_is_on(self, path):
        """The disk lives on another file, which holds exactly what the client knows."""
        assert self.disk.served_store().endswith(path), self.disk.served_store()
        self.client.hold()
        assert self.client.check_file(path) == 0
        self.client.resume()


@contextlib.contextmanager
def scene(*client_arguments, size=16 * MIB + ODD, extra=(), parent=None, holes=True, patience=170):
    """A Scene, which ends with end(); call it earlier where the disk lives on a server that leaves. After
    `patience` seconds the daemon is made to dump core."""
    with daemon.scratch(parent) as folder:
        image = daemon.make_image(os.path.join(folder, "source.img"), size, holes=holes)
        with daemon.Daemon(folder, image, extra=extra) as disk, \
                daemon.Client(folder, disk, *(client_arguments or ("--rate", "1000"))) as client:
            watchdog = threading.Timer(patience, os.kill, (disk.pid, signal.SIGABRT))
            watchdog.daemon = True
            watchdog.start()
            try:
                here = Scene(folder, disk, image, client)
                yield here
                here.end()
            finally:
                watchdog.cancel()


@contextlib.contextmanager
def small_filesystem(scene_, room_mib=20):
    """The path of a filesystem with room for so much."""
    mount = scene_.path("fs")
    os.mkdir(mount)
    command = ["mount", "-t", "tmpfs", "-o", f"size={room_mib}m", "none", mount]
    if subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode != 0:
        daemon.skip("not allowed to mount a small filesystem")
    try:
        yield mount
    finally:
        subprocess.run(["umount", "-l", mount], check=True)


def fill_while_copying(scene_, mount, job):
    """Once the job copies, no room is left; the path of what took it."""
    daemon.until(lambda: scene_.disk.job(job)["bytes_copied"] > 0, "the copy to begin")
    daemon.run("dd", "if=/dev/zero", f"of={mount}/hog", "bs=1M")  # until it is full
    return mount + "/hog"


def flush_counting_target(scene_, freeze_at, name="target"):
    """An nbdkit that stops itself (SIGSTOP) in its `freeze_at`-th flush; (server, image, count path)."""
    daemon.need("nbdkit")
    image = scene_.empty_target(name + ".img")
    count = scene_.path(name + ".flushes")
    flush = (f"echo x >> {count}; "
             f"if [ $(wc -l < {count}) -eq {freeze_at} ]; then kill -STOP $PPID; sleep 0.5; fi")  # until it has stopped
    write = f"dd of={image} conv=notrunc iflag=fullblock bs=1M oflag=seek_bytes seek=$4 status=none"
    zero = (f"head -c $3 /dev/zero | dd of={image} conv=notrunc iflag=fullblock bs=1M "
            "oflag=seek_bytes seek=$4 status=none")
    read = f"dd if={image} iflag=skip_bytes,count_bytes bs=1M skip=$4 count=$3 status=none"
    server = daemon.nbdkit(
        scene_.folder, "eval", f"get_size=stat -c %s {image}", f"pread={read}", f"pwrite={write}",
        f"zero={zero}", f"trim={zero}", f"flush={flush}", "can_write=exit 0", "can_flush=exit 0",
        "can_zero=exit 0", "can_trim=exit 0", "thread_model=echo parallel", name=name)
    return server, image, count


def flushes(count_path):
    try:
        with open(count_path, encoding="ascii") as f:
            return len(f.readlines())
    except FileNotFoundError:
        return 0
