# SPDX-License-Identifier: Apache-2.0
"""The instruments object to bad servers: lost writes, error replies, a changed image. Else no test counts."""
import json
import os

import daemon

daemon.need("nbdkit", "qemu-nbd")
SIZE = 8 << 20
LOAD = ("--count", "4000", "--warmup", "0", "--seconds", "60", "--op", "mix", "--block", "4k")
ERRORS = ("--filter=error", "memory", str(SIZE), "error-pwrite-rate=1%")


def nbdload(server, *arguments):
    result = daemon.run(daemon.built("nbdload"), "--connect", f"unix:{server.socket_path}",
                        "--export", daemon.EXPORT, *LOAD, *arguments)
    return result.returncode, json.loads(result.stdout)


def history(server):
    return daemon.run(daemon.built("history_client"), "--connect", f"unix:{server.socket_path}",
                      "--export", daemon.EXPORT, "--seconds", "0.5", "--tolerate-torn")


with daemon.scratch() as folder:
    with daemon.nbdkit(folder, "memory", str(SIZE), name="good") as good:
        code, figures = nbdload(good, "--verify")
        assert code == 0 and figures["verified"] > 1000, figures
        assert history(good).returncode == 0
    with daemon.nbdkit(folder, "null", f"size={SIZE}", name="forgets") as forgets:
        code, figures = nbdload(forgets, "--verify")
        assert code == 1 and figures["mismatches"] > 0, figures
        result = history(forgets)
        assert result.returncode == 1 and '"violations": 0' not in result.stdout, result
    with daemon.nbdkit(folder, *ERRORS, name="fails") as fails:
        code, figures = nbdload(fails)
        assert code == 1 and figures["errors"] > 0, figures
        result = history(fails)
        assert result.returncode == 1 and '"errors": 0' not in result.stdout, result
    image = daemon.make_image(os.path.join(folder, "i.img"), SIZE)
    with daemon.qemu_nbd(folder, image, name="q") as server, \
            daemon.Client(folder, server) as client:
        seen = []
        daemon.until(lambda: seen.append(client.report()["requests"]) or sum(seen) > 2000, "some writes")
        client.hold()
        assert client.check_file(image) == 0
        with open(image, "r+b") as f:
            f.seek(64 << 10)  # where requests often meet
            f.write(os.urandom(512))
        assert client.check_file(image) == 1, "one changed sector went unnoticed"
