"""Documents and records with sensible defaults: a test names only what it is about.

Ids come from a counter when none is given, so that two documents of one test never collide.
"""

from collections.abc import Sequence
from itertools import count
from typing import Any

import numpy as np

from libs.adapters.ports import Record
from libs.events.codec import encode
from libs.events.schema import Content, Erasure, Impression, Interaction
from libs.events.topics import CONTENTS, EVENTS, content_key, partition_of, user_key
from libs.rl.slates import Exploration, plackett_luce

NOW_MS = 1_750_000_000_000
"""2025-06-15T15:06:40Z: the moment at which tests begin."""

_ids = count(1)


def impression(user_id: str = "user-1", slate: tuple[int, ...] = (1, 2, 3), **fields: Any) -> Impression:
    """Return an impression of a greedy policy: candidates are the slate unless given, log-propensities 0."""
    values: dict[str, Any] = {
        "event_id": f"impression-{next(_ids)}",
        "candidates": slate,
        "log_propensities": (0.0,) * len(slate),
        "policy": "value",
        "arm": "greedy",
        "timestamp_ms": NOW_MS,
    }
    return Impression(user_id=user_id, slate=slate, **(values | fields))


def drawn(
    scores: Sequence[float],
    size: int,
    rng: np.random.Generator,
    exploration: Exploration = Exploration(),  # noqa: B008 - frozen
    **fields: Any,
) -> Impression:
    """Return an impression as serving logs it: candidates 1, 2, … with these scores, a slate drawn from them."""
    slate = plackett_luce(np.array(scores, np.float32), exploration, size, rng)
    values: dict[str, Any] = {
        "candidates": tuple(range(1, len(scores) + 1)),
        "scores": tuple(slate.scores.tolist()),
        "log_propensities": tuple(slate.log_propensities.tolist()),
        "arm": slate.arm,
        "temperature": exploration.temperature,
        "epsilon": exploration.epsilon,
    }
    return impression(slate=tuple((slate.positions + 1).tolist()), **(values | fields))


def interaction(user_id: str = "user-1", content_id: int | None = 1, kind: str = "click", **fields: Any) -> Interaction:
    """Return an interaction that belongs to no impression unless ``impression_id`` is given."""
    values: dict[str, Any] = {"event_id": f"interaction-{next(_ids)}", "timestamp_ms": NOW_MS}
    return Interaction(user_id=user_id, content_id=content_id, kind=kind, **(values | fields))  # type: ignore[arg-type]


def erasure(user_id: str = "user-1", **fields: Any) -> Erasure:
    """Return the request to forget a user."""
    return Erasure(user_id=user_id, **({"event_id": f"erasure-{next(_ids)}"} | fields))


def content(content_id: int = 1, **fields: Any) -> Content:
    """Return a content with a title and no vector."""
    return Content(content_id=content_id, **({"title": f"Content {content_id}"} | fields))


def record(
    document: Impression | Interaction | Erasure | Content | bytes | None,
    *,
    offset: int = 0,
    append_ms: int = NOW_MS,
    key: bytes | None = None,
    topic: str | None = None,
    partition: int | None = None,
    partitions: int = 4,
    headers: tuple[tuple[str, bytes], ...] = (),
) -> Record:
    """Return the record a broker would keep: key, topic and partition follow from the document unless given."""
    if isinstance(document, Content):
        key, topic = key or content_key(document.content_id), topic or CONTENTS
    elif isinstance(document, (Impression, Interaction, Erasure)):
        key = key or user_key(document.user_id)
    topic = topic or EVENTS
    if partition is None:
        partition = 0 if key is None or topic == CONTENTS else partition_of(key, partitions)
    value = document if document is None or isinstance(document, bytes) else encode(document)
    return Record(topic, partition, offset, append_ms, key, value, headers)
