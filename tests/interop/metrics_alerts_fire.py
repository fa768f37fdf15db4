# SPDX-License-Identifier: Apache-2.0
"""The alert rules in tools/metrics, by promtool's unit tests: each alert fires on what it is about, after its time and
with its text, and neither sooner nor on what is as it should be."""
import json
import os
import re

import daemon

RULES = os.path.join(daemon.TOP, "tools/metrics/alerts.yml")
AT = {"instance": "host:9464"}
DISK = {**AT, "disk": "vm1"}


class Alert:
    """`series` are what it is about, `calm` what it is not about, and `after` its `for:` in minutes. The rest is what
    it says."""

    def __init__(self, name, severity, series, calm, after, labels, summary, description=None):
        self.name, self.series, self.calm, self.after = name, series, calm, after
        self.labels = {**labels, "severity": severity}
        self.annotations = {"summary": summary, **({"description": description} if description else {})}


def of(metric, values, **labels):
    """One series, a value a minute, in promtool's notation."""
    inner = ",".join(f'{k}="{v}"' for k, v in {**AT, **labels}.items())
    return {"series": f"{metric}{{{inner}}}", "values": values}


def latency(slow):
    """Two hundred writes a minute, so many of which took longer than a second."""
    return [of("blockmig_nbd_request_duration_seconds_bucket", f"0+{count}x60", disk="vm1", op="write", le=le)
            for le, count in (("1", 200 - slow), ("2", 200), ("+Inf", 200))]


def job(state, remaining, eta=None):
    series = [of("blockmig_migration_state", f"{int(state == each)}x60", disk="vm1", state=each)
              for each in ("running", "paused")]
    series.append(of("blockmig_migration_remaining_bytes", f"{remaining}x60", disk="vm1"))
    return series + ([of("blockmig_migration_eta_seconds", f"{eta}x60", disk="vm1")] if eta is not None else [])


def descriptors(used, ours=True):
    series = [of("process_open_fds", f"{used}x60"), of("process_max_fds", "1000x60")]
    return series + ([of("blockmig_build_info", "1x60")] if ours else [])


ALERTS = [
    Alert("BlockmigJournalFailed", "critical", [of("blockmig_journal_healthy", "0x60")],
          [[of("blockmig_journal_healthy", "1x60")]], 0, AT,
          "host:9464: the journal cannot be written, nothing is recorded or decided",
          "Disks are served on. Make room in the state folder, then restart the daemon."),
    Alert("BlockmigVerificationFailed", "critical",
          [of("blockmig_verify_mismatched_chunks_total", "1x60", disk="vm1")],
          [[of("blockmig_verify_mismatched_chunks_total", "0x60", disk="vm1")]], 0, DISK,
          "vm1: what a migration wrote is not what it read",
          "The move was not finished with that, and the disk is where it was. Its report (`blockmig status`) names the "
          "offset. Suspect the target, the network and the memory. Until the daemon is restarted."),
    Alert("BlockmigDiskLate", "critical", [of("blockmig_late_disks", "2x60")],
          [[of("blockmig_late_disks", "0x60")]], 5, AT,
          "host:9464: 2 disks are not served, because their stores are not there"),
    Alert("BlockmigDiskRefused", "critical", [of("blockmig_refused_disks", "2x60")],
          [[of("blockmig_refused_disks", "0x60")]], 0, AT,
          "host:9464: 2 disks that were served before must not be now",
          "Another daemon may own their images, or the journal is an old one: `blockmig status` says why."),
    Alert("BlockmigRequestsFail", "critical",
          [of("blockmig_nbd_errors_total", "0+1x60", disk="vm1", op="write", error="EIO")],
          [[of("blockmig_nbd_errors_total", "7x60", disk="vm1", op="write", error="EIO")]], 6,
          {**DISK, "op": "write", "error": "EIO"}, "vm1: write requests fail (EIO)"),
    Alert("BlockmigRequestsSlow", "warning", latency(slow=200), [latency(slow=1)], 11, {**DISK, "op": "write"},
          "vm1: one of a hundred write requests takes 1.99 s"),
    Alert("BlockmigMigrationFailed", "warning",
          [of("blockmig_migration_jobs_total", "0 1x59", disk="vm1", state="failed")],
          [[of("blockmig_migration_jobs_total", "1x60", disk="vm1", state="failed")],
           [of("blockmig_migration_jobs_total", "0 1x59", disk="vm1", state="done")]], 1, {**DISK, "state": "failed"},
          "vm1: a migration has failed; the disk is served from where it was"),
    Alert("BlockmigMigrationPaused", "warning", job("paused", 4096), [job("running", 4096, eta=9)], 15,
          {**DISK, "state": "paused"}, "vm1: its migration is held up; `blockmig status vm1` says why"),
    Alert("BlockmigMigrationDoesNotConverge", "warning", job("running", 4096),
          [job("running", 4096, eta=9), job("running", 0)], 15, {**DISK, "state": "running"},
          "vm1: no end of its migration is in sight"),
    Alert("BlockmigClientsRefused", "warning",
          [of("blockmig_nbd_refused_connections_total", "0+1x60", reason="too-many-connections")],
          [[of("blockmig_nbd_refused_connections_total", "0+1x60", reason="tls-required")],
           [of("blockmig_nbd_refused_connections_total", "5x60", reason="too-many-connections")]], 1,
          {**AT, "reason": "too-many-connections"},
          "host:9464: clients are refused (too-many-connections); see `blockmig help limits`"),
    Alert("BlockmigDescriptorsRunOut", "warning", descriptors(901),
          [descriptors(900), descriptors(950, ours=False)], 5, AT,
          "host:9464: nine tenths of the files that may be open are (`LimitNOFILE=`)"),
    Alert("BlockmigMetricsStale", "warning", [of("blockmig_metrics_stale", "1x60")],
          [[of("blockmig_metrics_stale", "0x60")]], 5, AT,
          "host:9464: the daemon is too busy to answer scrapes in time"),
]


def ask(minutes, alert, fires):
    expected = [{"exp_labels": alert.labels, "exp_annotations": alert.annotations}] if fires else []
    return {"eval_time": f"{minutes}m", "alertname": alert.name, "exp_alerts": expected}


def cases(alert):
    moments = [ask(alert.after, alert, True)]
    if alert.after > 0:
        moments.append(ask(alert.after - 1, alert, False))
    yield {"interval": "1m", "input_series": alert.series, "alert_rule_test": moments}
    for calm in alert.calm:
        yield {"interval": "1m", "input_series": calm, "alert_rule_test": [ask(50, alert, False)]}


with open(RULES, encoding="utf-8") as f:
    defined = re.findall(r"^\s*- alert: (\w+)$", f.read(), re.MULTILINE)
assert sorted(defined) == sorted(alert.name for alert in ALERTS), "an alert without a case, or a case without an alert"
daemon.need("promtool")
with daemon.scratch() as folder:
    path = os.path.join(folder, "tests.yml")
    with open(path, "w", encoding="utf-8") as f:
        tests = [case for alert in ALERTS for case in cases(alert)]
        json.dump({"rule_files": [RULES], "evaluation_interval": "1m", "tests": tests}, f)  # JSON is YAML
    daemon.ok("promtool", "test", "rules", path)
