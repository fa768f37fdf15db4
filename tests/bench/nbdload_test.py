#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""nbdload and null_server as programs: nbdload_test.py FOLDER-OF-PROGRAMS"""
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import unittest

sys.dont_write_bytecode = True
import peers  # noqa: E402
import servers  # noqa: E402
import syscalls  # noqa: E402

BINARIES = sys.argv.pop() if len(sys.argv) > 1 else "."


class Programs(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory(prefix="blockmig-nbdload-")
        self.addCleanup(self.folder.cleanup)

    def serve(self, kind, **plan):
        plan = peers.Plan(BINARIES, self.folder.name, 64 << 20, cpus=None, **plan)
        if "null" not in kind:
            with open(plan.image(kind), "wb") as f:
                f.truncate(plan.size_bytes)
        server = peers.start(plan, kind)
        self.addCleanup(server.stop)
        return server

    SOME = ("--count", "100", "--seconds", "30", "--warmup", "0")  # however slow the machine is
    MANY = ("--count", "3000", "--seconds", "30", "--warmup", "0")  # several for each block of 1 MiB

    def load(self, address, *arguments, code=0):
        """What nbdload printed; on failure its complaint."""
        run = subprocess.run([os.path.join(BINARIES, "nbdload"), "--connect", address, "--export",
                              servers.EXPORT, "--seconds", "0.1", "--warmup", "0.02", *arguments],
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60,
                             check=False)
        self.assertEqual(run.returncode, code, run.stderr)
        return json.loads(run.stdout) if run.stdout else run.stderr

    def test_loads_over_a_unix_socket_and_over_tcp(self):
        for transport in ("unix", "tcp"):
            server = self.serve("null_server", transport=transport)
            for op in ("read", "write", "mix", "seqread", "seqwrite"):
                out = self.load(server.address, "--op", op, *self.SOME)
                self.assertGreater(out["requests"], 0)
                self.assertEqual(out["errors"], 0)

    def test_a_thousand_connections_all_work(self):
        server = self.serve("null_server")
        out = self.load(server.address, "--connections", "1000", "--depth", "1", "--count", "5000",
                        "--seconds", "30")
        self.assertEqual(out["connections"], 1000)
        self.assertEqual(out["issued"], 5000)

    def test_threads_share_the_connections(self):
        server = self.serve("null_server")
        out = self.load(server.address, "--connections", "5", "--threads", "2", "--seconds", "2")
        self.assertGreater(out["requests"], 0)
        self.assertIn("--threads", self.load(server.address, "--threads", "2", code=2))

    def test_spinning_works_like_sleeping(self):
        server = self.serve("null_server")
        out = self.load(server.address, "--spin", "50", "--depth", "1", *self.SOME)
        self.assertGreater(out["requests"], 0)

    def test_a_count_is_exact(self):
        server = self.serve("null_server")
        self.assertEqual(self.load(server.address, "--count", "777", "--seconds", "30")["issued"], 777)

    def test_a_server_that_forgets_writes_is_found_out(self):
        server = self.serve("null_server")
        out = self.load(server.address, "--op", "mix", "--verify", "--range", "1M", *self.MANY, code=1)
        self.assertGreater(out["mismatches"], 0)

    def test_a_server_that_keeps_them_is_not(self):
        server = self.serve("nbdkit")
        out = self.load(server.address, "--op", "mix", "--verify", "--range", "1M", *self.MANY)
        self.assertGreater(out["verified"], 0)
        self.assertEqual(out["mismatches"], 0)

    def test_tls_keeps_the_data_right(self):
        server = self.serve("nbdkit", transport="tcp", tls=True)
        keys = os.path.join(self.folder.name, "keys.psk")
        for block, connections in (("4k", "1"), ("1M", "1"), ("64k", "4")):
            verify = ("--verify", "--range", "32M") if connections == "1" else ()
            out = self.load(server.address, "--tls-psk", keys, "--op", "mix", "--block", block,
                            "--connections", connections, *verify, *self.SOME)
            self.assertIn("TLS1.3", out["tls"])
            self.assertGreater(out["requests"], 0)
        self.assertIn("refused", self.load(server.address, code=1))

    def test_a_wrong_key_is_refused(self):
        server = self.serve("nbdkit", transport="tcp", tls=True)
        keys = os.path.join(self.folder.name, "wrong.psk")
        with open(keys, "w", encoding="ascii") as f:
            f.write(f"{peers.PSK_USER}:{'00' * 32}\n")
        self.assertIn("TLS", self.load(server.address, "--tls-psk", keys, code=1))

    def test_nobody_there_is_said(self):
        self.assertIn("connect", self.load(f"unix:{self.folder.name}/nobody.sock", code=1))

    def test_a_signal_ends_a_recorded_run_with_its_figures(self):
        server = self.serve("null_server")
        record = os.path.join(self.folder.name, "record")
        with subprocess.Popen([os.path.join(BINARIES, "nbdload"), "--connect", server.address, "--export",
                               servers.EXPORT, "--seconds", "600", "--warmup", "0", "--rate", "500",
                               "--record", record], stdout=subprocess.PIPE, text=True) as load:
            time.sleep(0.5)
            load.send_signal(signal.SIGTERM)
            out = json.loads(load.communicate(timeout=60)[0])
        self.assertEqual(load.returncode, 0)
        self.assertEqual(os.path.getsize(record), out["requests"] * 8)
        self.assertGreater(out["requests"], 0)
        # No more than the rate allows, of the time that it had, and a full queue.
        self.assertLessEqual(out["requests"], 500 * out["seconds"] + 32)

    def test_a_stopped_server_is_gone(self):
        server = self.serve("nbdkit")
        server.freeze()
        server.stop()
        self.assertFalse(server.running())

    def test_a_process_per_client_is_billed_when_it_has_ended(self):
        try:
            server = self.serve("nbd-server")
        except servers.Unavailable as e:
            self.skipTest(str(e))
        before = server.cpu_seconds()
        for _ in range(3):  # the server reaps the last client's process when the next one comes
            self.load(server.address, "--count", "20000", "--seconds", "30")
            server.rest()
        # Not after each: a tick of the clock may be all that one client costs.
        self.assertGreater(server.cpu_seconds() - before, 0)

    def test_system_calls_are_counted_by_either_program(self):
        server = self.serve("nbdkit")  # it receives, reads and sends for each request
        command = [os.path.join(BINARIES, "nbdload"), "--connect", server.address, "--count", "2000",
                   "--depth", "1", "--seconds", "60", "--warmup", "0"]
        for count in (syscalls.by_perf, syscalls.by_strace):
            with self.subTest(count.__name__):
                if count is syscalls.by_perf and not syscalls.perf_works():
                    self.skipTest("perf does not count system calls here")
                try:
                    calls, out = syscalls.during(server.pid, command, 60, count)
                except (RuntimeError, servers.Unavailable) as e:
                    if "strace" not in str(e):
                        raise
                    self.skipTest(str(e))  # ptrace may be forbidden
                self.assertEqual(out["issued"], 2000)
                self.assertGreater(calls, 3 * 2000)
                self.assertLess(calls, 20 * 2000)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers are stopped
    unittest.main()
