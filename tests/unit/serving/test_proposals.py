"""The maths of proposing candidates, small enough to check by hand."""

from typing import TypeAlias

import numpy as np
import pytest

from services.serving.proposals import SOURCES, Source, direction, drawn, mixed, nearest

EVEN: dict[Source, float] = {"nearest": 1.0, "popular": 1.0, "new": 1.0, "random": 1.0}

Ranked: TypeAlias = dict[Source, np.ndarray]


def ids(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int32)


class TestDirection:
    def test_a_vector_weighs_a_tenth_less_for_each_hour(self) -> None:
        vectors = np.array([[3.0, 0.0], [0.0, 10.0]], np.float32)
        user = direction(vectors, np.array([1 / 3, 0.1], np.float32), np.array([0.0, 3_600.0]))
        assert user is not None
        np.testing.assert_allclose(user, np.array([3.0, 9.0]) / np.hypot(3, 9), rtol=1e-6)

    def test_somebody_away_for_years_still_points_somewhere(self) -> None:
        ages = np.array([1e8, 1e8 + 3_600.0])
        user = direction(np.eye(2, dtype=np.float32), np.ones(2, np.float32), ages)
        assert user is not None
        np.testing.assert_allclose(user, np.array([1.0, 0.9]) / np.hypot(1, 0.9), rtol=1e-6)

    def test_contents_without_a_vector_say_nothing(self) -> None:
        vectors = np.array([[0.0, 0.0], [0.0, 2.0]], np.float32)
        user = direction(vectors, np.array([0.0, 0.5], np.float32), np.array([0.0, 1e9]))
        assert user is not None
        np.testing.assert_allclose(user, [0.0, 1.0])

    def test_nowhere(self) -> None:
        opposite = np.array([[1.0], [-1.0]], np.float32)
        assert direction(opposite, np.ones(2, np.float32), np.zeros(2)) is None
        assert direction(np.zeros((1, 1), np.float32), np.zeros(1, np.float32), np.zeros(1)) is None
        assert direction(np.zeros((0, 1), np.float32), np.zeros(0, np.float32), np.zeros(0)) is None


class TestNearest:
    vectors = np.array([[0, 0], [5, 0], [1, 1], [0, 9], [-1, 0], [2, 1]], np.float32)
    norms = np.array([0, 5, 2**0.5, 9, 1, 5**0.5], np.float32)
    inverse_norm = np.divide(1, norms, out=np.zeros(6, np.float32), where=norms > 0)
    user = np.array([1, 0], np.float32)

    def found(self, count: int, without: tuple[int, ...] = ()) -> list[int]:
        allowed = np.ones(6, np.bool_)
        allowed[list(without)] = False
        best: list[int] = nearest(self.user, self.vectors, self.inverse_norm, allowed, count).tolist()
        return best

    def test_by_angle_whatever_the_length_and_never_without_a_vector(self) -> None:
        assert self.found(3) == [1, 5, 2]
        assert self.found(10) == [1, 5, 2, 3, 4]

    def test_what_is_not_allowed_makes_room(self) -> None:
        assert self.found(2, without=(1, 2)) == [5, 3]
        assert self.found(2, without=(0, 1, 2, 3, 4, 5)) == []

    def test_as_sorting_everything_would(self) -> None:
        rng = np.random.default_rng(3)
        vectors = rng.normal(size=(500, 7)).astype(np.float32)
        norms = np.linalg.norm(vectors, axis=1)
        user = rng.normal(size=7).astype(np.float32)
        expected = np.argsort(-(vectors @ user) / norms)[:20]
        assert nearest(user, vectors, 1 / norms, np.ones(500, np.bool_), 20).tolist() == expected.tolist()


def test_every_allowed_content_is_drawn_as_often_as_any_other() -> None:
    allowed = np.array([False, True, True, False, True, True])
    rng = np.random.default_rng(0)
    counts = np.bincount(np.concatenate([drawn(allowed, 2, rng) for _ in range(4_000)]), minlength=6)
    assert counts[~allowed].tolist() == [0, 0]
    np.testing.assert_allclose(counts[allowed], 2_000, atol=4 * (4_000 * 0.25) ** 0.5)
    assert sorted(drawn(allowed, 9, rng).tolist()) == [1, 2, 4, 5]


class TestMixed:
    def test_in_proportion_to_the_shares_best_first(self) -> None:
        ranked: Ranked = {"nearest": ids(*range(10, 20)), "popular": ids(*range(20, 30)), "new": ids(*range(30, 40))}
        shares: dict[Source, float] = {"nearest": 0.5, "popular": 0.25, "new": 0.25, "random": 0.0}
        proposed = mixed(ranked, shares, 8)
        assert sorted(proposed.indices.tolist()) == [10, 11, 12, 13, 20, 21, 30, 31]
        assert [SOURCES[source] for source in proposed.sources[:3]] == ["nearest", "popular", "new"]

    def test_shares_are_relative(self) -> None:
        ranked: Ranked = {"nearest": ids(*range(10, 20)), "popular": ids(*range(20, 30))}
        one, other = (mixed(ranked, {**EVEN, "nearest": 3 * by, "popular": by}, 8) for by in (0.1, 7.0))
        assert one.indices.tolist() == other.indices.tolist()
        assert np.bincount(one.sources).tolist() == [6, 2]

    def test_a_source_that_runs_out_is_replaced_by_the_others_in_proportion(self) -> None:
        ranked: Ranked = {
            "nearest": ids(),
            "popular": ids(*range(20, 40)),
            "new": ids(*range(40, 60)),
            "random": ids(1),
        }
        proposed = mixed(ranked, {"nearest": 5.0, "popular": 2.0, "new": 1.0, "random": 1.0}, 13)
        assert np.bincount(proposed.sources, minlength=4).tolist() == [0, 8, 4, 1]

    def test_each_content_once_for_the_source_that_wants_it_more(self) -> None:
        proposed = mixed({"nearest": ids(1, 2, 3), "popular": ids(3, 2, 4)}, EVEN, 10)
        assert proposed.indices.tolist() == [1, 3, 2, 4]
        assert [SOURCES[source] for source in proposed.sources] == ["nearest", "popular", "nearest", "popular"]

    def test_a_source_without_a_share_does_not_help_out(self) -> None:
        proposed = mixed({"nearest": ids(1), "popular": ids(2, 3)}, {**EVEN, "popular": 0.0}, 3)
        assert proposed.indices.tolist() == [1]

    @pytest.mark.parametrize("ranked", [{}, {"new": ids()}])
    def test_nothing_to_propose(self, ranked: Ranked) -> None:
        assert mixed(ranked, EVEN, 5).indices.tolist() == []
