"""The texts a text model is trained on: from the catalogue, or from a file of JSON lines."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from libs.adapters.settings import StackSettings
from libs.errors import RefusedStart
from libs.text.tokens import text_of

Documents = list[tuple[int, str]]
"""Content id and text of each."""

Count = Callable[[int], object]

_PAGE: Final = 500
_MAX_LINE_BYTES: Final = 1_000_000  # a title and a description with room to spare; more is another kind of file


class TrainingText(BaseModel):
    """One line of the file; other fields are ignored."""

    model_config = ConfigDict(frozen=True, str_max_length=500_000)

    id: Annotated[int, Field(ge=0, le=2**63 - 1, strict=True)]
    title: str
    description: str | None = None


def from_file(path: Path, count: Count) -> Documents:
    """Return the texts of a file of JSON lines; empty lines are skipped.

    Raises
    ------
    RefusedStart
        The file cannot be read, or a line is no text; names the line and the field.
    """
    documents: dict[int, str] = {}
    try:
        with path.open("rb") as file:
            number = 0
            while line := file.readline(_MAX_LINE_BYTES + 1):
                number += 1
                if len(line) > _MAX_LINE_BYTES:
                    raise _refused(path, number, f"longer than {_MAX_LINE_BYTES:,} bytes; one JSON object a line")
                if not line.strip():
                    continue
                text = _parsed(path, number, line)
                if text.id in documents:
                    raise _refused(path, number, f"id: {text.id} came before; each content once")
                documents[text.id] = text_of(text.title, text.description)
                count(len(documents))
    except OSError as error:
        raise RefusedStart(f"--file {path} cannot be read: {error.strerror}") from error
    return list(documents.items())


def from_catalogue(settings: StackSettings, count: Count) -> Documents:
    """Return the texts of all contents in SQL, moard's own and the backend's; raises ``StoreUnavailable``."""
    from libs.adapters.content_store import SqlContentStore

    async def read() -> Documents:
        store = SqlContentStore(settings.database_url, settings.vector_size)
        documents: Documents = []
        try:
            await store.start()
            cursor: str | None = None
            while True:
                contents, cursor = await store.changed_since(cursor, _PAGE)
                documents += [(content.content_id, text_of(content.title, content.description)) for content in contents]
                count(len(documents))
                if cursor is None:
                    return documents
        finally:
            await store.close()

    return asyncio.run(read())


def _parsed(path: Path, number: int, line: bytes) -> TrainingText:
    try:
        return TrainingText.model_validate_json(line)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(map(str, first["loc"]))
        raise _refused(path, number, f"{field}: {first['msg']}" if field else first["msg"]) from None


def _refused(path: Path, number: int, problem: str) -> RefusedStart:
    expected = '{"id": 1, "title": "…", "description": "…"}'
    return RefusedStart(f"--file {path}, line {number}: {problem}. A line is {expected}")
