# SPDX-License-Identifier: Apache-2.0
"""Reads a page of metrics: not a test."""
import re

SERIES = re.compile(r'^([a-z_]+)(?:\{(.*)\})? (\S+)$')
LABEL = re.compile(r'([a-z_]+)="((?:[^"\\]|\\.)*)"(?:,|$)')


class Page:
    """A page in Prometheus' text format; a line that is none is an error."""

    def __init__(self, text):
        self.text = text
        self.types = {}
        self.series = {}
        for line in text.splitlines():
            if line.startswith("# TYPE "):
                _, _, name, kind = line.split(" ")
                assert name not in self.types, f"twice: {line}"
                self.types[name] = kind
            elif not line.startswith("#"):
                match = SERIES.match(line)
                assert match, f"no line of metrics: {line!r}"
                name, labels, value = match.groups()
                key = (name, frozenset(LABEL.findall(labels or "")))
                assert key not in self.series, f"twice: {line}"
                self.series[key] = float(value)

    def value(self, name, **labels):
        key = (name, frozenset(labels.items()))
        assert key in self.series, f"no {name} {labels} on the page:\n{self.text}"
        return self.series[key]


def scrape(disk):
    """What `blockmig metrics` prints."""
    result = disk.cli("metrics")
    assert result.returncode == 0, result.stderr
    return Page(result.stdout)
