# SPDX-License-Identifier: Apache-2.0
"""Certificates and keys for the TLS tests, made by certtool and psktool in the test's folder.

    pki = tls_credentials.Pki(folder)
    pki.server                  a folder as servers take it, for localhost and 127.0.0.1
    pki.client("vm1")           a folder as clients take it
    keys(folder, "alice")       a file of pre-shared keys
"""
import os

import daemon

daemon.need("certtool", "psktool")


def _run_certtool(*arguments):
    daemon.ok("certtool", *arguments)


class Pki:
    """An authority and what it issues."""

    def __init__(self, folder, name="pki", with_server=True):
        self.folder = os.path.join(folder, name)
        os.makedirs(self.folder)
        self._key = self._path("ca-key.pem")
        self.certificate = self._path("ca-cert.pem")
        self._new_key(self._key)
        template = self._template("ca.info", "cn = Test CA", "ca", "cert_signing_key",
                                  "crl_signing_key", "expiration_days = 2")
        _run_certtool("--generate-self-signed", "--load-privkey", self._key, "--template", template,
                      "--outfile", self.certificate)
        self.server = self.issue("server", "server", "cn = localhost", "dns_name = localhost",
                                 "ip_address = 127.0.0.1", "tls_www_server") if with_server else None

    def _path(self, name):
        return os.path.join(self.folder, name)

    def _template(self, name, *lines):
        path = self._path(name)
        with open(path, "w", encoding="ascii") as f:
            f.write("".join(line + "\n" for line in lines))
        return path

    @staticmethod
    def _new_key(path):
        _run_certtool("--generate-privkey", "--key-type", "ecdsa", "--curve", "secp256r1",
                      "--outfile", path)

    def issue(self, folder_name, stem, *lines, days=2):
        """A folder with ca-cert.pem, STEM-cert.pem and STEM-key.pem."""
        folder = self._path(folder_name)
        os.makedirs(folder)
        key = os.path.join(folder, stem + "-key.pem")
        self._new_key(key)
        template = self._template(folder_name + ".info", *lines, "signing_key",
                                  f"expiration_days = {days}")
        _run_certtool("--generate-certificate", "--load-ca-certificate", self.certificate,
                      "--load-ca-privkey", self._key, "--load-privkey", key, "--template", template,
                      "--outfile", os.path.join(folder, stem + "-cert.pem"))
        self.trust(folder)
        return folder

    def trust(self, folder):
        """Makes a folder believe in this authority."""
        os.makedirs(folder, exist_ok=True)
        with open(self.certificate, "rb") as source, \
                open(os.path.join(folder, "ca-cert.pem"), "wb") as target:
            target.write(source.read())
        return folder

    def client(self, name):
        return self.issue("client-" + name, "client", f"cn = {name}", "organization = Example",
                          "tls_www_client")


def keys(folder, *users, name="keys.psk"):
    """A file with a key for each user."""
    path = os.path.join(folder, name)
    for user in users:
        daemon.ok("psktool", "-u", user, "-p", path)
    return path


def psk_uri(server, key_file, user="alice", export=daemon.EXPORT):
    return f"nbds+unix://{user}@/{export}?socket={server.socket_path}&tls-psk-file={key_file}"


def tcp_port(server):
    """The port that the kernel picked for `tcp:127.0.0.1:0`, from the announcement."""
    for word in server.log().split():
        if word.startswith(("nbd://127.0.0.1:", "nbds://127.0.0.1:")):
            return int(word.split(":")[2].split("/")[0])
    raise AssertionError("no TCP address in:\n" + server.log())


def refused(*command, **keywords):
    """The command must fail in order; what it said."""
    result = daemon.run(*command, timeout=30, **keywords)
    assert result.returncode not in (0, -6, -11, 134, 139), (command, result)
    return result.stdout + result.stderr
