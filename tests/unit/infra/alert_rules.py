"""The committed rules of Prometheus."""

from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parents[3] / "infra/prometheus"


def alerts() -> list[dict[str, Any]]:
    """Return the alerts."""
    return _rules("alerts.yml")


def recorded() -> list[dict[str, Any]]:
    """Return the recorded series."""
    return _rules("recorded.yml")


def _rules(name: str) -> list[dict[str, Any]]:
    groups = yaml.safe_load((FOLDER / name).read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]
