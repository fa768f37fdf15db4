# SPDX-License-Identifier: Apache-2.0
"""history_client, many connections coming and going: no sector is ever wrong, nor in the image after."""
import daemon
import served

with served.served_disk() as (folder, server, image):
    with daemon.Client(folder, server, "--renew", "5", "--connections", "6") as client:
        daemon.until(lambda: client.clean_report()["connections_opened"] > 200, "200 connections")
        client.hold()
        assert client.check_file(image) == 0
        client.resume()
        final = client.finish()
        assert final["sectors_checked"] > served.ODD_SIZE // 512
