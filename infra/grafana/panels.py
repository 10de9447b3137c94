"""A small description of dashboards, and the classic JSON that Grafana makes of it.

Every panel has a title, a description and a unit; every query goes to the data source that the dashboard's variable
names. Panels are laid out in the order given, wrapped at the width of the grid.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Literal

GRID: Final = 24
DATASOURCE_UID: Final = "moard-prometheus"
_DATASOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
_HEIGHTS: Final = {"stat": 4, "timeseries": 8, "heatmap": 8}
_SCHEMA: Final = 39  # Grafana 10 and later read it, and move it on by themselves


@dataclass(frozen=True, slots=True)
class Query:
    """One PromQL expression, and what its series are called."""

    expr: str
    legend: str


@dataclass(frozen=True, slots=True)
class Panel:
    """One question and its answer.

    Attributes
    ----------
    unit
        Grafana's id of it; ``suffix:`` puts a word of one's own behind the number.
    warn
        From where on the number is worrying, None where no number is by itself.
    words
        What a number means, for numbers that stand for words.
    """

    title: str
    description: str
    unit: str
    queries: tuple[Query, ...]
    kind: Literal["timeseries", "stat", "heatmap"] = "timeseries"
    width: int = 8
    warn: float | None = None
    words: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under a heading."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class Dashboard:
    """One page. ``uid`` is its address and never changes."""

    uid: str
    title: str
    description: str
    rows: tuple[Row, ...]
    range: str = "now-30m"
    tags: tuple[str, ...] = field(default=("moard",))

    @property
    def panels(self) -> Iterator[Panel]:
        """Every panel, in order."""
        for row in self.rows:
            yield from row.panels


def rendered(dashboard: Dashboard) -> dict[str, Any]:
    """Return the dashboard as Grafana reads it."""
    return {
        "uid": dashboard.uid,
        "title": f"moard / {dashboard.title}",
        "description": dashboard.description,
        "tags": list(dashboard.tags),
        "schemaVersion": _SCHEMA,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "5s",
        "timezone": "browser",
        "time": {"from": dashboard.range, "to": "now"},
        "templating": {"list": [_datasource_variable()]},
        "annotations": {"list": []},
        "links": [_links()],
        "panels": list(_placed(dashboard.rows)),
    }


def _datasource_variable() -> dict[str, Any]:
    return {
        "name": "datasource",
        "label": "Prometheus",
        "type": "datasource",
        "query": "prometheus",
        "current": {"text": "Prometheus", "value": DATASOURCE_UID},
        "hide": 0,
        "refresh": 1,
    }


def _links() -> dict[str, Any]:
    return {"type": "dashboards", "title": "moard", "tags": ["moard"], "asDropdown": False, "keepTime": True}


def _placed(rows: tuple[Row, ...]) -> Iterator[dict[str, Any]]:
    number = y = 0
    for row in rows:
        number += 1
        yield {
            "id": number,
            "type": "row",
            "title": row.title,
            "collapsed": False,
            "panels": [],
            "gridPos": {"x": 0, "y": y, "w": GRID, "h": 1},
        }
        x, y, below = 0, y + 1, y + 1
        for panel in row.panels:
            if x + panel.width > GRID:
                x, y = 0, below
            height = _HEIGHTS[panel.kind]
            number += 1
            yield {"id": number, **_panel(panel), "gridPos": {"x": x, "y": y, "w": panel.width, "h": height}}
            x, below = x + panel.width, max(below, y + height)
        y = below


def _panel(panel: Panel) -> dict[str, Any]:
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": _DATASOURCE,
        "targets": [_target(panel, query, letter) for query, letter in zip(panel.queries, "ABCDEFGH", strict=False)],
        "fieldConfig": {"defaults": _defaults(panel), "overrides": []},
        "options": _options(panel),
    }


def _target(panel: Panel, query: Query, letter: str) -> dict[str, Any]:
    return {
        "refId": letter,
        "datasource": _DATASOURCE,
        "expr": query.expr,
        "legendFormat": query.legend,
        "format": "heatmap" if panel.kind == "heatmap" else "time_series",
        "instant": panel.kind == "stat",
        "range": panel.kind != "stat",
    }


def _defaults(panel: Panel) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if panel.warn is not None:
        steps.append({"color": "red", "value": panel.warn})
    defaults: dict[str, Any] = {
        "unit": panel.unit,
        "noValue": "none yet",
        "thresholds": {"mode": "absolute", "steps": steps},
        "color": {"mode": "thresholds" if panel.kind == "stat" else "palette-classic"},
    }
    if panel.words:
        meanings = {number: {"text": word, "index": index} for index, (number, word) in enumerate(panel.words)}
        defaults["mappings"] = [{"type": "value", "options": meanings}]
    if panel.kind == "timeseries":
        defaults["custom"] = {
            "drawStyle": "line",
            "lineWidth": 1,
            "fillOpacity": 8,
            "showPoints": "never",
            "spanNulls": False,
            "thresholdsStyle": {"mode": "off" if panel.warn is None else "line"},
        }
    return defaults


def _options(panel: Panel) -> dict[str, Any]:
    if panel.kind == "stat":
        return {
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "colorMode": "value",
            "graphMode": "none",
            "textMode": "auto",
        }
    if panel.kind == "heatmap":
        return {
            "calculate": False,
            "cellGap": 1,
            "color": {"mode": "scheme", "scheme": "Blues", "steps": 32},
            "yAxis": {"unit": panel.unit},
            "tooltip": {"mode": "single", "yHistogram": False},
            "legend": {"show": False},
        }
    return {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
