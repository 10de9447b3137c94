"""The replay protocol, by hand on a tiny stream and against the known figures on the real one."""

import numpy as np
import pytest

from examples.movielens import protocol
from examples.movielens.dataset import MovieLens, Ratings


def ratings_of(*rows: tuple[int, int, float]) -> Ratings:
    """Rows of (user, content, rating), one second apart."""
    users, contents, values = zip(*rows, strict=True)
    return Ratings(
        np.array(users, dtype=np.int64),
        np.array(contents, dtype=np.int64),
        np.array(values, dtype=np.float32),
        np.arange(len(rows), dtype=np.int64),
    )


SMALL = ratings_of(
    (1, 10, 5),
    (2, 20, 4),
    (1, 11, 2),  # rated, not liked: never offered to user 1, and no turn
    (1, 12, 4),
    (1, 13, 5),
    (1, 14, 4),
    (2, 10, 4),
    (3, 30, 1),
    (3, 31, 1),
)


def test_likes_are_cut_into_threes_and_the_first_of_each_opens_a_request() -> None:
    stream = protocol.turns(SMALL)

    assert [(turn.user_id, turn.content_id, turn.request_number, turn.opens is not None) for turn in stream] == [
        (1, 10, 0, True),
        (2, 20, 1, True),
        (1, 12, 0, False),
        (1, 13, 0, False),
        (1, 14, 2, True),
        (2, 10, 1, False),
    ]
    assert [request.group for request in protocol.requests_of(stream)] == [(10, 12, 13), (20, 10), (14,)]


@pytest.mark.parametrize("negatives", ["popularity", "uniform"])
def test_candidates_are_the_group_and_contents_the_user_never_rates(negatives: protocol.Negatives) -> None:
    for request in protocol.requests_of(protocol.turns(SMALL, negatives)):
        rated = {int(c) for u, c in zip(SMALL.user_ids, SMALL.content_ids, strict=True) if u == request.user_id}
        others = set(request.candidates) - set(request.group)
        assert set(request.group) <= set(request.candidates)
        assert len(set(request.candidates)) == len(request.candidates) <= protocol.CANDIDATES
        assert not others & rated
        assert others == {10, 11, 12, 13, 14, 20, 30, 31} - rated  # fewer than 18 exist: all of them


def test_a_slate_gets_its_group_members_clicked_in_slate_order() -> None:
    request = protocol.Request(0, 1, group=(10, 12, 13), candidates=(10, 12, 13, 20, 30))

    assert request.clicks([30, 13, 20, 10]) == [13, 10]


def test_popularity_counts_the_likes_before_the_request() -> None:
    stream = [
        protocol.Turn(1, 10, 0, 0, protocol.Request(0, 1, (10,), (*tuple(range(20, 27)), 10))),
        protocol.Turn(2, 10, 1, 1, protocol.Request(1, 2, (10,), (*tuple(range(20, 27)), 10))),
    ]

    # Nobody liked 10 before the first request, so the six candidates in front fill the slate; then it leads.
    assert protocol.popularity_clicks(stream).tolist() == [0.0, 1.0]
    assert protocol.oracle_clicks(stream).tolist() == [1.0, 1.0]
    assert protocol.random_clicks(stream).tolist() == [0.75, 0.75]


def test_the_same_seed_gives_the_same_requests() -> None:
    first, second = (protocol.turns(SMALL, seed=3) for _ in range(2))

    assert first == second
    assert first != protocol.turns(SMALL, seed=4)


@pytest.mark.parametrize(
    ("negatives", "popularity"),
    [("popularity", [1.61, 1.61, 1.55, 1.48, 1.42]), ("uniform", [2.45, 2.56, 2.50, 2.47, 2.45])],
)
def test_baselines_have_their_known_figures(
    movielens: MovieLens, negatives: protocol.Negatives, popularity: list[float]
) -> None:
    stream = protocol.turns(movielens.ratings, negatives)

    assert len(protocol.requests_of(stream)) == 18_783
    assert len(stream) == 55_375
    assert all(len(request.candidates) == protocol.CANDIDATES for request in protocol.requests_of(stream))
    assert protocol.by_fifths(protocol.random_clicks(stream)) == pytest.approx([0.98] * 5, abs=0.02)
    assert protocol.by_fifths(protocol.popularity_clicks(stream)) == pytest.approx(popularity, abs=0.03)
    assert protocol.by_fifths(protocol.oracle_clicks(stream))[-1] == pytest.approx(2.93, abs=0.01)
