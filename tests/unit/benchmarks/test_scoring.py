from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import scoring, update_step
from benchmarks.harness import Bench
from benchmarks.scoring import Naive, agree, drawn_request
from benchmarks.update_step import filled_agent
from libs.rl.scoring import Scorer


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(update_step, "ROWS", 120)
    monkeypatch.setattr(update_step, "VECTOR_SIZE", 16)
    monkeypatch.setattr(scoring, "CONTENTS", (200,))
    monkeypatch.setattr(scoring, "CANDIDATES", (20, 100))
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)


def test_serving_says_what_the_net_written_plainly_says() -> None:
    agent = filled_agent(200, seed=1)
    snapshot, space = agent.snapshot(), agent.space
    scorer, naive = Scorer(snapshot, space), Naive(snapshot, space)
    request = drawn_request(space, 50, np.random.default_rng(0))
    ours, theirs = scorer.score(*request), naive.score(*request)
    assert np.ptp(ours.choice) > 1e-3
    agree(ours, theirs)
    with pytest.raises(AssertionError, match=r"atol=0\.0001\nn\n"):
        agree(ours, replace(theirs, n=theirs.n + 0.01))


def test_the_short_form_compares_both_at_every_size(tmp_path: Path) -> None:
    bench = Bench("scoring", short=True, results=tmp_path)
    scoring.run(bench)
    ratios = [figure for figure in bench.figures if figure.metric == "naive / ours"]
    assert [figure.variant for figure in ratios] == ["20 of 200 contents", "100 of 200 contents"]
    assert all(figure.value > 0 for figure in bench.figures)
