"""The committed OpenAPI documents are what the services say of themselves."""

import orjson
import pytest

from services.cli import openapi


def test_the_committed_documents_are_true() -> None:
    for name, document in openapi.documents().items():
        committed = (openapi.FOLDER / name).read_bytes()
        assert committed == document, f"{name} is old: run python -m services.cli.openapi and look at the difference"


@pytest.mark.parametrize(
    ("name", "paths"),
    [
        ("openapi-ingest.json", {"/api/v1/events", "/api/v1/contents/{content_id}"}),
        ("openapi-serving.json", {"/api/v1/rank", "/api/v1/predict/top-contents", "/api/v1/predict/bulk"}),
    ],
)
def test_every_call_is_in_them(name: str, paths: set[str]) -> None:
    document = orjson.loads((openapi.FOLDER / name).read_bytes())
    assert paths <= document["paths"].keys()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert operation["summary"], f"{method} {path}"
            assert operation["tags"], f"{method} {path}"
