"""The generated world: repeatable, and personal enough that popularity alone does not win it."""

import numpy as np

from examples.quickstart import world


def small(seed: int = 0) -> world.World:
    return world.generate(contents=60, users=10, requests=300, vector_size=16, seed=seed)


def test_the_same_seed_gives_the_same_world() -> None:
    assert small() == small()
    assert small() != small(seed=1)


def test_requests_offer_distinct_contents_and_clicks_are_among_them() -> None:
    generated = small()
    known = {content.content_id for content in generated.contents}

    for visitor in generated.visitors:
        assert len(set(visitor.candidates)) == world.CANDIDATES
        assert set(visitor.candidates) <= known
        assert visitor.clicked <= set(visitor.candidates)


def test_vectors_tell_topics_apart() -> None:
    contents = small().contents
    vectors = np.array([content.vector for content in contents])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    topics = np.array([content.topic for content in contents])
    closeness, same = vectors @ vectors.T, topics[:, None] == topics[None, :]
    np.fill_diagonal(same, False)

    assert closeness[same].mean() > closeness[~same & ~np.eye(len(topics), dtype=bool)].mean() + 0.4


def test_there_is_room_above_random_and_popularity() -> None:
    visitors = small().visitors
    random, popular, best = (
        np.mean(ranker(visitors)) for ranker in (world.random_clicks, world.popularity_clicks, world.best_clicks)
    )

    assert random < popular < best - 1.0


def test_popularity_learns_only_from_earlier_requests() -> None:
    visitors = [
        world.Visitor(0, "u", tuple(range(1, 9)), frozenset({8})),
        world.Visitor(1, "u", tuple(range(1, 9)), frozenset({8})),
    ]

    assert world.popularity_clicks(visitors) == [0.0, 1.0]
