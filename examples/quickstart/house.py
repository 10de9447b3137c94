"""All of moard under one roof: the three services of production, put together on the in-memory twins.

Nothing here stands in for a service. What differs is below the ports: the log, the snapshot store, the histories and
the catalogue are objects of this process, so nothing has to be started and nothing is left behind.
"""

import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from prometheus_client import CollectorRegistry

from libs.errors import MoardError
from services.cli.twins import Twins
from services.ingest.assembly import Ingest
from services.ingest.settings import Settings as IngestSettings
from services.learner.assembly import Learner
from services.learner.settings import Settings as LearnerSettings
from services.serving.assembly import Serving
from services.serving.recommender import Request
from services.serving.settings import Settings as ServingSettings

VECTOR_SIZE = 32


class NotAccepted(MoardError):
    """Ingest refused an event. Consequence: the quickstart ends and says why."""


@dataclass(frozen=True, slots=True)
class Shown:
    """One ranking as its caller sees it."""

    impression_id: str
    content_ids: tuple[int, ...]
    snapshot_version: int


class House:
    """The services, and the two calls that a backend makes of them."""

    def __init__(self, ingest: Ingest, serving: Serving, learner: CollectorRegistry) -> None:
        self._ingest = ingest
        self._serving = serving
        self._learner = learner

    @property
    def updates(self) -> int:
        """Gradient steps so far, as the learner's metrics tell."""
        return int(self._learner.get_sample_value("moard_learner_updates_total") or 0)

    @property
    def snapshot_step(self) -> int:
        """Gradient steps in the snapshot that ranks, 0 before the first."""
        served = self._serving.watcher.served
        return 0 if served is None else served.meta.step

    async def put(self, content_id: int, title: str, vector: Sequence[float]) -> None:
        """Put one content into the catalogue."""
        await self._ingest.contents.put(str(content_id), orjson.dumps({"title": title, "embedding": vector}))

    async def rank(self, user_id: str, candidates: Sequence[int], size: int) -> Shown:
        """Return what serving shows a user, as ``POST /api/v1/rank`` would."""
        visits = await self._serving.users.recent(user_id)
        answer = await self._serving.recommender.recommend(Request(user_id, candidates, size), visits)
        if answer.ranking is None or answer.impression_id is None:
            raise NotAccepted(f"nothing to show of {candidates}")
        return Shown(answer.impression_id, tuple(answer.ranking.content_ids.tolist()), answer.snapshot_version)

    async def post(self, events: Sequence[dict[str, Any]]) -> None:
        """Tell what a user did, as ``POST /api/v1/events`` would."""
        answer = await self._ingest.events.accept(orjson.dumps({"events": events}))
        if answer.status != 202:
            raise NotAccepted(f"{answer.status}: {answer.body}")


@contextlib.asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[House]:
    """Build and run the house; ``folder`` is where learner and serving keep what would outlive them."""
    twins = Twins()
    registry = CollectorRegistry()
    ingest = Ingest(IngestSettings(_env_file=None, vector_size=VECTOR_SIZE), twins.of_ingest(), CollectorRegistry())
    learner = Learner(_learner_settings(folder), twins.of_learner(), registry)
    serving = Serving(_serving_settings(folder), twins.of_serving(), CollectorRegistry())
    async with learner.running(), ingest.running(), serving.running():
        yield House(ingest, serving, registry)


def _learner_settings(folder: Path) -> LearnerSettings:
    return LearnerSettings(
        _env_file=None,
        vector_size=VECTOR_SIZE,
        learner_checkpoint_path=str(folder / "checkpoints"),
        learner_windows="compressed",  # a visit every few milliseconds: what takes days takes seconds here
        learner_tau_s=1.0,
        learner_learning_starts=50,  # there are 1,200 rows in all
        learner_snapshot_interval_s=0.25,
    )


def _serving_settings(folder: Path) -> ServingSettings:
    return ServingSettings(_env_file=None, vector_size=VECTOR_SIZE, state_path=str(folder), serving_temperature=0.1)
