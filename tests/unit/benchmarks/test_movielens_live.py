"""The running system against the same agent in process: the same settings, the same requests, one ratio."""

import io
from pathlib import Path

import orjson
import pytest
from rich.console import Console

from benchmarks import movielens_live
from benchmarks.harness import Bench
from benchmarks.movielens_live import settings_of_profile
from examples.movielens import dataset, demo, profile
from examples.movielens.dataset import Movie, MovieLens, Ratings
from libs.errors import MoardError
from libs.rl.settings import AgentSettings


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench("movielens-live", seed=3, results=tmp_path, console=Console(file=io.StringIO()))


def test_both_sides_have_the_settings_of_the_demo() -> None:
    settings, exploration = settings_of_profile()
    given = profile.environment()
    assert settings.replay_ratio == float(given["MOARD_LEARNER_REPLAY_RATIO"]) != AgentSettings().replay_ratio
    assert settings.learning_starts == int(given["MOARD_LEARNER_LEARNING_STARTS"])
    assert exploration.temperature == float(given["MOARD_SERVING_TEMPERATURE"])
    assert settings.gamma == AgentSettings().gamma


def test_the_ratio_is_of_the_last_fifths_of_the_same_requests(
    bench: Bench, camps: tuple[list[Movie], Ratings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents, ratings = camps
    asked: list[demo.Options] = []
    report = tmp_path / "report.json"

    def run(options: demo.Options) -> int:
        asked.append(options)
        report.write_bytes(orjson.dumps({"clicks_per_request_by_fifth": {"moard": [1.0, 1.0, 1.0, 1.0, 1.5]}}))
        return 0

    monkeypatch.setattr(movielens_live, "REPORT", report)
    monkeypatch.setattr(demo, "run", run)
    monkeypatch.setattr(dataset, "load", lambda: MovieLens(tuple(contents), ratings))
    movielens_live.run(bench)

    assert [(options.seed, options.negatives, options.stay) for options in asked] == [(3, "popularity", False)]
    found = {(figure.variant, figure.metric): figure.value for figure in bench.figures}
    last = "clicks per request, fifth 5"
    assert found["running", last] == 1.5
    expected = 100 * 1.5 / found["in process", last]
    assert found["running / in process", "clicks per request, last fifth"] == pytest.approx(expected)


def test_a_demo_that_failed_gives_no_figures(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "run", lambda options: 2)
    with pytest.raises(MoardError, match="ended with 2"):
        movielens_live.run(bench)
    assert bench.figures == []
