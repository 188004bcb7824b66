"""What tests/run.sh shows of a pytest run that has failed: `pytest --digest PREFIX` writes

    PREFIX.counts    "PASSED FAILED", when the run has come to its end
    PREFIX.failed    a line for each failure: its kind, the test, the reason; failed tests before errors of set-up and teardown
    PREFIX.failures  the first few of them in full

A set-up that fails seldom fails alone, and the first cause is then in the middle of a long log."""

IN_FULL = 5
TEXT_MOST, SECTION_MOST, REASON_MOST = 6000, 2000, 200  # characters


def end_of(text, most):
    return text if len(text) <= most else f"[...{len(text) - most} characters before]\n{text[-most:]}"


def name_of(report):
    when = getattr(report, "when", "collect")
    return f"{'FAILED' if when == 'call' else 'ERROR'} {report.nodeid}" + (f" (at {when})" if when in ("setup", "teardown") else "")


def reason_of(report):
    crash = getattr(report.longrepr, "reprcrash", None)
    lines = (crash.message if crash else report.longreprtext).split("\n")
    # An exception's first line; of what has no such place, what was said last.
    said = lines[0] if crash else next((line for line in reversed(lines) if line.strip()), "")
    return said[:REASON_MOST]


def in_full(report):
    parts = [f"==== {name_of(report)}", end_of(report.longreprtext, TEXT_MOST)]
    for title, text in report.sections:
        parts += [f"---- {title}", end_of(text, SECTION_MOST)]
    return "\n".join(parts) + "\n"


def write(prefix, stats):
    """`stats`: pytest's reports by their outcome, each list in the order in which they came."""
    failed = stats.get("failed", []) + stats.get("error", [])
    # What a daemon has logged is shown when the fixtures end, which is another report of the same test.
    ends = {report.nodeid: report for reports in stats.values() for report in reports if getattr(report, "when", "") == "teardown"}
    with open(f"{prefix}.failures", "w", encoding="utf-8") as file:
        for report in failed[:IN_FULL]:
            file.write(in_full(report))
            end = ends.get(report.nodeid)
            if end and end is not report:
                file.writelines(f"---- {title}\n{end_of(text, SECTION_MOST)}\n" for title, text in end.sections if "teardown" in title)
    with open(f"{prefix}.failed", "w", encoding="utf-8") as file:
        file.writelines(f"{name_of(report)} - {reason_of(report)}\n" for report in failed)
    with open(f"{prefix}.counts", "w", encoding="utf-8") as file:
        file.write(f"{len(stats.get('passed', []))} {len(failed)}\n")
