"""The committed dashboards are what their description says, and each panel says what it shows."""

import json
import re

import pytest

from infra.grafana import dashboards
from infra.grafana.dashboards import DASHBOARDS, FOLDER
from infra.grafana.panels import GRID
from services.cli import metrics_reference
from tests.promql import selectors
from tests.unit.infra.alert_rules import alerts, recorded

DECLARED = {
    name + ending
    for name, kind in re.findall(r"^\| `(\w+)` \| (\w+)", metrics_reference.page(), re.MULTILINE)
    for ending in (("_bucket", "_count", "_sum") if kind == "histogram" else ("",))
}
PROMETHEUS_OWN = {"up", "ALERTS", "process_resident_memory_bytes", "process_cpu_seconds_total"}


def test_the_committed_files_are_true() -> None:
    written = {path.name: path.read_text() for path in FOLDER.glob("*.json")}
    assert written == dashboards.documents(), "they are old: run python -m infra.grafana.dashboards"


def test_addresses_never_change() -> None:
    assert [each.uid for each in DASHBOARDS] == ["moard-overview", "moard-streaming", "moard-learning", "moard-serving"]


@pytest.mark.parametrize("name", [path.name for path in sorted(FOLDER.glob("*.json"))])
def test_every_panel_says_what_it_shows_and_asks_the_chosen_data_source(name: str) -> None:
    document = json.loads((FOLDER / name).read_text())
    assert [variable["type"] for variable in document["templating"]["list"]] == ["datasource"]
    panels = [panel for panel in document["panels"] if panel["type"] != "row"]
    for panel in panels:
        assert panel["title"]
        assert panel["description"].endswith(".")
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["targets"]
        for asked in (panel, *panel["targets"]):
            assert asked["datasource"]["uid"] == "${datasource}"
    assert len({panel["id"] for panel in document["panels"]}) == len(document["panels"])
    titles = [panel["title"] for panel in panels]
    assert len(set(titles)) == len(titles)


@pytest.mark.parametrize("name", [path.name for path in sorted(FOLDER.glob("*.json"))])
def test_no_panel_covers_another(name: str) -> None:
    cells: set[tuple[int, int]] = set()
    for panel in json.loads((FOLDER / name).read_text())["panels"]:
        place = panel["gridPos"]
        own = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert max(x for x, _ in own) < GRID
        assert cells.isdisjoint(own)
        cells |= own


def test_rates_adapt_to_the_zoom_or_span_minutes() -> None:
    ranges = {
        found
        for dashboard in DASHBOARDS
        for panel in dashboard.panels
        for query in panel.queries
        for found in re.findall(r"\[([^\]]*)\]", query.expr)
    }
    assert ranges == {"$__rate_interval", "5m"}


def test_every_name_that_is_asked_for_is_declared_or_recorded() -> None:
    asked = {query.expr for dashboard in DASHBOARDS for panel in dashboard.panels for query in panel.queries}
    asked |= {rule["expr"] for rule in (*recorded(), *alerts())}
    names = {selector.partition("{")[0] for expr in asked for selector in selectors(expr)}
    assert names - DECLARED - PROMETHEUS_OWN - {rule["record"] for rule in recorded()} == set()
    assert {rule["record"] for rule in recorded()} <= names, "a figure is recorded and nobody asks for it"
