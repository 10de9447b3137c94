"""A small generated world: contents about topics, users with tastes, and what each would click, drawn beforehand.

Because the clicks of a request do not depend on who ranks it, every ranker is compared on the same requests.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

TOPICS = ("cooking", "cycling", "gardens", "history", "jazz", "science", "sailing", "theatre")
_FORMS = ("A first look at", "The art of", "Ten rules of", "A year of", "The quiet side of", "Everyday", "Rethinking")
CANDIDATES = 18
SLATE = 6
_FAVOURITES = 2  # topics a user likes
_CLICK_FAVOURITE, _CLICK_OTHER = 0.75, 0.06  # chance of a click on a content of average quality
_VECTOR_NOISE = 0.6  # beside a topic of length 1: like a text embedding, it says much about the topic and not all


@dataclass(frozen=True, slots=True)
class GeneratedContent:
    """One content."""

    content_id: int
    title: str
    topic: int
    quality: float
    vector: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Visitor:
    """One request: who comes, what could be shown, and which of that would be clicked."""

    number: int
    user_id: str
    candidates: tuple[int, ...]
    clicked: frozenset[int]


@dataclass(frozen=True, slots=True)
class World:
    """Contents and the requests that will come."""

    contents: tuple[GeneratedContent, ...]
    visitors: tuple[Visitor, ...]


def generate(*, contents: int, users: int, requests: int, vector_size: int, seed: int) -> World:
    """Return a world; the same arguments give the same one."""
    rng = np.random.default_rng(seed)
    shelf = _contents(rng, contents, vector_size)
    tastes = [frozenset(rng.choice(len(TOPICS), _FAVOURITES, replace=False).tolist()) for _ in range(users)]
    visitors = []
    for number in range(requests):
        user = int(rng.integers(users))
        offered = [shelf[index] for index in rng.choice(contents, CANDIDATES, replace=False)]
        chances = [_chance(content, tastes[user]) for content in offered]
        clicked = rng.random(CANDIDATES) < chances
        visitors.append(
            Visitor(
                number,
                f"user-{user}",
                tuple(content.content_id for content in offered),
                frozenset(content.content_id for content, click in zip(offered, clicked, strict=True) if click),
            )
        )
    return World(shelf, tuple(visitors))


def _contents(rng: np.random.Generator, count: int, vector_size: int) -> tuple[GeneratedContent, ...]:
    centres = _unit_rows(rng.standard_normal((len(TOPICS), vector_size)))
    topics = rng.integers(len(TOPICS), size=count)
    vectors = centres[topics] + _VECTOR_NOISE * _unit_rows(rng.standard_normal((count, vector_size)))
    return tuple(
        GeneratedContent(
            content_id=position + 1,
            title=f"{_FORMS[position % len(_FORMS)]} {TOPICS[topic]}",
            topic=topic,
            quality=quality,
            vector=tuple(vectors[position].tolist()),
        )
        for position, (topic, quality) in enumerate(
            zip(topics.tolist(), rng.uniform(0.6, 1.3, size=count).tolist(), strict=True)
        )
    )


def _chance(content: GeneratedContent, taste: frozenset[int]) -> float:
    return content.quality * (_CLICK_FAVOURITE if content.topic in taste else _CLICK_OTHER)


def _unit_rows(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    rows: NDArray[np.float64] = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
    return rows


def click(user_id: str, content_id: int, impression_id: str) -> dict[str, str | int]:
    """Return the event that tells of a click; its id is made here, so that a repeated call counts once."""
    return {
        "type": "interaction",
        "event_id": uuid4().hex,
        "kind": "click",
        "user_id": user_id,
        "content_id": content_id,
        "impression_id": impression_id,
    }


def random_clicks(visitors: Sequence[Visitor]) -> list[float]:
    """Return the expected clicks of a random slate, for each request."""
    return [SLATE * len(visitor.clicked) / len(visitor.candidates) for visitor in visitors]


def popularity_clicks(visitors: Sequence[Visitor]) -> list[float]:
    """Return the clicks of a ranker that knows how often every content would have been clicked so far.

    That is more than a ranker can know, which sees clicks on what it shows: a strong opponent without a taste.
    """
    clicks: Counter[int] = Counter()
    earned = []
    for visitor in visitors:
        slate = sorted(visitor.candidates, key=lambda content_id: -clicks[content_id])[:SLATE]
        earned.append(float(len(visitor.clicked.intersection(slate))))
        clicks.update(visitor.clicked)
    return earned


def best_clicks(visitors: Sequence[Visitor]) -> list[float]:
    """Return the most that a slate could earn, for each request, knowing every draw."""
    return [float(min(SLATE, len(visitor.clicked))) for visitor in visitors]
