"""What the serving bench compares: both sides are asked the same and must say the same."""

import numpy as np
import orjson
import pytest
import torch

from benchmarks.load import _of_wrk
from benchmarks.plain_server import draw, q_values
from benchmarks.scoring import Naive
from benchmarks.serving_requests import JSON_BULK, OCTETS, kinds
from libs.rl.action_space import ActionSpace
from libs.rl.scoring import Scorer
from libs.rl.slates import Exploration, log_probabilities
from tests.snapshots import random_snapshot

VECTOR = 16

REPORT = """Running 1s test @ http://127.0.0.1:1
  1 threads and 16 connections
  Latency Distribution
     50%   17.50ms
     75%   20.00ms
     90%   30.00ms
     99%    1.20s
  830 requests in 1.00s, 4.00MB read
Requests/sec:    829.50
Transfer/sec:      4.00MB
"""


def test_the_plain_server_values_vectors_as_serving_does() -> None:
    snapshot, space = random_snapshot(range(40), VECTOR), ActionSpace(VECTOR)
    space.ensure(range(40))
    rng = np.random.default_rng(0)
    user, contents = rng.normal(size=VECTOR).astype(np.float32), rng.normal(size=(20, VECTOR)).astype(np.float32)
    naive = Naive(snapshot, space)
    values = q_values(naive.network, torch.from_numpy(user), torch.from_numpy(contents), float(naive.counts[0]))
    np.testing.assert_allclose(values, Scorer(snapshot, space).q_values(user, contents), rtol=1e-4, atol=1e-4)
    assert np.ptp(values) > 1e-2


def test_the_plain_draw_states_the_probability_of_what_it_drew() -> None:
    scores = np.random.default_rng(0).normal(size=30).astype(np.float32)
    drawn, log_p = draw(torch.from_numpy(scores), 6)
    exact = log_probabilities(scores, np.array(drawn), Exploration(temperature=0.25, epsilon=0.0))
    np.testing.assert_allclose(log_p, exact, rtol=0.1)  # its spread is that of a sample


def test_octets_ask_what_the_json_asks() -> None:
    asked = {one.name: one for one in kinds(0, 2_000)}
    for text, octets in zip(asked[JSON_BULK].bodies, asked[OCTETS].bodies, strict=True):
        document = orjson.loads(text)
        vectors = np.array([document["user_embedding"], *document["content_embeddings"]], np.float32)
        assert vectors.tobytes() == octets


def test_what_wrk_says_is_read_in_milliseconds() -> None:
    load = _of_wrk(REPORT)
    assert (load.rate, load.p50_ms, load.p99_ms, load.requests) == (829.5, 17.5, 1200.0, 830)


@pytest.mark.parametrize("trouble", ["  Non-2xx or 3xx responses: 3\n", "  Socket errors: connect 0, read 3\n"])
def test_load_that_was_not_answered_is_not_measured(trouble: str) -> None:
    with pytest.raises(RuntimeError):
        _of_wrk(REPORT + trouble)
