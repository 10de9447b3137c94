from pathlib import Path

import pytest
import torch

from benchmarks import replay
from benchmarks.harness import Bench


def test_the_short_form_fills_a_buffer_and_weighs_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(replay, "VECTOR_SIZE", 8)
    monkeypatch.setattr(replay, "CONTENTS", 60)
    monkeypatch.setattr(replay, "SHORT_ROWS", 1_000)
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    bench = Bench("replay", short=True, results=tmp_path)
    replay.run(bench)
    figures = {figure.metric: figure.value for figure in bench.figures}
    assert figures["of it, arrays"] < 1_000
    assert {"insert", "consume", "close", "choose a batch: share of an update"} <= set(figures)
    assert figures["update, B = 256"] > figures["choose a batch"] > 0
