#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The figures of the report: what it makes of given runs, without running anything."""
import os
import subprocess
import sys
import tempfile
import unittest
import unittest.mock
import xml.etree.ElementTree

sys.dont_write_bytecode = True
import cells  # noqa: E402
import control  # noqa: E402
import direct  # noqa: E402
import live  # noqa: E402
import peers  # noqa: E402
import plots  # noqa: E402
import render  # noqa: E402
import scaling  # noqa: E402
import second_core  # noqa: E402
import serving  # noqa: E402
import svg  # noqa: E402
import syscalls  # noqa: E402
import unmeasured  # noqa: E402
import verdict  # noqa: E402

CELL = cells.Cell("4 KiB random read, depth 16", ("--op", "read"), 2, 3)


def run(iops, cpu=2.0):
    return {"iops": iops, "mb_per_second": iops * 4096 / 1e6, "p50_us": 10, "p99_us": 20,
            "server_cpu_us_per_request": cpu, "client_cpu_us_per_request": 1.0, "tls": ""}


def measured(pairs, **changes):
    """Pairs of rates per peer."""
    pairs = {peer: [(run(a), run(b)) for a, b in rates] for peer, rates in pairs.items()}
    runs = {"blockmig": [a for by in pairs.values() for a, _ in by],
            **{peer: [b for _, b in by] for peer, by in pairs.items()}}
    return {"ours": "blockmig", "pairs": pairs, "runs": runs, "syscalls": {}, "failures": {}, **changes}


def row(pairs, cell=CELL, **changes):
    return verdict.summarise(cell, measured(pairs, **changes))


class Verdicts(unittest.TestCase):
    def test_the_figure_is_the_median_of_the_pairs_ratios_not_the_ratio_of_medians(self):
        # the machine slows down by half in the middle of the run
        self.assertEqual(row({"nbdkit": [(400, 100), (200, 100), (200, 50)]})["value"], 4)

    def test_the_best_peer_is_the_one_with_the_lowest_ratio(self):
        r = row({"qemu-nbd": [(300, 100)], "nbdkit": [(300, 200)], "nbd-server": [(300, 150)]})
        self.assertEqual((r["best"], r["value"], r["verdict"]), ("nbdkit", 1.5, "missed"))

    def test_a_target_is_met_when_it_is_reached(self):
        self.assertEqual(row({"nbdkit": [(200, 100)]})["verdict"], "met")
        self.assertEqual(row({"nbdkit": [(199, 100)]})["verdict"], "missed")

    def test_a_peer_that_failed_has_no_say_and_is_named(self):
        r = row({"nbdkit": [(300, 900)], "qemu-nbd": [(300, 100)]}, failures={"nbdkit": "it died"})
        self.assertEqual((r["best"], r["value"]), ("qemu-nbd", 3))
        self.assertNotIn("nbdkit", r["servers"])
        self.assertIn("nbdkit", " ".join(render.failed({"rows": [r]})))

    def test_without_any_peer_nothing_is_claimed(self):
        r = row({"nbdkit": []})
        self.assertEqual((r["best"], r["value"], r["verdict"]), (None, None, "not measured"))
        self.assertEqual(verdict.settled([r]), (0, 1))

    def test_a_failure_of_ours_is_not_hidden_by_earlier_pairs(self):
        r = row({"nbdkit": [(300, 100)]}, failures={"blockmig": "it died"})
        self.assertEqual(r["verdict"], "not measured")

    def test_a_thousand_connections_are_held_against_sixteen_round_by_round(self):
        rates = {"blockmig": {1: [9], 2: [9], 16: [100, 50], 1000: [80, 40]}}
        out = scaling.summarise(rates, "blockmig")
        self.assertEqual((out["value"], out["verdict"]), (0.8, "met"))
        rates["blockmig"][1000] = []
        self.assertEqual(scaling.summarise(rates, "blockmig")["verdict"], "not measured")


class Targets(unittest.TestCase):
    def test_every_cell_of_the_table_is_there_with_its_target(self):
        must = {c.name: c.must for c in cells.SERVE}
        for op in ("read", "write"):
            for depth, ratio in ((1, 1.3), (16, 2), (64, 3)):
                self.assertEqual(must[f"4 KiB random {op}, depth {depth}"], ratio)
            self.assertEqual(must[f"64 KiB random {op}, depth 16"], 1.3)
            self.assertEqual(must[f"1 MiB sequential {op}, depth 8"], 1.4)
        self.assertEqual(must["4 KiB random 70/30 mix, depth 16"], 2)
        self.assertEqual(len(must), 11)

    def test_tcp_has_the_same_cells(self):
        self.assertEqual([c.name for c in cells.TCP], [c.name for c in cells.SERVE])
        self.assertEqual({c.must for c in cells.TCP}, {1.0})

    def test_cells_are_chosen_by_name_before_quick(self):
        self.assertEqual(len(cells.chosen(cells.SERVE, False, None)), 11)
        self.assertLess(len(cells.chosen(cells.SERVE, True, None)), 11)
        self.assertEqual([c.name for c in cells.chosen(cells.SERVE, True, ["64 KiB random write"])],
                         ["64 KiB random write, depth 16"])
        self.assertEqual(len(cells.chosen(cells.SERVE, False, ["4 KiB random read, depth 1"])), 1)


def runs(*rates):
    return tuple({"iops": rate} for rate in rates)


class Direct(unittest.TestCase):
    def test_fio_and_the_sockets_in_series_are_told_beside_the_ratio(self):
        told = direct.row(CELL, [{"0": runs(60, 100, 300)}])
        self.assertEqual(told["value"], 0.6)
        self.assertAlmostEqual(told["in_series"], 75)

    def test_each_counts_with_its_better_processor(self):
        rounds = [{"0": runs(60, 100, 300), "1": runs(80, 90, 100)}, {"0": runs(70, 100, 300), "1": runs(60, 70, 100)},
                  {"0": runs(60, 100, 300), "1": runs(80, 90, 100)}]
        told = direct.row(CELL, rounds)
        self.assertEqual((told["ours"], told["fio"]), (80, 100))
        self.assertEqual(told["value"], 0.8)
        self.assertAlmostEqual(told["in_series"], 75)


class Counts(unittest.TestCase):
    def test_perf_and_strace_are_read(self):
        self.assertEqual(syscalls.parse_perf("# started\n\n1234,,raw_syscalls:sys_enter,99,100.00,,\n"), 1234)
        self.assertIsNone(syscalls.parse_perf("<not supported>,,raw_syscalls:sys_enter,0,100.00,,\n"))
        self.assertEqual(syscalls.parse_strace("     7 read\n--------- ----\n   29 total\n"), 29)
        self.assertIsNone(syscalls.parse_strace(""))


def whole():
    """Data of a run with one part of each kind."""
    rows = [row({"nbdkit": [(300, 100)], "qemu-nbd": [(300, 200)]}),
            row({"nbdkit": []}, cell=CELL._replace(name="a <b> & \"c\""))]
    part = {"rows": rows, "commands": {"blockmig": "serve /x/y"}, "failures": {"nbd-server": "gone"},
            "arguments": {CELL.name: "--op read"}}
    return {"command": "report", "environment": {"kernel": "6"}, "pairs": 1, "seconds": 1, "folder": "/x",
            "piece_bytes": 4096, "serve": part, "limit": part,
            "scale": scaling.summarise({"blockmig": {1: [1], 2: [2], 16: [10], 1000: [3]}}, "blockmig") |
            {"failures": {}},
            "second": {"rows": [second_core.summarise(CELL._replace(must=0.95), {
                "blockmig": [(100, 150), (100, 170), (100, 160)], "null_server": [(100, 200)]},
                "blockmig", "null_server") | {"failures": {}}], "failures": {}},
            "direct": {"rows": [{"cell": "d", "must": 0.95, "value": 0.5, "verdict": "missed", "ours": 1,
                                 "fio": 2, "in_series": 1.5}], "failures": {}},
            "tracking": {"cell": "t", "value": 0.98, "must": 0.99, "verdict": "missed", "cpu": 1.0},
            "memory": [{"case": "c", "bytes": 2 << 20, "flat_bytes": 1 << 20}]}


def live_run(seconds=1.0, iops=100.0, stall=5.0, converged=True):
    return {"seconds": seconds, "iops": iops, "stall_ms": stall if converged else None,
            "converged": converged, "copied": 1.0, "share": 0.5, "p99_ms": 2.0, "p99_ms_before": 1.0,
            "longest_ms": 9.0}


def live_row(ours, background, blocking):
    runs = {who: ours for who, _ in live.MODES}
    runs |= {live.PEER + " background": background, live.PEER + " write-blocking": blocking}
    return {"name": "work", "bytes": 1 << 30, "arguments": "--op mix", "downtime_ms": 10, "failures": {},
            "runs": runs}


class LiveMoves(unittest.TestCase):
    def judged(self, ours, peer, who="blockmig mirror"):
        rival = dict(live.MODES)[who]
        return live.judge(live_row(ours, peer, peer), who, rival)["verdicts"]

    def test_better_in_everything_meets_every_goal(self):
        verdicts = self.judged([live_run()], [live_run(2, 50, 20)])
        self.assertEqual(verdicts, dict.fromkeys(live.GOALS, True))

    def test_each_goal_can_be_missed_alone(self):
        for goal, ours in (("stall", live_run(stall=10.1)), ("stall", live_run(stall=9)),
                           ("guest", live_run(iops=49)), ("time", live_run(seconds=2.1))):
            peer = live_run(2, 50, 8 if ours["stall_ms"] == 9 else 20)
            verdicts = self.judged([ours], [peer])
            self.assertEqual([g for g, met in verdicts.items() if not met], [goal])

    def test_a_mirror_must_end_where_the_peer_does_not(self):
        never = live_run(30, converged=False)
        self.assertFalse(self.judged([never], [never])["converges"])
        self.assertTrue(self.judged([never], [never], "blockmig dbt")["converges"])
        self.assertTrue(all(self.judged([live_run(29)], [never]).values()))

    def test_what_the_guest_saw_is_told_apart_by_time(self):
        requests = [(t / 10, 0.001) for t in range(10)] + [(1.2, 0.005), (1.6, 0.05), (1.95, 0.002)]
        out = live.figures(requests, {"begin": 1.0, "end": 2.0, "switch": 1.8, "bytes": 50,
                                      "converged": True, "job": {}}, 100)
        self.assertAlmostEqual(out["stall_ms"], 2)
        self.assertAlmostEqual(out["longest_ms"], 50)
        self.assertAlmostEqual(out["p99_ms_before"], 1)
        self.assertEqual((out["iops"], out["copied"]), (3, 0.5))

    def test_the_report_shows_rows_verdicts_and_failures(self):
        never = live_run(30, converged=False)
        row = live_row([live_run()], [never], [live_run(2, 50, 20)]) | {"failures": {"x": "broke"}}
        text = render.markdown(whole() | {"live": {"filesystem": "tmpfs", "rows": [row]}}, {})
        for expected in ("### work, 1024 MiB", "| never |", "not measured: x: `broke`",
                         "| live, work | 12 of 12 | - |"):
            self.assertIn(expected, text)


class AtRest(unittest.TestCase):
    def test_the_report_shows_what_was_measured(self):
        sparse = {"disk": "16 TiB sparse", "mode": "dbt", "first_byte": 0.01, "seconds": 0.5,
                  "peak_bytes": 30 << 20, "moved_bytes": 1 << 30, "saved_bytes": 15 << 40}
        shared = {"scenario": "nothing", "mode": "shared", "switched": 0.2, "first_read_ms": 0.1,
                  "moved_bytes": 1 << 28, "read_seconds": 0}
        text = render.markdown(whole() | {"sparse": {"bytes": 1 << 30, "rows": [sparse]},
                                          "shared": {"bytes": 1 << 30, "rows": [shared]}}, {})
        self.assertIn("| 16 TiB sparse | dbt | 0.010 | 0.50 | 30 | 1,024 | 15,728,640 |", text)
        self.assertIn("| nothing | shared | 0.200 | 0.100 | 256 | 25% | 0.00 |", text)

    def test_where_no_such_file_can_be_it_says_so(self):
        text = render.markdown(whole() | {"sparse": {"bytes": 1, "rows": None}}, {})
        self.assertIn("no file of that size", text)


class Unmeasured(unittest.TestCase):
    """What the exit code of the report says."""

    def test_verdicts_and_missing_peers_are_no_failure(self):
        rows = [row({"nbdkit": [(100, 100)]}, failures={"qemu-nbd": "not there"})]
        self.assertEqual(rows[0]["verdict"], "missed")
        scale = scaling.summarise({"blockmig": {1: [1], 2: [2], 16: [10], 1000: [3]}}, "blockmig")
        live_rows = [live_row([live_run()], [live_run(30, converged=False)], []) |
                     {"failures": {live.PEER + " write-blocking": "died"}}]
        self.assertEqual(unmeasured.of_ours({
            "serve": {"rows": rows}, "scale": scale | {"failures": {"nbdkit": "gone"}},
            "direct": {"rows": [], "failures": {"fio": "not there"}}, "tracking": {"failures": {}},
            "memory": [{"case": "c"}], "move": {"times": {"cp": [1], "blockmig dbt": [2]}},
            "live": {"rows": live_rows}, "sparse": {"rows": None}}), [])

    def test_each_part_without_figures_of_ours_is_named_with_its_reason(self):
        dead = row({"nbdkit": [(300, 100)]}, failures={"blockmig": "it died"})
        scale = scaling.summarise({"blockmig": {1: [1], 2: [2], 16: [10], 1000: []}}, "blockmig")
        lost = live_row([], [live_run()], []) | {"failures": {"blockmig mirror": "it died"}}
        gone = {"failures": {"blockmig": "it died"}}
        for part, measured_part, expected in (
                ("tls", {"rows": [dead]}, "it died"), ("serve", {"rows": [row({"nbdkit": []})]}, "no run"),
                ("scale", scale | {"failures": {"blockmig, 1000 connections": "it died"}}, "1000 connections: it died"),
                ("scale", {"rows": []} | gone, "it died"), ("direct", {"rows": []} | gone, "it died"),
                ("tracking", {"failures": {"tracking": "it died"}}, "it died"), ("memory", None, "no figures"),
                ("move", {"times": {"cp": [1]}}, "no move"), ("live", {"rows": [lost]}, "mirror: it died")):
            missing = unmeasured.of_ours({part: measured_part})
            self.assertTrue(missing and missing[0].startswith(part) and expected in " ".join(missing), (part, missing))

    def test_ours_is_measured_where_no_peer_is(self):
        field = unittest.mock.Mock(running={"blockmig": None}, failures={"nbdkit": "not there"})
        with unittest.mock.patch.object(serving, "measure", return_value=run(100)), \
                unittest.mock.patch.object(serving, "count_syscalls", return_value=1):
            out = serving.measure_cell(field, CELL, "blockmig", 2, 1)
        self.assertEqual(unmeasured.of_ours({"serve": {"rows": [verdict.summarise(CELL, out)]}}), [])

    def test_a_report_without_our_programs_fails(self):
        parts = ("serve", "memory", "scale", "tracking", "limit")
        with tempfile.TemporaryDirectory() as nothing:
            ended = subprocess.run(
                [sys.executable, "-B", os.path.join(os.path.dirname(os.path.abspath(__file__)), "report"), "--quick",
                 "--bin", nothing, "--bytes", "65536", "--seconds", "0.01", "--peer", "nbdkit", "--cell", "depth 64",
                 *(word for part in parts for word in ("--part", part))],
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
        self.assertEqual(ended.returncode, 1, ended.stderr)
        for part in parts:
            self.assertIn(f"not measured: {part}: ", ended.stderr)


class Control(unittest.TestCase):
    def test_the_longest_answer_counts(self):
        row_ = control.summarise("target", "status", [3.0, 1.0, 100.5, 2.0])
        self.assertEqual((row_["p50_ms"], row_["max_ms"], row_["verdict"]), (3.0, 100.5, "missed"))
        self.assertEqual(control.summarise("target", "status", [100.0])["verdict"], "met")

    def test_the_report_shows_rows_verdicts_and_failures(self):
        rows = [control.summarise("target", "status", [1.5]), control.summarise("source", "pause", [200.0])]
        text = render.markdown(whole() | {"control": {"rows": rows, "failures": {"frozen nothing": "broke"}}}, {})
        for expected in ("| target | status | 1 | 1.50 | 1.5 | met |", "| control | 1 of 2 | pause, frozen source |",
                         "not measured: frozen nothing: `broke`"):
            self.assertIn(expected, text)


class Report(unittest.TestCase):
    def test_the_report_says_every_verdict(self):
        text = render.markdown(whole(), {"ratios-serve": "r.svg"})
        for expected in ("| serve | 0 of 2 |", "| scale | 0 of 1 |", "| second | 0 of 1 |",
                         "to what could be gained: 0.80", "| tracking | 0 of 1 | 0.980 |",
                         "| memory | 0 of 1 | c |", "| direct | 0 of 1 | d |", "(r.svg)", "FOLDER/y",
                         "not measured: nbd-server: `gone`", "`--op read`"):
            self.assertIn(expected, text)

    def test_every_plot_is_well_formed_and_shows_its_targets(self):
        made = plots.all_plots(whole())
        self.assertEqual(set(made), {"ratios-serve", "cpu-4k", "scaling"})
        for text in made.values():
            xml.etree.ElementTree.fromstring(text)
            self.assertIn("prefers-color-scheme: dark", text)
        self.assertEqual(made["ratios-serve"].count('class="must"'), 2)
        self.assertIn("not measured", made["ratios-serve"])

    def test_bars_are_in_proportion(self):
        text = svg.bars("t", "n", [svg.Bar("a", 1, "1"), svg.Bar("b", 4, "4")])
        widths = [float(e.get("width")) for e in xml.etree.ElementTree.fromstring(text).iter()
                  if e.tag.endswith("rect")]
        self.assertAlmostEqual(widths[1] / widths[0], 4, places=2)

    def test_grid_lines_are_few_and_round(self):
        self.assertEqual(svg.nice_step(5), 1)
        self.assertEqual(svg.nice_step(120000), 20000)

    def test_every_server_has_a_mode_that_the_report_tells(self):
        self.assertEqual(set(peers.MODES), {peers.OURS, *peers.PEERS})


if __name__ == "__main__":
    unittest.main()
