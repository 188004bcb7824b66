"""docker/monitoring: what the alert rules and the dashboard ask for is what the programs export, what compose mounts is there, and the
README's table of metrics is what the programs say of them.

`SAGAPOST_BUILD=... /usr/bin/python3 tests/integration/test_monitoring.py` writes the table anew."""

import contextlib
import json
import pathlib
import re
import subprocess
import sys

import pytest
import yaml

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from harness.daemon import Daemon  # noqa: E402
from harness.metrics import Metrics  # noqa: E402
from harness.sandbox import PROGRAMS, ROOT, Place, Sandbox  # noqa: E402
from harness.shop import Shop  # noqa: E402
from harness.wait import wait_until  # noqa: E402

FOLDER = ROOT / "docker" / "monitoring"
README = FOLDER / "README.md"

# name, then what is in braces
SELECTOR = re.compile(r"\b(sagapost_\w+)(?:\{([^}]*)\})?")
MATCHER = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"([^"]*)"')
# Labels that Prometheus itself puts to every series of a target.
OF_THE_TARGET = {"job", "instance", "le"}


def alerts():
    return [rule for group in yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"] for rule in group["rules"]]


def dashboard():
    return json.loads((FOLDER / "grafana" / "sagapost.json").read_text())


def queries():
    """(where, query) of everything that is asked for."""
    found = [(rule["alert"], rule["expr"]) for rule in alerts()]
    for panel in dashboard()["panels"]:
        found += [(panel["title"], target["expr"]) for target in panel.get("targets", [])]
    return found


def test_the_alerts_are_whole():
    names = [rule["alert"] for rule in alerts()]
    assert len(names) == len(set(names))
    for rule in alerts():
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}, rule
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert rule["annotations"]["summary"] and rule["annotations"]["description"]
        assert re.fullmatch(r"\d+[smh]", rule.get("for", "1m"))
    for subject in ("BacklogOld", "Stalled", "Parked", "NoOwner", "WorkerAbsent", "RelayAbsent", "SagasStuck", "TimersLate"):
        assert any(subject in name for name in names), subject


def test_what_texts_name_is_there():
    """Metrics that a README or an alert speaks of, commands that an alert gives to type, labels that its text is filled with."""
    known = set(re.findall(r"^\| `(sagapost_\w+)`", README.read_text(), re.MULTILINE))
    assert len(known) > 50
    for header in (ROOT / "include" / "sagapost").glob("*.h"):
        known |= set(re.findall(r"\bsagapost_\w+", header.read_text()))
    texts = {path: path.read_text() for path in ROOT.glob("**/README.md") if "build" not in path.parts}
    texts[FOLDER / "alerts.yml"] = "\n".join(" ".join(rule["annotations"].values()) for rule in alerts())
    for path, text in texts.items():
        for name in re.findall(r"\bsagapost_(?:outbox|saga|inbox)_[a-z_]*[a-z]\b", text):
            assert re.sub("_(bucket|sum|count)$", "", name) in known, (path, name)
    usage = subprocess.run([PROGRAMS["sagapost"], "--help"], stdout=subprocess.PIPE, text=True, check=True, timeout=30).stdout
    commands = re.findall(r"^  ((?:[a-z-]+ )+) *", usage, re.MULTILINE)
    for rule in alerts():
        said = " ".join(rule["annotations"].values())
        for words in re.findall(r"\bsagapost ((?:[a-z]+ ?)+)", said):
            assert any(f"{words} ".startswith(command.split("  ")[0].strip() + " ") for command in commands), (rule["alert"], words)
        for label in re.findall(r"\$labels\.(\w+)", said):
            assert re.search(rf"\bby \([^)]*\b{label}\b", rule["expr"]), (rule["alert"], label)


def test_the_dashboard_is_whole():
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert max(x for x, _ in cells) < 24 and not cells & taken, panel["title"]
        taken |= cells
        assert panel["type"] == "row" or panel["targets"]
        assert all(target["datasource"]["uid"] == "${datasource}" for target in panel.get("targets", []))


@pytest.mark.parametrize("where, query", queries())
def test_brackets_close_and_counters_are_used_as_such(where, query):
    opened = []
    for character in re.sub(r'"[^"]*"', "", query):
        if character in "([{":
            opened.append(character)
        elif character in ")]}":
            assert opened and opened.pop() + character in ("()", "[]", "{}"), where
    assert not opened, where
    # A counter by itself says nothing, and the rate of a gauge less.
    for name in re.findall(r"\b(sagapost_\w+_(?:total|bucket|sum|count))\b", query):
        assert re.search(rf"(?:rate|increase)\({name}(?:\{{[^}}]*\}})?\[", query), (where, name)
    for name in re.findall(r"\b(?:rate|increase)\((sagapost_\w+)", query):
        assert re.search("_(total|bucket|sum|count)$", name), (where, name)


def table(relay, worker):
    """What stands between the README's markers: every metric of the two daemons, in their own words."""
    text = ""
    both = set(relay.help) & set(worker.help)
    for title, told, names in (
        ("`outbox-relay` and `saga-worker`", relay, both),
        ("`outbox-relay`", relay, set(relay.help) - both),
        ("`saga-worker`", worker, set(worker.help) - both),
    ):
        rows = "".join(f"| `{name}` | {told.types[name]} | {told.help[name]} |\n" for name in sorted(names))
        if rows:
            text += f"\n**{title}**\n\n| metric | type | what it is |\n| --- | --- | --- |\n{rows}"
    return text + "\n"


def split_at_markers(text):
    before, _, rest = text.partition("<!-- metrics -->\n")
    between, _, after = rest.partition("<!-- /metrics -->")
    return before, between, after


def told(place, start):
    """All that both say of their metrics; those that go by definition and action are there once a saga has run."""
    shop = Shop(place)
    relay, worker = start("outbox-relay").wait_ready(), start("saga-worker", "--gauges-interval", "1s").wait_ready()
    by_definition = {f"sagapost_saga_{name}" for name in ("commands_total", "ended_total", "sagas", "step_latency_seconds")}

    def counted():
        shop.place_orders(5)  # until one is met that has not ended yet
        return by_definition <= set(Metrics.of(worker).help)

    wait_until(counted, 60, lambda: by_definition - set(Metrics.of(worker).help), every_s=0.3)
    return table(Metrics.of(relay), Metrics.of(worker))


def test_every_metric_is_in_the_readme(place, daemons):
    assert split_at_markers(README.read_text())[1] == told(place, daemons)


def test_everything_asked_for_is_exported(place, daemons):
    shop = Shop(place)
    relay, worker = daemons("outbox-relay").wait_ready(), daemons("saga-worker", "--gauges-interval", "1s").wait_ready()
    place.sql("update shop.stock set on_hand = 0 where sku = 'A1'")
    wanted = {(where, name, labels) for where, query in queries() for name, labels in SELECTOR.findall(query)}
    assert len(wanted) > 50
    holder = place.connect(autocommit=False)
    holder.cursor().execute("lock table shop.shipment")  # nothing ends, so that running sagas are met
    shop.place_orders(60)
    exported = {}

    def missing():
        for daemon in (relay, worker):
            for name, labels, _ in Metrics.of(daemon).series:
                exported.setdefault(name, {}).setdefault("", set())
                for label, value in labels.items():
                    exported[name].setdefault(label, set()).add(value)
        absent = []
        for where, name, matchers in wanted:
            series = exported.get(name)
            if series is None:
                absent.append((where, name))
                continue
            absent += [(where, name, label, value) for label, value in MATCHER.findall(matchers) if label not in OF_THE_TARGET and value not in series.get(label, ())]
        for where, query in queries():
            of_series = set().union(*(exported.get(name, {}) for name, _ in SELECTOR.findall(query))) | OF_THE_TARGET
            absent += [(where, "by", label) for names in re.findall(r"\bby \(([^)]*)\)", query) for label in re.split(r",\s*", names) if label not in of_series]
        return absent

    # COMPENSATED and the gauges of running sagas come with time; an intent needs somebody who wants something.
    saga = place.value("select id::text from saga.instances limit 1")
    place.sql("select saga.pause(%s)", (saga,))
    wait_until(lambda: missing() is not None and "sagapost_saga_sagas" in exported, 60, missing)
    holder.commit()
    wait_until(lambda: not missing(), 60, missing)


def test_compose_asks_a_daemon_whether_it_is_ready(place, daemons):
    services = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())["services"]
    kind, *command = services["relay"]["healthcheck"]["test"]
    assert kind == "CMD" and services["worker"]["healthcheck"] == services["relay"]["healthcheck"]
    relay = daemons("outbox-relay").wait_ready()

    def status():
        return subprocess.run([word.replace("9090", str(relay.port)) for word in command], capture_output=True, timeout=30, check=False).returncode

    assert status() == 0
    relay.terminate()
    assert status() != 0


def test_compose_mounts_what_is_there_and_scrapes_whom_it_starts():
    compose = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())
    services = compose["services"]
    watching = {name for name, service in services.items() if service.get("profiles") == ["monitoring"]}
    assert watching == {"prometheus", "grafana"}
    for name in watching:
        for volume in services[name]["volumes"]:
            source = volume.split(":")[0]
            assert source in compose["volumes"] or (ROOT / "docker" / source).is_file(), volume
        assert all(port.startswith("127.0.0.1:") for port in services[name]["ports"])
    prometheus = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    for job in prometheus["scrape_configs"]:
        target = job["dns_sd_configs"][0]
        for name in target["names"]:
            command = services[name]["command"]
            assert command[0] == job["job_name"] and command[command.index("--listen") + 1].endswith(f":{target['port']}")
    assert {query.split('job="')[1].split('"')[0] for _, query in queries() if 'job="' in query} <= {job["job_name"] for job in prometheus["scrape_configs"]}
    assert all((FOLDER / name).is_file() for name in prometheus["rule_files"])
    for name in ("datasources", "dashboards"):
        assert yaml.safe_load((FOLDER / "grafana" / f"{name}.yml").read_text())["apiVersion"] == 1


def write_table():
    sandbox = Sandbox()
    place = Place(sandbox)
    with contextlib.ExitStack() as stack:
        text = told(place, lambda *arguments: stack.enter_context(Daemon(place, *arguments)))
    before, _, after = split_at_markers(README.read_text())
    README.write_text(f"{before}<!-- metrics -->\n{text}<!-- /metrics -->{after}")
    sandbox.stop()


if __name__ == "__main__":
    write_table()
