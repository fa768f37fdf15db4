# SPDX-License-Identifier: Apache-2.0
"""A socket that accepts and never greets, and one that does not even accept: abort ends the job at once."""
import socket

import moves
from moves import daemon

for accepts in (True, False):
    with moves.scene() as scene, socket.socket(socket.AF_UNIX) as silent:
        path = scene.path("silent.sock")
        silent.bind(path)
        silent.listen(8 if accepts else 0)
        job = scene.disk.start_migration(f"nbd+unix:///x?socket={path}", "mirror")
        scene.control_answers()
        scene.guest_goes_on()
        scene.abort_at_once(job)
