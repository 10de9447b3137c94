"""Writes the dashboards that Grafana reads: ``python -m infra.grafana.dashboards`` after changing their description.

A test compares the committed files with this, another runs every query of them on a real Prometheus.
"""

import json
from pathlib import Path
from typing import Final

from infra.grafana.learning import LEARNING
from infra.grafana.overview import OVERVIEW
from infra.grafana.panels import Dashboard, rendered
from infra.grafana.serving import SERVING
from infra.grafana.streaming import STREAMING

DASHBOARDS: Final[tuple[Dashboard, ...]] = (OVERVIEW, STREAMING, LEARNING, SERVING)
FOLDER: Final = Path(__file__).parent / "dashboards"


def main() -> None:
    """Rewrite all files."""
    for name, text in documents().items():
        (FOLDER / name).write_text(text)


def documents() -> dict[str, str]:
    """Return the JSON by file name."""
    return {
        f"{dashboard.uid.removeprefix('moard-')}.json": json.dumps(rendered(dashboard), indent=1, ensure_ascii=False)
        + "\n"
        for dashboard in DASHBOARDS
    }


if __name__ == "__main__":
    main()
