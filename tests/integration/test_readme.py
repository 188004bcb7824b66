"""The README's tables of settings are what the programs print, its SQLSTATEs are those of the migrations, its links lead somewhere.

`SAGAPOST_BUILD=... /usr/bin/python3 tests/integration/test_readme.py` writes the tables of settings anew."""

import fnmatch
import pathlib
import re
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from harness.sandbox import PROGRAMS, ROOT  # noqa: E402
from harness.wait import patient  # noqa: E402

README = ROOT / "README.md"
HEADINGS = "| setting | allowed | default | on HUP | what it is |\n| --- | --- | --- | --- | --- |\n"


def rows_of(program):
    said = subprocess.run([PROGRAMS[program], "--help=markdown"], stdout=subprocess.PIPE, text=True, check=True, timeout=patient(30)).stdout
    return [line for line in said.splitlines() if line.startswith("| `")]


def tables():
    """What stands between the markers: what several programs share is written once."""
    rows = {program: rows_of(program) for program in PROGRAMS}
    every = [row for row in rows["outbox-relay"] if all(row in rows[program] for program in PROGRAMS)]
    daemons = [row for row in rows["outbox-relay"] if row in rows["saga-worker"] and row not in every]
    text = ""
    for title, chosen in (
        ("All programs", every),
        ("`outbox-relay` and `saga-worker`", daemons),
        *((f"`{program}`", [row for row in rows[program] if row not in every + daemons]) for program in PROGRAMS),
    ):
        text += f"\n**{title}**\n\n{HEADINGS}" + "".join(row + "\n" for row in chosen)
    return text + "\n"


def split_at_markers(text):
    before, _, rest = text.partition("<!-- settings -->\n")
    between, _, after = rest.partition("<!-- /settings -->")
    return before, between, after


def test_settings():
    assert split_at_markers(README.read_text())[1] == tables()


def test_every_sqlstate_is_in_the_table():
    """By its number, or inside a range; and a number that the table gives is raised somewhere."""
    table = README.read_text().split("<!-- sqlstates -->")[1].split("<!-- /sqlstates -->")[0]
    ranges = [(int(first), int(last)) for first, last in re.findall(r"`SG(\d{3})` to `SG(\d{3})`", table)]
    named = {int(number) for number in re.findall(r"`SG(\d{3})`", table)}
    raised = set()
    for path in (ROOT / "migrations").glob("*.sql"):
        raised |= {int(number) for number in re.findall(r"'SG(\d{3})'", path.read_text())}
    raised -= {299}  # raised and caught inside saga.execute_batch
    missing = {number for number in raised - named if not any(first <= number <= last for first, last in ranges)}
    assert not missing and named <= raised, (missing, named - raised)


def test_every_link_leads_somewhere():
    for readme in ROOT.glob("**/README.md"):
        if "build" in readme.parts:
            continue
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", readme.read_text()):
            assert (readme.parent / target).exists(), f"{readme}: {target}"


def spans(text):
    """The numbers of `0007_saga to 0010_publish`."""
    return {number for first, last in re.findall(r"(\d{4})_\w+ to (\d{4})_\w+", text) for number in range(int(first), int(last) + 1)}


def test_every_readme_names_its_files():
    """A line for each file, by its name, as `name.[ch]`, or `name.c` for name_private.h too."""
    missing = []
    for readme in ROOT.glob("**/README.md"):
        if "build" in readme.relative_to(ROOT).parts:
            continue
        text = readme.read_text()
        for file in sorted(readme.parent.iterdir()):
            if not file.is_file() or file.suffix not in (".c", ".h", ".py", ".sh", ".sql", ".yml", ".yaml", ".js") or file.name.startswith("."):
                continue
            stem = file.stem.removesuffix("_private") if file.suffix == ".h" else file.stem
            is_of_many = file.stem[:4].isdigit() and int(file.stem[:4]) in spans(text)
            is_of_many = is_of_many or any(fnmatch.fnmatch(file.name, name) for name in re.findall(r"`(\w+_\*\.\w+)`", text))
            if not is_of_many and file.name not in text and not re.search(rf"\b{re.escape(stem)}(\.\[ch\]|\.c\b|\b)", text):
                missing.append(str(file.relative_to(ROOT)))
    assert not missing, missing


if __name__ == "__main__":
    before, _, after = split_at_markers(README.read_text())
    README.write_text(f"{before}<!-- settings -->\n{tables()}<!-- /settings -->{after}")
