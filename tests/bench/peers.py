# SPDX-License-Identifier: Apache-2.0
"""How each server is started, in its best mode for the work: ours and its peers."""
import functools
import os
import subprocess

import servers

OURS = "blockmig"
PEERS = ("qemu-nbd", "qemu-storage-daemon", "nbdkit", "nbd-server")
SERVER_CPU = "0"
CLIENT_CPU = "1"
BOTH_CPUS = "0,1"
MANY_CLIENTS = 4096
# The store that does nothing.
NULL_SOURCE = "null:{size}"
PSK_USER = "bench"

MODES = {
    OURS: "`serve --cache map` with the dirty bitmap `bench` and a thread per processor that it may use, its "
          "defaults otherwise",
    "qemu-nbd": "raw, cache=writeback, aio=threads (twice as fast as io_uring at small cached reads), "
                "shared by many clients",
    "qemu-storage-daemon": "the code of qemu-nbd, so the other mode is shown here: aio=io_uring, which "
                           "is better at small writes; cache.direct=off; no iothread, which QEMU 7.2 does "
                           "not survive when a client leaves",
    "nbdkit": "file plugin, its 16 threads per connection, several connections allowed",
    "nbd-server": "flush, FUA and trim on, 4 threads per client (default), a process per client",
}


class Plan:
    """What a part of the report wants of its servers."""

    def __init__(self, binaries, folder, size_bytes, piece_bytes=4096, transport="unix",
                 cpus=SERVER_CPU, client_cpu=CLIENT_CPU, tls=False, many_clients=False, label=""):
        self.binaries = binaries  # folder of blockmig, nbdload, null_server
        self.folder = folder
        self.size_bytes = size_bytes
        self.piece_bytes = piece_bytes  # in which the images are written: see serving.make_image()
        self.transport = transport
        self.cpus = cpus
        self.client_cpu = client_cpu
        self.client_options = ()  # more of nbdload's
        self.many_clients = many_clients
        self.psk_file = os.path.join(folder, "keys.psk") if tls else None
        self.label = label
        if tls and not os.path.exists(self.psk_file):
            with open(self.psk_file, "w", encoding="ascii") as f:
                f.write(f"{PSK_USER}:{os.urandom(32).hex()}\n")
            os.chmod(self.psk_file, 0o600)

    def path(self, name):
        return os.path.join(self.folder, self.label + name)

    def image(self, kind):
        return os.path.join(self.folder, f"{kind}.img")

    def own(self, name):
        return servers.program(os.path.join(self.binaries, name))


@functools.lru_cache(maxsize=None)
def serve_help(blockmig):
    return subprocess.run([blockmig, "serve", "--help"], stdout=subprocess.PIPE, text=True,
                          check=False).stdout


def optional(blockmig, option, *values):
    """The option, if this build of ours has it."""
    return [option, *values] if option in serve_help(blockmig) else []


def blockmig_command(blockmig, image, address, state_dir, extra=()):
    return [blockmig, "serve", servers.EXPORT, "--source", image, "--listen", address,
            "--state-dir", state_dir, *extra]


def ours(plan, address, image=None, extra=("--bitmap", "bench", "--cache", "map")):
    blockmig = plan.own("blockmig")
    extra = list(extra) + optional(blockmig, "--threads", "2" if plan.cpus == BOTH_CPUS else "1")
    if plan.many_clients:
        for limit in ("connections", "connections-per-peer"):
            extra += optional(blockmig, "--limit", f"{limit}={MANY_CLIENTS}")
    if plan.psk_file:
        if "--tls-psk" not in serve_help(blockmig):
            raise servers.Unavailable("this build of blockmig has no TLS")
        extra += ["--tls-psk", plan.psk_file, "--tls", "require"]
    return blockmig_command(blockmig, image or plan.image(OURS), address,
                            plan.path("blockmig.state"), extra)


def unix_or_tcp(address, unix, tcp):
    """A peer's way to say where it listens, from format strings with {path} or {host} and {port}."""
    if address.startswith("unix:"):
        return [x.format(path=address[5:]) for x in unix]
    host, _, port = address[4:].rpartition(":")
    return [x.format(host=host, port=port) for x in tcp]


def qemu_nbd(plan, address):
    tls = ["--object", f"tls-creds-psk,id=tls0,endpoint=server,dir={plan.folder}",
           "--tls-creds", "tls0"] if plan.psk_file else []
    return [servers.program("qemu-nbd"), "-t", "-e", str(MANY_CLIENTS), "-f", "raw",
            "--cache=writeback", "--aio=threads", *tls, "-x", servers.EXPORT,
            *unix_or_tcp(address, ["-k", "{path}"], ["-b", "{host}", "-p", "{port}"]),
            plan.image("qemu-nbd")]


def qemu_storage_daemon(plan, address):
    tls = ["--object", f"tls-creds-psk,id=tls0,endpoint=server,dir={plan.folder}"]
    where = unix_or_tcp(address, ["addr.type=unix,addr.path={path}"],
                        ["addr.type=inet,addr.host={host},addr.port={port}"])[0]
    return [servers.program("qemu-storage-daemon"), *(tls if plan.psk_file else []),
            "--blockdev", "driver=file,node-name=file,cache.direct=off,aio=io_uring,filename=" +
            plan.image("qemu-storage-daemon"),
            "--blockdev", "driver=raw,node-name=raw,file=file",
            "--nbd-server", f"{where},max-connections={MANY_CLIENTS}" +
            (",tls-creds=tls0" if plan.psk_file else ""),
            "--export", f"type=nbd,id=e,node-name=raw,writable=on,name={servers.EXPORT}"]


def nbdkit(plan, address):
    tls = ["--tls=require", f"--tls-psk={plan.psk_file}"] if plan.psk_file else []
    return [servers.program("nbdkit"), "-f", *tls,
            *unix_or_tcp(address, ["-U", "{path}"], ["-i", "{host}", "-p", "{port}"]),
            "file", plan.image("nbdkit")]


def nbd_server(plan, address):
    if plan.psk_file:
        raise servers.Unavailable("nbd-server knows no pre-shared keys")
    where = unix_or_tcp(address, ["unixsock = {path}"], ["listenaddr = {host}", "port = {port}"])
    with open(plan.path("nbd-server.conf"), "w", encoding="utf-8") as f:
        f.write("\n".join(["[generic]", *where, "max_threads = 4", f"[{servers.EXPORT}]",
                           "exportname = " + plan.image("nbd-server"), "flush = true",
                           "fua = true", "trim = true", ""]))
    return [servers.program("nbd-server"), "-C", plan.path("nbd-server.conf"),
            "-p", plan.path("nbd-server.pid")]


def null_server(plan, address):
    return [plan.own("null_server"), "--listen", address, "--size", str(plan.size_bytes)]


def ours_without_store(plan, address):
    return ours(plan, address, image=NULL_SOURCE.format(size=plan.size_bytes))


def ours_portable(plan, address):
    return ours(plan, address, extra=("--bitmap", "bench", "--cache", "map", "--loop", "portable"))


COMMANDS = {OURS: ours, "qemu-nbd": qemu_nbd, "qemu-storage-daemon": qemu_storage_daemon,
            "nbdkit": nbdkit, "nbd-server": nbd_server, "null_server": null_server,
            "blockmig, null store": ours_without_store, "blockmig, portable loop": ours_portable}


def start(plan, kind, command=None):
    """A running Server; Unavailable or RuntimeError says why not."""
    name = kind.replace(" ", "-").replace(",", "")
    if plan.transport == "unix":
        address = "unix:" + plan.path(name + ".sock")
    else:
        address = f"tcp:127.0.0.1:{servers.free_port()}"
    command = command(plan, address) if command else COMMANDS[kind](plan, address)
    pid_file = plan.path("nbd-server.pid") if kind == "nbd-server" else None
    return servers.Server(kind, servers.pinned(plan.cpus, command), address,
                          plan.path(name + ".log"), pid_file)
