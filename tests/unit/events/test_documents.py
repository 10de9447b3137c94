import dataclasses
import json
import re
from pathlib import Path
from typing import Any, get_args

import pytest
from jsonschema import Draft202012Validator

from libs.errors import BadEvent
from libs.events.asyncapi import asyncapi
from libs.events.codec import decode_content, decode_event
from libs.events.dead_letters import MEANINGS
from libs.events.documents import documents, main
from libs.events.json_schema import DOCUMENTS, json_schema
from libs.events.meanings import FIELDS, KINDS
from libs.events.schema import Kind
from libs.events.topics import CONTENTS, DEAD_LETTERS, EVENTS, partition_of, user_key

ROOT = Path(__file__).parents[3]
REFERENCE = ROOT / "docs" / "reference"
GOLDEN = ROOT / "tests" / "golden"
VALIDATOR = Draft202012Validator(json_schema())


@pytest.mark.parametrize("name", sorted(documents()))
def test_the_committed_document_is_the_generated_one(name: str) -> None:
    assert (REFERENCE / name).read_bytes() == documents()[name], "run: python -m libs.events.documents docs/reference"


def test_the_command_writes_them(tmp_path: Path) -> None:
    assert main([str(tmp_path / "new")]) == 0
    assert {path.name for path in (tmp_path / "new").iterdir()} == set(documents())
    assert main([]) == 2


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(json_schema())


@pytest.mark.parametrize("line", (GOLDEN / "wire.jsonl").read_bytes().splitlines())
def test_what_is_on_the_wire_obeys_the_schema(line: bytes) -> None:
    VALIDATOR.validate(json.loads(line))


# What JSON Schema cannot say about two lists; its description says it in words.
BEYOND = {"history_age_s", "choice", "advantage", "scores", "log_propensities", "log_propensities.1"}


def _refusable() -> list[Any]:
    cases = [json.loads(line) for line in (GOLDEN / "bad.jsonl").read_text("utf-8").splitlines()]
    return [
        (case["topic"], json.loads(case["value"]))
        for case in cases
        if case["reason"] != "json" and case["field"] not in BEYOND and '"slate":[1,4]' not in case["value"]
    ]


@pytest.mark.parametrize(("topic", "document"), _refusable(), ids=lambda value: json.dumps(value)[-40:])
def test_what_the_codec_refuses_the_schema_refuses(topic: str, document: Any) -> None:
    names = ["Content"] if topic == CONTENTS else ["Impression", "Interaction", "Erasure"]
    definitions = json_schema()["$defs"]
    assert not any(Draft202012Validator(definitions[name]).is_valid(document) for name in names)


def test_every_field_and_kind_has_a_meaning() -> None:
    for cls in DOCUMENTS:
        assert set(FIELDS[cls.__name__]) == {item.name for item in dataclasses.fields(cls)}
    assert set(KINDS) == set(get_args(Kind))


def test_asyncapi_names_the_topics_and_every_reference_leads_somewhere() -> None:
    document = asyncapi()
    assert {channel["address"] for channel in document["channels"].values()} == {EVENTS, CONTENTS, DEAD_LETTERS}
    for reference in re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(document)):
        target: Any = document
        for part in reference.split("/"):
            target = target[part]
        assert target
    headers = document["components"]["messages"]["DeadLetter"]["headers"]
    assert set(headers["properties"]) == set(MEANINGS)


PAGE = (REFERENCE / "events.md").read_text("utf-8")


def test_the_page_for_people_names_every_field_kind_and_header() -> None:
    names = {name for fields in FIELDS.values() for name in fields} | set(KINDS) | set(MEANINGS)
    assert {name for name in names if f"`{name}`" not in PAGE} == set()
    for kind, meaning in KINDS.items():
        assert f"| `{kind}` | {meaning.choice} | {meaning.moves_history} | {meaning.term} |" in PAGE


@pytest.mark.parametrize("example", re.findall(r"```json\n(\{\"type.+?)```", PAGE, re.DOTALL))
def test_the_examples_of_the_page_decode(example: str) -> None:
    decode = decode_content if '"content"' in example.split(",", 1)[0] else decode_event
    try:
        decode(example.encode())
    except BadEvent as error:
        pytest.fail(f"{error.detail} in {example}")


def test_the_test_values_of_the_page_are_right() -> None:
    pairs = re.findall(r"`(user-\d)`(?: belongs)? to (\d)", PAGE)
    assert len(pairs) == 3
    assert {key: partition_of(user_key(key), 4) for key, _ in pairs} == {key: int(value) for key, value in pairs}
