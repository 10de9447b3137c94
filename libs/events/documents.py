"""Write the documents that are made from the types: ``python -m libs.events.documents docs/reference``."""

import sys
from pathlib import Path

import orjson

from libs.events.asyncapi import asyncapi
from libs.events.json_schema import json_schema


def documents() -> dict[str, bytes]:
    """Return each document's text by its file name."""
    sources = {"events.schema.json": json_schema(), "asyncapi.json": asyncapi()}
    options = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
    return {name: orjson.dumps(document, option=options) for name, document in sources.items()}


def main(arguments: list[str]) -> int:
    """Write every document into the folder that is the only argument."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m libs.events.documents FOLDER\n")
        return 2
    folder = Path(arguments[0])
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in documents().items():
        (folder / name).write_bytes(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
