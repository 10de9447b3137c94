"""MovieLens-100K through the running system, and in process with the same settings.

Running: ``moard demo`` from beginning to end, with a Kafka, a Redis and a MariaDB of its own: HTTP calls, impressions
through Kafka, snapshots through Redis, about ten users at a time. In process: the agent alone, told of each event
before the next, in the demo's own profile, with the same text vectors. What differs is the time of the replay: it
squeezes six months into minutes, and its ``tau_s`` with them; in process the median gap of a session is that of the
ratings.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from benchmarks.harness import Bench
from benchmarks.movielens_play import Play
from examples.movielens import dataset, demo, profile
from examples.movielens.pace import PaceSettings
from examples.movielens.protocol import Turn, by_fifths, popularity_clicks, random_clicks, turns
from examples.movielens.report import REPORT
from libs.errors import MoardError
from libs.rl.agent import Agent
from libs.rl.settings import AgentSettings
from libs.rl.slates import Exploration
from libs.text.doc2vec import text_of, train
from services.learner.settings import Settings as LearnerSettings
from services.serving.settings import Settings as ServingSettings

FOLDER = Path(".moard/bench/movielens-live")
SHORT_REQUESTS = 2_000
TAU_S = 30.0  # the median gap of a session in the time of the ratings; the profile's is that of the replay
CAPACITY = 100_000  # more than the stream has rows: the same buffer without the memory of the default


def run(bench: Bench) -> None:
    """Record clicks per request by fifths, running and in process, and the ratio of their last fifths."""
    requests = SHORT_REQUESTS if bench.short else None
    running = _running(bench, requests)
    data = dataset.load()
    stream = demo.first(turns(data.ratings, "popularity", bench.seed), requests)
    variants = {
        "running": running["moard"],
        "in process": by_fifths(_in_process(bench, data, stream)),
        "popularity": by_fifths(popularity_clicks(stream)),
        "random": by_fifths(random_clicks(stream)),
    }
    for name, fifths in variants.items():
        for number, mean in enumerate(fifths, start=1):
            bench.record(name, f"clicks per request, fifth {number}", mean, "clicks", len(stream) // len(fifths))
    share = variants["running"][-1] / variants["in process"][-1]
    bench.record("running / in process", "clicks per request, last fifth", 100 * share, "%")


def _running(bench: Bench, requests: int | None) -> dict[str, list[float]]:
    """Run the demo; return clicks per request by fifths of every ranker in its report."""
    options = demo.Options(
        folder=FOLDER, stay=False, requests=requests, negatives="popularity", seed=bench.seed, pace=PaceSettings()
    )
    if status := demo.run(options):
        raise MoardError(f"the demo ended with {status}; its logs are in {FOLDER}")
    fifths: dict[str, list[float]] = orjson.loads(REPORT.read_bytes())["clicks_per_request_by_fifth"]
    return fifths


def _in_process(bench: Bench, data: dataset.MovieLens, stream: list[Turn]) -> NDArray[np.float64]:
    """Return the clicks of each request for the agent that the services of the demo's profile would run."""
    settings, exploration = settings_of_profile()
    texts = {movie.content_id: text_of(movie.title, movie.description) for movie in data.contents}
    model = train(texts.items())
    play = Play(Agent(settings, model.vector_size, bench.seed), exploration=exploration, seed=bench.seed)
    play.put_contents({movie.content_id: model.infer(movie.title, movie.description) for movie in data.contents})
    return play.through(bench.progress(stream, "in process", total=len(stream)))


def settings_of_profile() -> tuple[AgentSettings, Exploration]:
    """Return what learner and serving would make of the demo's profile, with the gap of the ratings' own time."""
    given = {name.removeprefix("MOARD_").lower(): value for name, value in profile.environment().items()}
    learner = LearnerSettings(_env_file=None, **_of("learner_", given))
    serving = ServingSettings(_env_file=None, **_of("serving_", given))
    settings = replace(learner.agent_settings(), tau_s=TAU_S, capacity=CAPACITY)
    return settings, Exploration(serving.serving_temperature, serving.serving_epsilon, serving.serving_greedy)


def _of(prefix: str, given: Mapping[str, str]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if name.startswith(prefix)}
