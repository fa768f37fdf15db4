# SPDX-License-Identifier: Apache-2.0
"""What the dashboard and the alert rules in tools/metrics name is on the page: each metric, with each label."""
import json
import os
import re

import daemon
import metrics
import served

FOLDER = os.path.join(daemon.TOP, "tools/metrics")
NAME = re.compile(r"\b(?:blockmig|process)_[a-z_]+\b")
# metric{label="x",…}, as far as the label's name
SELECTOR = re.compile(r"\b((?:blockmig|process)_[a-z_]+)\{([^{}]*)\}")
PROMETHEUS_OWN = {"instance", "job", "le"}
RULES = 8  # at least, and so many panels: an empty file would pass everything else


def dashboard():
    """The expressions of its panels, and of the variables that fill them."""
    with open(os.path.join(FOLDER, "dashboard.json"), encoding="utf-8") as f:
        page = json.load(f)
    ids = [panel["id"] for panel in page["panels"]]
    assert len(set(ids)) == len(ids) > RULES, ids
    expressions = [target["expr"] for panel in page["panels"] for target in panel.get("targets", [])]
    return expressions + [v["query"] for v in page["templating"]["list"] if v["type"] == "query"]


def alerts():
    with open(os.path.join(FOLDER, "alerts.yml"), encoding="utf-8") as f:
        text = "".join(line for line in f if not line.lstrip().startswith("#"))
    assert text.count("- alert:") > RULES
    return [text]


def family(name, page):
    """Of a histogram's series, the histogram."""
    for suffix in ("_bucket", "_sum", "_count"):
        base = name[:-len(suffix)] if name.endswith(suffix) else ""
        if page.types.get(base) == "histogram":
            return base
    return name


def check(expressions, page, labels):
    for expression in expressions:
        named = {family(name, page) for name in NAME.findall(expression)}
        assert named or "label_values" in expression, expression
        missing = named - set(page.types)
        assert not missing, f"not on the page: {missing} in {expression}"
        for name, matchers in SELECTOR.findall(expression):
            wanted = set(re.findall(r'(\w+)\s*[=!]', re.sub(r'"[^"]*"', '""', matchers))) - PROMETHEUS_OWN
            assert wanted <= labels[family(name, page)], (name, wanted, labels[family(name, page)])


def check_by_promtool():
    """Its opinion of the rules, and of every expression of the dashboard as if it were one; False: not installed."""
    if daemon.shutil.which("promtool") is None:
        return False
    daemon.ok("promtool", "check", "rules", os.path.join(FOLDER, "alerts.yml"))
    rules = [{"record": f"panel:{i}", "expr": e.replace("$__rate_interval", "5m")}
             for i, e in enumerate(dashboard()) if "label_values" not in e]
    with daemon.scratch() as folder:
        path = os.path.join(folder, "rules.yml")
        with open(path, "w", encoding="utf-8") as f:
            json.dump({"groups": [{"name": "panels", "rules": rules}]}, f)  # JSON is YAML
        daemon.ok("promtool", "check", "rules", path)
    return True


with served.served_disk(extra=("--bitmap", "daily")) as (folder, disk, image):
    daemon.nbdsh("-u", disk.uri, "-c", "h.pwrite(bytes(4096), 0)", "-c", "h.pread(512, 0)")
    job = disk.start_migration(os.path.join(folder, "b.img"), "dbt", "--bwlimit", "4MiB/s")
    daemon.until(lambda: "blockmig_migration_eta_seconds{" in disk.cli("metrics").stdout, "an end in sight")
    seen = metrics.scrape(disk)
    assert disk.cli("set", job, "bwlimit=none").returncode == 0
    disk.wait_job(job, "done")

offered = {}
for series, values in seen.series:
    offered.setdefault(family(series, seen), set()).update(label for label, _ in values)
check(dashboard(), seen, offered)
check(alerts(), seen, offered)
if not check_by_promtool():
    daemon.skip("promtool is not installed; all but its opinion was checked")
