"""The README's table of settings is what the programs take, and its SQLSTATEs are those of the migrations."""

import re
import subprocess

from harness.sandbox import PROGRAMS, ROOT

README = (ROOT / "README.md").read_text()


def test_every_setting_is_in_the_table_and_the_other_way_round():
    table = README.split("<!-- settings")[1].split("<!-- /settings -->")[0]
    named = set(re.findall(r"^\| `([a-z-]+)` ", table, re.M))
    taken = set()
    for program in PROGRAMS:
        said = subprocess.run([PROGRAMS[program], "--help"], stdout=subprocess.PIPE, text=True, check=True, timeout=30).stdout
        taken |= set(re.findall(r"^  --([a-z-]+)", said, re.M))
    taken -= {"help", "version", "config"}
    assert named - {"config"} == taken


def test_every_sqlstate_is_in_the_table():
    table = README.split("<!-- sqlstates -->")[1].split("<!-- /sqlstates -->")[0]
    named = set(re.findall(r"`(SG\d{3})`", table))
    raised = set()
    for path in (ROOT / "migrations").glob("*.sql"):
        raised |= set(re.findall(r"'(SG\d{3})'", path.read_text()))
    assert raised <= named, raised - named
    assert named <= raised, named - raised


def test_every_link_leads_somewhere():
    for readme in ROOT.glob("**/README.md"):
        if "build" in readme.parts:
            continue
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", readme.read_text()):
            assert (readme.parent / target).exists(), f"{readme}: {target}"
