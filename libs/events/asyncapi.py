"""The AsyncAPI 3.0 document of the topics, for those who produce to Kafka or read from it directly."""

from typing import Any, Final

from libs.events.dead_letters import MEANINGS, NOT_ALWAYS
from libs.events.json_schema import DOCUMENTS, document_schema
from libs.events.resending import MISROUTED_FROM
from libs.events.topics import CONTENTS, DEAD_LETTERS, EVENTS

_KAFKA: Final = "0.5.0"  # version of AsyncAPI's Kafka bindings

_KEYS: Final = {
    "Impression": "user_id in UTF-8",
    "Interaction": "user_id in UTF-8",
    "Erasure": "user_id in UTF-8",
    "Content": "content_id in decimal",
}


def asyncapi() -> dict[str, Any]:
    """Return the whole document."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "moard",
            "version": "1.0.0",
            "description": "Self-hosted ranking that learns from a live event stream: its topics and their documents.",
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": _channels(),
        "operations": _operations(),
        "components": {
            "messages": {cls.__name__: _message(cls) for cls in DOCUMENTS} | {"DeadLetter": _dead_letter()},
            "schemas": {cls.__name__: document_schema(cls) for cls in DOCUMENTS},
        },
    }


def _channels() -> dict[str, Any]:
    return {
        "events": _channel(
            EVENTS,
            ["Impression", "Interaction", "Erasure"],
            "What users saw and did, and whom to forget. Keyed by user id, so that one partition holds one user's "
            "story in order. The partition is toPositive(murmur2(key)) % partitions, as the defaults of the Java "
            "client and aiokafka have it; librdkafka needs partitioner=murmur2_random. What lies elsewhere is sent on, "
            f"with the header {MISROUTED_FROM}. The broker sets the times (LogAppendTime).",
            {"cleanup.policy": ["delete"]},
        ),
        "contents": _channel(
            CONTENTS,
            ["Content"],
            "The catalogue, compacted: the newest record of a key counts, one without a value removes the content.",
            {"cleanup.policy": ["compact"]},
        ),
        "deadLetters": _channel(
            DEAD_LETTERS,
            ["DeadLetter"],
            "Records that could not be used: key and value as they were, origin and reason as headers.",
            {"cleanup.policy": ["delete"]},
        ),
    }


def _channel(topic: str, messages: list[str], description: str, configuration: dict[str, Any]) -> dict[str, Any]:
    return {
        "address": topic,
        "description": description,
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
        "bindings": {"kafka": {"topic": topic, "topicConfiguration": configuration, "bindingVersion": _KAFKA}},
    }


def _operations() -> dict[str, Any]:
    return {
        "readEvents": _operation("receive", "events", "Backends append here, directly or through POST /api/v1/events."),
        "writeEvents": _operation(
            "send", "events", "Ingest appends interactions and erasures, serving the impressions it chose."
        ),
        "readContents": _operation("receive", "contents", "Everybody who ranks or learns follows the catalogue."),
        "writeContents": _operation("send", "contents", "Ingest appends what PUT /api/v1/contents/{id} brings."),
        "writeDeadLetters": _operation("send", "deadLetters", "A record that breaks the contract ends here."),
    }


def _operation(action: str, channel: str, summary: str) -> dict[str, Any]:
    return {"action": action, "channel": {"$ref": f"#/channels/{channel}"}, "summary": summary}


def _message(cls: type) -> dict[str, Any]:
    name = cls.__name__
    return {
        "name": name.lower(),
        "title": name,
        "contentType": "application/json",
        "payload": {"$ref": f"#/components/schemas/{name}"},
        "bindings": {"kafka": {"key": {"type": "string", "description": _KEYS[name]}, "bindingVersion": _KAFKA}},
    }


def _dead_letter() -> dict[str, Any]:
    return {
        "name": "deadLetter",
        "title": "Dead letter",
        "contentType": "application/octet-stream",
        "payload": {
            "description": "The bytes of the record as they were, often not JSON; cut at 1,000,000. With "
            "reason poison, a row of the learner's buffer as JSON."
        },
        "headers": {
            "type": "object",
            "required": [name for name in MEANINGS if name not in NOT_ALWAYS],
            "properties": {name: {"type": "string", "description": text} for name, text in MEANINGS.items()},
        },
        "bindings": {
            "kafka": {"key": {"type": "string", "description": "The record's own key."}, "bindingVersion": _KAFKA}
        },
    }
