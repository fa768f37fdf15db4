# SPDX-License-Identifier: Apache-2.0
"""The Linux kernel as our client inside TLS: nbd-client in a guest proves itself by a certificate and gives the
kernel a device whose bytes it seals; without TLS it gets none."""
import os

import daemon
import guest
import tls_credentials
from guest_nbd_client import DISK_BYTES, NETWORK, ONE_WAY, digest

PART_BYTES = 4 << 20
FILES = ("client-cert.pem", "client-key.pem", "ca-cert.pem")
OPTIONS = ("-N disk0 -enable-tls -certfile /tls/client-cert.pem -keyfile /tls/client-key.pem "
           "-cacertfile /tls/ca-cert.pem -tlshostname localhost")
REFUSED = """
if nbd-client 10.0.2.2 {port} /dev/nbd0 -N disk0; then echo "guest: let in without TLS"; exit 1; fi
"""


def credentials(folder):
    """Shell commands that write them in the guest."""
    lines = ["mkdir /tls"]
    for name in FILES:
        with open(os.path.join(folder, name), encoding="ascii") as f:
            lines.append(f"cat > /tls/{name} <<'END'\n{f.read()}END")
    return "\n".join(lines) + "\n"


def main():
    guest.kernel()
    with daemon.scratch() as folder:
        pki = tls_credentials.Pki(folder)
        image = os.path.join(folder, "disk0.img")
        with open(image, "wb") as f:
            f.truncate(DISK_BYTES)
        with daemon.Daemon(folder, image, listen="tcp:127.0.0.1:0",
                           extra=("--tls", "require", "--tls-certs", pki.server)) as server:
            port = tls_credentials.tcp_port(server)
            blocks = PART_BYTES // 65536
            script = NETWORK + credentials(pki.client("guest")) + REFUSED.format(port=port) + ONE_WAY.format(
                name="tls", port=port, options=OPTIONS, count=blocks, seek=3 * blocks)
            with guest.Guest(folder, script, ["nbd-client"], ["virtio_pci", "virtio_net", "nbd"],
                             qemu=["-nic", "user,model=virtio-net-pci"]) as g:
                written = guest.sums(g.finish())
            daemon.until(lambda: not server.get("/v1/clients")["clients"], "the guest's connection to end")
            came = [line for line in server.log().splitlines() if " connected" in line]
            assert came and all("TLS1." in line and "guest" in line for line in came), came
        assert digest(image, 3 * PART_BYTES, PART_BYTES) == written["/tmp/tls"]


if __name__ == "__main__":
    main()
