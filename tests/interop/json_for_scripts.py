# SPDX-License-Identifier: Apache-2.0
"""With -o json and jsonl, scripts get JSON in any case: errors too; as JSON lines each thing has its own."""
import json
import os

import daemon
import raw_nbd


def error(host, *words):
    """The error of a command that fails, which people see as well."""
    said = host.cli(*words)
    assert said.returncode != 0, said
    told = json.loads(said.stdout)["error"]
    assert told["code"] and told["message"], told
    assert told["message"].splitlines()[0][:20] in said.stderr, (told, said.stderr)
    return told["code"]


def lines(host, *words):
    said = host.cli(*words, "-o", "jsonl")
    assert said.returncode == 0, said.stderr
    return [json.loads(line) for line in said.stdout.splitlines()]


with daemon.scratch() as folder:
    image = daemon.make_image(os.path.join(folder, "a.img"), 8 << 20)
    with daemon.Daemon(folder, image) as server:
        for form in "json", "jsonl":
            assert error(server, "status", "job-9", "-o", form) == "not-found"
            assert error(server, "bitmap", "ls", "none", "-o", form) == "not-found"
            assert error(server, "migrate", daemon.EXPORT, "--to", "/nowhere/x.img", "-o", form) == "not-found"
            assert error(server, "verify", image, "/nowhere/x.img", "-o", form) == "not-found"
            for words in (("ls", "foo"), ("migrate", daemon.EXPORT), ("status", "--bogus"), ("verify", "a")):
                assert error(server, *words, "-o", form) == "invalid", words
            for spelt in (f"-o{form}", f"--output={form}"):
                assert error(server, "ls", "foo", spelt) == "invalid", spelt
        assert server.cli("ls", "foo").stdout == "" and server.cli("ls", "foo", "-o", "wide").stdout == ""
        clients = [raw_nbd.attached(server.socket_path) for _ in range(2)]
        assert [c["disk"] for c in lines(server, "ls", "clients")] == [daemon.EXPORT] * 2
        for name in "one", "two":
            assert server.cli("bitmap", "add", daemon.EXPORT, name).returncode == 0
        assert [b["name"] for b in lines(server, "bitmap", "ls", daemon.EXPORT)] == ["one", "two"]
        for client in clients:
            client.close()
