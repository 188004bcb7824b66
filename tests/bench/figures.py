"""How the figures are told: medians with least and most, and one line per goal."""

import statistics


def figures(values, digits=2):
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


class Report:
    """Prints as it goes; `summary` says it all again, below each other."""

    def __init__(self):
        self.lines = []

    def goal(self, name, goal, values, met, unit="", digits=2):
        """One line of the report; `goal` None: a figure that has none."""
        told = "" if goal is None else "met" if met else "NOT MET"
        line = f"{name:70} {'' if goal is None else 'goal ' + goal:>15}  measured {figures(values, digits)}{unit}  {told}".rstrip()
        print(line, flush=True)
        self.lines.append(line)

    def figure(self, name, values, unit="", digits=2):
        self.goal(name, None, values, None, unit, digits)

    @staticmethod
    def note(text):
        print(f"  {text}", flush=True)

    def summary(self):
        print("\n" + "\n".join(self.lines), flush=True)
