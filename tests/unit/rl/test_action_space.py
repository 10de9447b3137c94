import numpy as np
import pytest

from libs.rl.action_space import ActionSpace


def test_indices_start_behind_padding_and_stay() -> None:
    space = ActionSpace(3, capacity=2)
    assert space.ensure([50, 40, 50]).tolist() == [1, 2, 1]
    assert space.ensure(list(range(100))).tolist()[40] == 2
    assert space.index([40, 7777]).tolist() == [2, 0]
    assert space.ids[:3].tolist() == [-1, 50, 40]
    assert len(space) == 101  # 0 … 99 hold 40 and 50, and padding comes first


def test_vectors_and_their_lengths() -> None:
    space = ActionSpace(2)
    at = space.put(9, [3.0, 4.0])
    assert space.vectors[at].tolist() == [3.0, 4.0]
    assert space.inverse_norm[at] == pytest.approx(0.2)
    empty = space.put(8, None)
    assert space.inverse_norm[empty] == 0
    assert space.has_vector.tolist() == [False, True, False]
    assert space.put(9, None) == at
    assert not space.has_vector[at]


def test_removed_contents_are_hidden_and_keep_their_index() -> None:
    space = ActionSpace(2)
    at = space.put(9, [1.0, 0.0])
    space.remove(9)
    space.remove(12345)
    assert space.hidden[at]
    assert space.ensure([9]).tolist() == [at]
    assert 12345 not in space


def test_changes_tell_what_to_read_again() -> None:
    space = ActionSpace(2)
    space.ensure([1, 2, 3])
    seen = space.changes
    assert space.changed_since(seen).tolist() == []
    space.put(2, [1.0, 1.0])
    space.ensure([3, 4])
    assert space.changed_since(seen).tolist() == [2, 4]


@pytest.mark.parametrize("vector", [[1.0], [1.0, 2.0, 3.0], [1.0, float("nan")], [1.0, 1e300]])
def test_a_vector_that_does_not_fit_is_refused_and_changes_nothing(vector: list[float]) -> None:
    space = ActionSpace(2)
    space.put(1, [1.0, 0.0])
    with pytest.raises(ValueError, match="content 1"):
        space.put(1, vector)
    assert space.vectors[1].tolist() == [1.0, 0.0]


def test_huge_vectors_keep_a_usable_length() -> None:
    space = ActionSpace(2)
    at = space.put(1, [1e30, 0.0])
    assert space.vectors[at] @ np.array([1, 0], np.float32) * space.inverse_norm[at] == pytest.approx(1)
