from pathlib import Path

import pytest
import torch

from benchmarks import checkpoint, replay
from benchmarks.harness import Bench


async def test_the_short_form_saves_and_restores(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for module in (checkpoint, replay):
        monkeypatch.setattr(module, "VECTOR_SIZE", 8)
        monkeypatch.setattr(module, "CONTENTS", 60)
    monkeypatch.setattr(checkpoint, "SHORT_ROWS", (1_000, 2_000))
    monkeypatch.setattr(checkpoint, "SHORT_AMENDMENTS", 4_000)
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    bench = Bench("checkpoint", short=True, results=tmp_path)

    await checkpoint.run(bench)

    figures = {(figure.variant, figure.metric): figure for figure in bench.figures}
    assert figures["2,000 rows", "restored"].n == 2_000
    # A thousand rows more are not written again.
    new = "500 new rows: written, mean"
    assert figures["2,000 rows", new].value < 1.3 * figures["1,000 rows", new].value
    assert figures["4,000 amendments of 2,000 rows", "disk, three checkpoints"].value > 0
