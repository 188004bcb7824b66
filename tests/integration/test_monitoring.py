"""docker/monitoring: what the alert rules and the dashboard ask for is what the programs export, and what compose mounts is there."""

import json
import re

import pytest
import yaml

from harness.metrics import Metrics
from harness.sandbox import ROOT
from harness.shop import Shop
from harness.wait import wait_until

FOLDER = ROOT / "docker" / "monitoring"

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


def test_everything_asked_for_is_exported(place, daemons):
    shop = Shop(place)
    relay, worker = daemons("outbox-relay").wait_ready(), daemons("saga-worker", "--gauges-interval", "1s").wait_ready()
    place.sql("update shop.stock set on_hand = 0 where sku = 'A1'")
    wanted = {(where, name, labels) for where, query in queries() for name, labels in SELECTOR.findall(query)}
    assert len(wanted) > 50
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
    wait_until(lambda: not missing(), 60, missing)


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
