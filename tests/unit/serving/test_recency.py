"""Which contents are new."""

import numpy as np

from libs.rl.action_space import ActionSpace
from services.serving.recency import Recency


def put(space: ActionSpace, recency: Recency, content_id: int, published_ms: int | None, came_ms: int) -> None:
    recency.put(space.put(content_id, None), published_ms, came_ms)


def newest(space: ActionSpace, recency: Recency) -> list[int]:
    ids: list[int] = space.ids[recency.newest()].tolist()
    return ids


def test_by_publication_else_by_when_they_came_and_the_later_comer_first() -> None:
    space = ActionSpace(2)
    recency = Recency(space, 10)
    for content_id, published_ms, came_ms in ((1, 500, 900), (2, None, 600), (3, 700, 1), (4, 500, 1)):
        put(space, recency, content_id, published_ms, came_ms)
    assert newest(space, recency) == [3, 2, 4, 1]


def test_changes_count_at_once_and_hidden_contents_are_gone() -> None:
    space = ActionSpace(2)
    recency = Recency(space, 2)
    for content_id in range(1, 6):
        put(space, recency, content_id, content_id, 0)
    assert newest(space, recency) == [5, 4]
    space.put(5, None, hidden=True)
    assert newest(space, recency) == [4, 3]
    put(space, recency, 1, 9, 0)
    assert newest(space, recency) == [1, 4]


def test_contents_that_the_catalogue_does_not_have_are_not_listed() -> None:
    space = ActionSpace(2)
    recency = Recency(space, 10)
    space.ensure([8, 9])  # a snapshot knows them
    put(space, recency, 1, None, 0)
    space.ensure([10])
    assert recency.listed.tolist() == [False, False, False, True, False]
    assert newest(space, recency) == [1]


def test_ages_and_growth() -> None:
    space = ActionSpace(2)
    recency = Recency(space, 3)
    for content_id in range(5_000):
        put(space, recency, content_id, content_id if content_id % 2 else None, 0)
    ages = recency.age_s(space.index([4_999, 4_998, 77_777]), 5_999)
    assert ages.tolist() == [1.0, np.inf, np.inf]
