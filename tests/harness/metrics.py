"""What a daemon's /metrics says, read at once: sums over series, so that figures of one moment are compared with each other."""

import re

_SERIES = re.compile(r'^(\w+)(?:\{(.*)\})? (\S+)$')
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


class Metrics:
    """One reading. `metrics("sagapost_outbox_parked", state="waiting")` is a sum; 0 when there is no such series."""

    def __init__(self, text):
        self.series, self.types, self.help = [], {}, {}
        for line in text.splitlines():
            if line.startswith("# TYPE "):
                _, _, name, kind = line.split(" ", 3)
                self.types[name] = kind
            elif line.startswith("# HELP "):
                _, _, name, words = line.split(" ", 3)
                self.help[name] = words
            else:
                name, labels, value = _SERIES.match(line).groups()
                self.series.append((name, dict(_LABEL.findall(labels or "")), float(value)))

    @classmethod
    def of(cls, daemon):
        status, text = daemon.http("/metrics")
        assert status == 200, text
        return cls(text)

    def __call__(self, name, **labels):
        return sum(value for found, its, value in self.series if found == name and labels.items() <= its.items())

    def names(self):
        """{name: names of its labels}, as one would write them in a query."""
        found = {}
        for name, labels, _ in self.series:
            found.setdefault(name, set()).update(labels)
        return found
