"""Writes the OpenAPI documents of both HTTP services: ``python -m services.cli.openapi`` after changing a route.

A test compares the committed files with this, so that no change of the contract goes unseen.
"""

from pathlib import Path
from typing import Any, Final

import orjson
from prometheus_client import CollectorRegistry

from services.cli.twins import Twins
from services.ingest.assembly import Ingest
from services.ingest.settings import Settings as IngestSettings
from services.serving.app import create_app as serving_app
from services.serving.assembly import Serving
from services.serving.settings import Settings as ServingSettings

FOLDER: Final = Path("docs/reference")


def main() -> None:
    """Rewrite both files in the current folder."""
    for name, document in documents().items():
        (FOLDER / name).write_bytes(document)


def documents() -> dict[str, bytes]:
    """Return the documents by file name, as every setting at its default makes them."""
    twins = Twins()
    ingest = Ingest(IngestSettings(_env_file=None), twins.of_ingest(), CollectorRegistry())
    serving = Serving(ServingSettings(_env_file=None), twins.of_serving(), CollectorRegistry())
    return {
        "openapi-ingest.json": _written(ingest.app().openapi()),
        "openapi-serving.json": _written(serving_app(serving).openapi()),
    }


def _written(document: dict[str, Any]) -> bytes:
    return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


if __name__ == "__main__":
    main()
