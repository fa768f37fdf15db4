# SPDX-License-Identifier: Apache-2.0
"""`blockmig verify` of a disk by its name where the daemon requires TLS: with a key or a certificate, and not without."""
import os

import daemon
import tls_credentials

with daemon.scratch() as keys_folder, daemon.scratch() as folder:
    image = daemon.make_image(os.path.join(folder, "a.img"), 4 << 20)
    other = daemon.make_image(os.path.join(folder, "b.img"), 4 << 20, seed=5)
    keys = tls_credentials.keys(keys_folder, "alice", "bob")
    with daemon.Daemon(folder, image, extra=("--tls-psk", keys, "--tls", "require")) as disk:
        said = ("--tls-user", "bob", "--tls-psk-file", keys)
        equal = disk.cli("verify", daemon.EXPORT, image, *said)
        assert equal.returncode == 0 and equal.stdout.startswith("equal"), equal
        assert disk.cli("verify", daemon.EXPORT, other, *said).returncode == 6
        assert disk.cli("verify", daemon.EXPORT, image).returncode not in (0, 6)
        stranger = tls_credentials.keys(keys_folder, "bob", name="other.psk")
        refused = disk.cli("verify", daemon.EXPORT, image, "--tls-user", "bob", "--tls-psk-file", stranger)
        assert refused.returncode not in (0, 6), refused
