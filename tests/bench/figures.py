"""How the figures are told: medians with least and most, and one line per goal."""

import statistics


def figures(values, digits=2):
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


class Report:
    def __init__(self):
        self.lines = []

    def goal(self, name, goal, values, met, unit=""):
        line = f"{name:58} goal {goal:>10}  measured {figures(values)}{unit}  {'met' if met else 'NOT MET'}"
        print(line, flush=True)
        self.lines.append(line)
