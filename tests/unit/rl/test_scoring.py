from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import pytest
from numpy.typing import NDArray

from libs.errors import SnapshotRejected
from libs.rl import scoring
from libs.rl.action_space import ActionSpace
from libs.rl.features import encode_context
from libs.rl.scoring import Scorer
from libs.rl.snapshot import Snapshot
from libs.rl.transitions import State
from tests.snapshots import random_snapshot

Array: TypeAlias = NDArray[Any]
IDS = [11, 12, 13, 14, 15]
STATE = State(history=(12, 14), history_age_s=(10.0, 7200.0), context={"hour": 3.0, "device": "phone"})


def filled_space(ids: Sequence[int] = IDS, seed: int = 1) -> ActionSpace:
    space, rng = ActionSpace(8), np.random.default_rng(seed)
    for content_id in ids:
        space.put(content_id, rng.normal(size=8))
    return space


@pytest.fixture
def space() -> ActionSpace:
    return filled_space()


@pytest.fixture
def scorer(space: ActionSpace) -> Scorer:
    return Scorer(random_snapshot(IDS, 8), space)


def norm_relu(x: Array, gain: Array, bias: Array) -> Array:
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    return np.asarray(np.maximum(x * gain + bias, 0))


def plainly(snapshot: Snapshot, space: ActionSpace, state: State, content_id: int) -> tuple[float, float, Array]:
    """rl.md §2 written down once more, in double precision and one content at a time."""
    w = {name: array.astype(np.float64) for name, array in snapshot.weights.items()}
    row = {c: i for i, c in enumerate(snapshot.content_ids.tolist())}
    text = {c: space.vectors[space.index([c])[0]].astype(np.float64) for c in snapshot.content_ids.tolist()}
    ut = sum(0.9 ** (age / 3600) * text[c] for c, age in zip(state.history, state.history_age_s, strict=True))
    ue = sum(snapshot.user_rows[row[c]].astype(np.float64) for c in state.history) / np.sqrt(len(state.history))
    user = np.concatenate([ut / np.linalg.norm(ut), ue, encode_context(state.context)])
    counts = snapshot.consumptions
    n = np.log1p(counts[row[content_id]]) - (counts * np.log1p(counts)).sum() / counts.sum()
    ce = snapshot.content_rows[row[content_id]].astype(np.float64)
    content = np.concatenate([text[content_id] / np.linalg.norm(text[content_id]), ce, [n]])
    first = w["user_in.weight"] @ user + w["content_in.weight"] @ content + w["content_in.bias"]
    h1 = norm_relu(first, w["norm_1.weight"], w["norm_1.bias"])
    h2 = norm_relu(w["middle.weight"] @ h1 + w["middle.bias"], w["norm_2.weight"], w["norm_2.bias"])
    a, logit = w["heads.weight"] @ h2 + w["heads.bias"]
    hv = norm_relu(w["value_in.weight"] @ user + w["value_in.bias"], w["value_norm.weight"], w["value_norm.bias"])
    values = w["value_out.weight"] @ hv + w["value_out.bias"]
    return a + ue @ w["mix.weight"] @ ce, logit + ue @ ce + snapshot.biases[row[content_id]], values


def test_scores_are_those_of_the_specification(space: ActionSpace, scorer: Scorer) -> None:
    scores = scorer.score(STATE, space.index([13, 11]))
    for at, content_id in enumerate([13, 11]):
        advantage, choice, values = plainly(scorer.snapshot, space, STATE, content_id)
        assert scores.advantage[at] == pytest.approx(advantage, abs=1e-4)
        assert scores.choice[at] == pytest.approx(choice, abs=1e-4)
        np.testing.assert_allclose([scores.u, scores.n, scores.a_empty], values, atol=1e-4)


def test_gains_of_any_sign_are_folded_into_the_weights(space: ActionSpace) -> None:
    snapshot = random_snapshot(IDS, 8)
    for name in ("norm_1", "norm_2", "value_norm"):
        snapshot.weights[f"{name}.weight"][::2] *= -1
        snapshot.weights[f"{name}.weight"][1::4] = 0
    scores = Scorer(snapshot, space).score(STATE, space.index([13]))
    advantage, choice, values = plainly(snapshot, space, STATE, 13)
    assert scores.advantage[0] == pytest.approx(advantage, abs=1e-4)
    assert scores.choice[0] == pytest.approx(choice, abs=1e-4)
    np.testing.assert_allclose([scores.u, scores.n, scores.a_empty], values, atol=1e-4)


def test_a_score_does_not_depend_on_the_other_candidates(space: ActionSpace, scorer: Scorer) -> None:
    together = scorer.score(STATE, space.index(IDS))
    alone = [scorer.score(STATE, space.index([content_id])) for content_id in IDS]
    np.testing.assert_allclose(together.advantage, [s.advantage[0] for s in alone], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(together.choice, [s.choice[0] for s in alone], rtol=1e-5, atol=1e-5)


def test_the_parts_of_a_score_add_up_to_it(space: ActionSpace, scorer: Scorer) -> None:
    space.put(99, np.ones(8))
    scorer.refresh(space)
    indices = space.index([13, 99, 11])
    scores, parts = scorer.score(STATE, indices), scorer.parts(STATE, indices)
    np.testing.assert_allclose(parts.advantage_network + parts.advantage_ids, scores.advantage, atol=1e-5)
    choice = parts.choice_network + parts.choice_ids + parts.choice_bias
    np.testing.assert_allclose(choice, scores.choice, atol=1e-5)
    user = scorer.snapshot.user_rows[[IDS.index(12), IDS.index(14)]].sum(axis=0) / np.sqrt(2)
    assert parts.choice_ids[0] == pytest.approx(user @ scorer.snapshot.content_rows[IDS.index(13)], abs=1e-5)
    assert parts.choice_bias.tolist() == [scorer.snapshot.biases[2], 0.0, scorer.snapshot.biases[0]]
    assert (parts.choice_ids[1], parts.advantage_ids[1]) == (0.0, 0.0)
    assert parts.consumptions.tolist() == [scorer.snapshot.consumptions[2], -1, scorer.snapshot.consumptions[0]]


def test_a_catalogue_larger_than_a_chunk_is_taken_in_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = list(range(1, 30))
    space, snapshot = filled_space(ids), random_snapshot(ids, 8)
    whole = Scorer(snapshot, space).score(STATE, space.index(ids))
    monkeypatch.setattr(scoring, "_CHUNK", 4)
    chunked = Scorer(snapshot, space).score(STATE, space.index(ids))
    np.testing.assert_allclose(chunked.choice, whole.choice, rtol=1e-5, atol=1e-5)


def test_history_unknown_to_the_space_contributes_nothing(space: ActionSpace, scorer: Scorer) -> None:
    stranger = State(history=(99, *STATE.history), history_age_s=(1.0, *STATE.history_age_s), context=STATE.context)
    known, unknown = scorer.score(STATE, space.index(IDS)), scorer.score(stranger, space.index(IDS))
    np.testing.assert_array_equal(known.choice, unknown.choice)
    assert known.u == unknown.u


def test_empty_history_and_empty_candidates(space: ActionSpace, scorer: Scorer) -> None:
    scores = scorer.score(State(), space.index(IDS))
    assert np.isfinite(scores.choice).all()
    assert scorer.score(State(), space.index([])).choice.shape == (0,)


def test_refresh_takes_in_what_arrived_and_changed(space: ActionSpace, scorer: Scorer) -> None:
    before = scorer.score(STATE, space.index(IDS))
    space.put(13, np.ones(8))
    space.put(99, -np.ones(8))
    scorer.refresh(space)
    fresh = Scorer(scorer.snapshot, space).score(STATE, space.index([*IDS, 99]))
    refreshed = scorer.score(STATE, space.index([*IDS, 99]))
    np.testing.assert_allclose(refreshed.choice, fresh.choice, atol=1e-5)
    assert refreshed.choice[2] != before.choice[2]
    assert refreshed.choice[0] == pytest.approx(before.choice[0], abs=1e-5)


def test_order_of_the_space_does_not_matter() -> None:
    one, other = filled_space(), ActionSpace(8)
    for content_id in reversed(IDS):
        other.put(content_id, one.vectors[one.index([content_id])[0]])
    snapshot = random_snapshot(IDS, 8)
    a = Scorer(snapshot, one).score(STATE, one.index(IDS))
    b = Scorer(snapshot, other).score(STATE, other.index(IDS))
    np.testing.assert_allclose(a.choice, b.choice, atol=1e-5)


def test_q_values_are_those_of_an_unknown_content_for_an_unknown_history(space: ActionSpace, scorer: Scorer) -> None:
    vectors = np.random.default_rng(5).normal(size=(3, 8)).astype(np.float32)
    user = np.random.default_rng(6).normal(size=8).astype(np.float32)
    for content_id, vector in zip((101, 102, 103), vectors, strict=True):
        space.put(content_id, vector)
    space.put(200, user)
    scorer.refresh(space)
    scores = scorer.score(State(history=(200,), history_age_s=(0.0,)), space.index([101, 102, 103]))
    np.testing.assert_allclose(scorer.q_values(user, vectors), scores.n + scores.advantage, atol=1e-4)
    assert scorer.q_values(user, vectors[:0]).shape == (0,)


def test_canary_refuses_weights_that_overflow(space: ActionSpace) -> None:
    snapshot = random_snapshot(IDS, 8)
    Scorer(snapshot, space).canary()
    snapshot.weights["heads.weight"][:] = 1e38
    with pytest.raises(SnapshotRejected, match="canary"):
        Scorer(snapshot, space).canary()


def test_requests_scored_together_get_what_each_gets_alone(scorer: Scorer, space: ActionSpace) -> None:
    asked = [
        (STATE, space.index([13, 11])),
        (State(), space.index([])),
        (State((99, 15), (1.0, 2.0)), space.index(IDS)),
    ]
    for (state, indices), together in zip(asked, scorer.score_all(asked), strict=True):
        alone = scorer.score(state, indices)
        np.testing.assert_allclose(together.advantage, alone.advantage, atol=1e-5)
        np.testing.assert_allclose(together.choice, alone.choice, atol=1e-5)
        assert (together.u, together.n, together.a_empty) == pytest.approx((alone.u, alone.n, alone.a_empty), abs=1e-5)
