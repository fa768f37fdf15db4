# SPDX-License-Identifier: Apache-2.0
"""blockmig manifest: made, shown and checked; damage, replacement and a busy image are found and named."""
import json
import os
import shutil

import daemon


def manifest(verb, *arguments, code=0):
    result = daemon.run(daemon.built("blockmig"), "manifest", verb, *arguments)
    assert result.returncode == code, f"{verb} {arguments}: {result.returncode}\n{result.stderr}"
    return result


def report(verb, *arguments, code=0):
    return json.loads(manifest(verb, *arguments, "-o", "json", code=code).stdout)


def main():
    with daemon.scratch() as folder:
        image = os.path.join(folder, "vm1.img")
        with open(image, "wb") as f:
            f.truncate(5_000_000)
            f.seek(1 << 20)
            f.write(os.urandom(700_000))
        assert "manifest make" in manifest("show", image, code=4).stderr
        made = report("make", image)
        assert made["generation"] == 1 and made["unknown_chunks"] == 0, made
        assert 10 <= made["known_chunks"] <= 12, made
        equal = daemon.ok(daemon.built("blockmig"), "verify", image, image, "-o", "json")
        assert json.loads(equal)["a"]["digest"] == made["digest"]
        assert report("check", image)["wrong_chunks"] == 0
        assert report("make", image)["generation"] == 2

        with open(image, "r+b") as f:
            f.seek((1 << 20) + 70_000)
            old = f.read(1)
            f.seek(-1, os.SEEK_CUR)
            f.write(bytes([old[0] ^ 1]))
        found = report("check", image, code=6)
        assert found["wrong_chunks"] == 1 and found["first_wrong"] == (1 << 20) + 65536, found
        assert "modified" in report("show", image, code=6)["trouble"]

        report("make", image)
        shutil.copy(image, image + ".copy")
        os.rename(image + ".copy", image)
        assert "replaced" in report("check", image, code=6)["trouble"]
        assert report("check", image, "--adopt")["trouble"] == ""
        assert report("show", image)["trouble"] == ""

        with open(image + ".manifest", "r+b") as f:
            f.seek(90)
            f.write(b"?")
        assert "damaged" in manifest("show", image, code=1).stderr
        manifest("make", image, code=1)
        manifest("make", image, "--force")

        with daemon.Daemon(folder, image):
            assert "at rest" in manifest("make", image, code=5).stderr


main()
