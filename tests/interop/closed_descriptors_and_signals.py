# SPDX-License-Identifier: Apache-2.0
"""A daemon whose standard descriptors are closed logs into none of its files; SIGHUP does not end one.

`blockmig serve` in a terminal ends with it, unless it was started by nohup.
"""
import os
import signal
import subprocess
import time

import daemon

CLOSED = ("2>&-", ">&- 2>&-", "<&- >&- 2>&-", "<&-")


def answers(state):
    return daemon.run(daemon.built("blockmig"), "status", "--state-dir", state).returncode == 0


def closed_descriptors(folder, image):
    for number, redirection in enumerate(CLOSED):
        state = os.path.join(folder, f"s{number}")
        path = os.path.join(folder, f"{number}.sock")
        command = f"exec {daemon.built('blockmigd')} --state-dir {state} --listen unix:{path} " \
                  f"--disk a={image} {redirection}"
        with subprocess.Popen(["sh", "-c", command], stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL) as process:
            try:
                daemon.until(lambda p=path: daemon.greets(p), "the daemon")
                for fd in range(3):
                    where = os.readlink(f"/proc/{process.pid}/fd/{fd}")
                    assert where == "/dev/null", (redirection, fd, where)
                with open(os.path.join(state, "lock"), encoding="ascii") as lock:
                    assert lock.read().strip() == str(process.pid), "nothing but its number"
            finally:
                process.terminate()
                assert process.wait(20) == 0


def hang_ups(folder, image):
    state = os.path.join(folder, "h")
    serve = (daemon.built("blockmig"), "serve", "a", "--source", image, "--state-dir", state)
    for command, ends in (((daemon.built("blockmigd"), "--state-dir", state, "--disk", f"a={image}"), False),
                          (("nohup", *serve), False), (serve, True)):
        with daemon.Process(command, os.path.join(folder, "h.log")) as server:
            daemon.until(lambda: answers(state), "the daemon")
            server.signal(signal.SIGHUP)
            if ends:
                assert server.process.wait(20) == 0, server.log()
                continue
            time.sleep(0.3)
            assert server.alive() and answers(state), server.log()
            assert server.stop() == 0, server.log()


with daemon.scratch() as top:
    disk = daemon.make_image(os.path.join(top, "a.img"), 1 << 20)
    before = os.path.join(top, "before.img")
    daemon.ok("cp", disk, before)
    closed_descriptors(top, disk)
    hang_ups(top, disk)
    assert daemon.same(disk, before)
