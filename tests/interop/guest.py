# SPDX-License-Identifier: Apache-2.0
"""A small Linux guest in QEMU for tests: Debian's cloud kernel, and an initial file system that is put together
here from the host's busybox and whatever programs a test names. Emulated: what passes for KVM inside of virtual
machines is not always fit for a kernel. BLOCKMIG_GUEST_ACCEL=kvm is for those who know that theirs is.

    with guest.Guest(folder, script, programs=["mkfs.ext4"], modules=["virtio_blk"], qemu=[...]) as g:
        g.finish()

The kernel is not installed: its package is downloaded once and unpacked under build/guest-kernel.
"""
import fcntl
import glob
import os
import re
import shutil
import subprocess
import tempfile

import daemon

CACHE = os.path.join(daemon.TOP, "build", "guest-kernel")
META_PACKAGE = "linux-image-cloud-amd64"
BOOT_SECONDS = 240  # on a busy machine
DOWNLOAD_SECONDS = 300
GUEST_OK = "guest: all is well"
INIT = """#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /tmp /mnt /sbin /usr/bin /usr/sbin /run
/bin/busybox --install -s
mount -t proc none /proc
mount -t sysfs none /sys
mount -t devtmpfs none /dev
for m in $(cat /modules.list); do insmod /modules/$m || echo "guest: no module $m"; done
# A shell of its own: -e has no effect in a list with && and ||.
if sh -e /script.sh; then echo "{ok}"; else echo "guest: the script failed"; fi
sync
poweroff -f
"""


def kernel():
    """(vmlinuz, folder of modules) of the unpacked package; skips the test where it cannot be had."""
    if os.uname().machine != "x86_64":
        daemon.skip("the guest is for x86_64")
    daemon.need("qemu-system-x86_64", "busybox", "dpkg-deb", "apt-get")
    os.makedirs(CACHE, exist_ok=True)
    with open(os.path.join(CACHE, "lock"), "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests run beside each other; one downloads
        root = os.path.join(CACHE, "root")
        if not os.path.isdir(root):
            download(root)
    images = glob.glob(os.path.join(root, "boot", "vmlinuz-*"))
    modules = glob.glob(os.path.join(root, "lib", "modules", "*"))
    assert len(images) == 1 and len(modules) == 1, f"{root} is damaged: remove it"
    return images[0], modules[0]


def package_name():
    depends = daemon.run("apt-cache", "depends", META_PACKAGE).stdout
    found = re.search(r"Depends: (linux-image-\S+)", depends)
    return found.group(1) if found else None


def download(root):
    """Puts the package's files under `root`, whole or not at all."""
    if package_name() is None and os.geteuid() == 0:
        daemon.run("apt-get", "update", "-q", timeout=DOWNLOAD_SECONDS)
    name = package_name()
    if name is None:
        daemon.skip(f"apt knows no {META_PACKAGE}")
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        os.chmod(folder, 0o755)  # apt reads and writes here as its own user
        for attempt in range(2):
            result = subprocess.run(["apt-get", "download", "-q", name], cwd=folder, check=False, text=True,
                                    stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=DOWNLOAD_SECONDS)
            if result.returncode == 0:
                break
            if attempt == 0 and os.geteuid() == 0:
                daemon.run("apt-get", "update", "-q", timeout=DOWNLOAD_SECONDS)
        packages = glob.glob(os.path.join(folder, "*.deb"))
        if not packages:
            daemon.skip(f"{name} cannot be downloaded: {result.stdout.strip()[-300:]}")
        unpacked = os.path.join(folder, "root")
        daemon.ok("dpkg-deb", "-x", packages[0], unpacked)
        os.rename(unpacked, root)


def module_files(folder, names):
    """Paths of modules with all that they need, in the order in which they load."""
    paths = {os.path.basename(p)[:-3].replace("-", "_"): p
             for p in glob.glob(os.path.join(folder, "kernel", "**", "*.ko"), recursive=True)}
    order = []

    def add(name):
        path = paths.get(name.replace("-", "_"))
        if path is None or path in order:
            return  # built in, or there already
        with open(path, "rb") as f:
            needs = re.search(rb"\0depends=([^\0]*)\0", f.read())
        for need in (needs.group(1).decode().split(",") if needs else []):
            if need:
                add(need)
        order.append(path)
    for name in names:
        add(name)
    return order


def libraries(program):
    """The shared libraries of a program, by absolute path."""
    listing = daemon.run("ldd", program).stdout
    return re.findall(r"(/\S+) \(0x", listing)


class Archive:
    """An initial file system: cpio, format newc."""

    def __init__(self):
        self._parts = []
        self._folders = set()
        self._inode = 0

    def _entry(self, name, mode, data=b""):
        self._inode += 1
        raw = name.encode() + b"\0"
        fields = (self._inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(raw), 0)
        head = b"070701" + b"".join(b"%08x" % f for f in fields) + raw
        self._parts.append(head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4))

    def folder(self, path):
        path = path.strip("/")
        if path and path not in self._folders:
            self.folder(os.path.dirname(path))
            self._folders.add(path)
            self._entry(path, 0o040755)

    def file(self, path, data, mode=0o755):
        self.folder(os.path.dirname(path))
        self._entry(path.strip("/"), 0o100000 | mode, data)

    def copy(self, source, path):
        with open(source, "rb") as f:
            self.file(path, f.read())

    def write(self, path):
        self._entry("TRAILER!!!", 0)
        with open(path, "wb") as f:
            f.write(b"".join(self._parts))


def initial_file_system(path, script, programs, modules):
    archive = Archive()
    archive.copy(shutil.which("busybox"), "/bin/busybox")
    archive.file("/init", INIT.replace("{ok}", GUEST_OK).encode())
    archive.file("/script.sh", script.encode())
    copied = set()
    for program in programs:
        source = shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")
        if source is None:
            daemon.skip(program + " is not installed")
        archive.copy(source, "/bin/" + os.path.basename(program))
        for library in libraries(source):
            if library not in copied:
                copied.add(library)
                archive.copy(os.path.realpath(library), library)
    for module in modules:
        archive.copy(module, "/modules/" + os.path.basename(module))
    archive.file("/modules.list", "\n".join(os.path.basename(m) for m in modules).encode() + b"\n")
    archive.write(path)


class Guest(daemon.Process):
    """One boot of a guest that runs `script` (busybox sh, -e) and powers off."""

    def __init__(self, folder, script, programs=(), modules=(), qemu=(), name="guest"):
        image, module_folder = kernel()
        busybox = shutil.which("busybox")
        if libraries(busybox):
            daemon.skip("busybox is not static: install busybox-static")
        initrd = os.path.join(folder, name + ".cpio")
        initial_file_system(initrd, script, programs, module_files(module_folder, modules))
        self.console = os.path.join(folder, name + ".console")
        command = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-machine", "pc",
                   "-accel", os.environ.get("BLOCKMIG_GUEST_ACCEL", "tcg"), "-cpu", "max", "-m", "384", "-smp", "2", "-display", "none", "-no-reboot",
                   "-serial", f"file:{self.console}", "-kernel", image, "-initrd", initrd,
                   "-append", "console=ttyS0 quiet panic=-1 random.trust_cpu=on", *qemu]
        super().__init__(command, os.path.join(folder, name + ".log"))

    def said(self):
        """What the guest printed so far."""
        try:
            with open(self.console, encoding="utf-8", errors="replace") as f:
                return f.read()
        except FileNotFoundError:
            return ""

    def wait_for(self, text):
        daemon.until(lambda: text in self.said() or not self.alive(), f"'{text}' from the guest", BOOT_SECONDS)
        assert text in self.said(), f"the guest ended without '{text}':\n{self.said()[-3000:]}\n{self.log()}"

    def finish(self):
        """Waits for the guest's end; its script must have succeeded. What it printed."""
        daemon.until(lambda: not self.alive(), "the guest's end", BOOT_SECONDS)
        assert GUEST_OK in self.said(), f"the guest's script failed:\n{self.said()[-3000:]}\n{self.log()[-2000:]}"
        return self.said()


def sums(text):
    """{file: digest} of the lines that sha256sum printed."""
    return {name: digest for digest, name in re.findall(r"\b([0-9a-f]{64})  (\S+)", text)}
