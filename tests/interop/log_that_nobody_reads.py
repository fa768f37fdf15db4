# SPDX-License-Identifier: Apache-2.0
"""A daemon whose log nobody reads serves its guests, answers and ends; what it could not say is counted."""
import fcntl
import os
import select
import signal
import subprocess

import daemon
import raw_nbd

PIPE_BYTES = 4096
CLIENTS = 200
BURST = 40  # of them are logged at least, then they are counted
PATIENCE = 20


def start(folder, image):
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    process = subprocess.Popen(  # pylint: disable=consider-using-with
        [daemon.built("blockmigd"), "--state-dir", folder, "--disk", "vm1=" + image, "--log", "json"],
        stdout=subprocess.DEVNULL, stderr=writer)
    os.close(writer)
    path = os.path.join(folder, "nbd.sock")
    daemon.until(lambda: daemon.greets(path), "the daemon")
    return process, reader, path


def fill_the_log(path, guest):
    """Each bad client is a line; beside them a guest goes on."""
    for i in range(CLIENTS):
        bad = raw_nbd.greeted(path, PATIENCE)
        bad.sendall(b"x" * 28)
        bad.close()
        good = raw_nbd.attached(path, "vm1", PATIENCE)
        good.close()
        guest.sendall(raw_nbd.request(raw_nbd.WRITE, i, 0, 4096, b"z" * 4096))
        assert raw_nbd.reply(guest)[0] == 0


def read_until(reader, end):
    text = b""
    while end not in text:
        assert select.select([reader], [], [], PATIENCE)[0], text[-1000:]
        text += os.read(reader, PIPE_BYTES)
    return text


def one_life(folder, image, read_on):
    process, reader, path = start(folder, image)
    try:
        guest = raw_nbd.attached(path, "vm1", PATIENCE)
        fill_the_log(path, guest)
        daemon.ok(daemon.built("blockmig"), "--state-dir", folder, "status", timeout=PATIENCE)
        guest.close()
        if read_on:
            text = read_until(reader, b"lines about refused or misbehaving clients")  # that was all
            assert text.count(b"broke the rules") >= BURST, text
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=PATIENCE) == 0
    finally:
        process.kill()
        process.wait()
        os.close(reader)


with daemon.scratch() as top:
    disk = daemon.make_image(os.path.join(top, "a.img"), 1 << 20)
    one_life(os.path.join(top, "s1"), disk, read_on=False)
    one_life(os.path.join(top, "s2"), disk, read_on=True)
