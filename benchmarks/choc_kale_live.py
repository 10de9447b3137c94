"""Choc/kale through the running system: HTTP, Kafka, learner, Redis, serving, each a process of its own.

Simulated users ask serving for a slate of one and post what they did to ingest: a click, which moves their history, and
a reward. The events carry the times of the simulated world, hours apart, as a backfill does. First users come while
the system learns, then new ones for whom serving is started again to take the best slate. All of it a second time with
γ = 0, on a stack of its own.
"""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import aiohttp
import numpy as np
import orjson
from numpy.typing import NDArray

from benchmarks import choc_kale_world as world
from benchmarks.choc_kale import GAP_S, ONE_DIMENSIONAL, REWARD, baselines, record_returns
from benchmarks.choc_kale_play import Catalogue, Rhythm, one_dimensional
from benchmarks.differences import differences
from benchmarks.harness import Bench
from infra.local import LocalStack
from infra.services import ServiceName, ServiceProcess
from libs.rl.settings import AgentSettings

SETTINGS: Final = replace(ONE_DIMENSIONAL.settings, tau_s=60.0, context_numbers=("step",), reward=REWARD)
"""τ is longer than any pause between two requests of a user here, so that each discounts by γ, as in process."""

USERS: Final = 100
"""Side by side. Their events of one round are one body of ingest: two each, and 500 is its limit."""

CONTENTS: Final = 1_000
"""A catalogue as large as a client puts in a few seconds."""

TRAINING: Final = 24_000
FRESH_USERS: Final = 100
PARTS: Final = 4
IN_FLIGHT: Final = 16
DEADLINE_S: Final = 60.0

_PLAIN: Final = (
    *(
        "gamma",
        "tau_s",
        "consumption",
        "batch_size",
        "capacity",
        "learning_starts",
        "replay_ratio",
        "recent_share",
        "lr",
    ),
    *("lr_final", "lr_decay_updates", "id_lr", "id_dropout", "weight_decay", "target_rate"),
)


def environment(settings: AgentSettings, vector_size: int) -> dict[str, str]:
    """Return the variables that make the learner's agent the one of these settings."""
    return {
        **{f"MOARD_LEARNER_{name.upper()}": str(getattr(settings, name)) for name in _PLAIN},
        "MOARD_LEARNER_CONTEXT_NUMBERS": orjson.dumps(settings.context_numbers).decode(),
        "MOARD_LEARNER_REWARD_WEIGHTS": orjson.dumps(dict(settings.reward.weights)).decode(),
        "MOARD_LEARNER_REWARD_LOW": str(settings.reward.low),
        "MOARD_LEARNER_REWARD_HIGH": str(settings.reward.high),
        "MOARD_SERVING_TEMPERATURE": str(ONE_DIMENSIONAL.exploration.temperature),
        "MOARD_SERVING_EPSILON": str(ONE_DIMENSIONAL.exploration.epsilon),
        "MOARD_LEARNER_WINDOWS": "compressed",  # a user who is through is known to be half a minute later
        "MOARD_VECTOR_SIZE": str(vector_size),
        "MOARD_SERVING_HISTORY_DEADLINE_MS": "2000",  # two cores run everything: a late history beats none
        "MOARD_INGEST_HISTORY_DEADLINE_MS": "2000",
        "MOARD_LOG_LEVEL": "warning",
    }


def run(bench: Bench) -> None:
    """Record what users are expected to bring through the running system, learning and learned."""
    baselines(bench)
    bench.note(f"{differences(SETTINGS)}; {ONE_DIMENSIONAL.exploration}; {TRAINING:,} user steps")
    for variant, gamma in (("running system", SETTINGS.gamma), ("running system, γ = 0 twin", 0.0)):
        with tempfile.TemporaryDirectory(prefix="moard-bench-") as folder:
            _run(bench, variant, replace(SETTINGS, gamma=gamma), Path(folder))


def _run(bench: Bench, variant: str, settings: AgentSettings, folder: Path) -> None:
    began_s, catalogue = time.perf_counter(), one_dimensional(bench.seed, CONTENTS)
    with ExitStack() as stopping:
        stack = stopping.enter_context(LocalStack(folder, database=False, use_external=False))
        variables = stack.addresses.environment() | environment(settings, catalogue.vectors.shape[1])
        variables["MOARD_LEARNER_CHECKPOINT_PATH"] = f"{folder}/checkpoints"
        variables["MOARD_STATE_PATH"] = f"{folder}/state"
        ingest, _, serving = (_started(name, variables, folder, stopping) for name in ("ingest", "learner", "serving"))
        steps = (4_000 if bench.short else TRAINING) // PARTS
        crowd = LiveCrowd("learning", USERS, catalogue, bench.seed, staggered=True)
        curve = asyncio.run(_learn(bench, variant, Urls(ingest.url, serving.url), crowd, steps))
        for part, value in enumerate(curve, start=1):
            bench.record(variant, f"return while learning, quarter {part}", value, "engagement", steps)
        serving.stop()
        best = _started("serving", variables | {"MOARD_SERVING_GREEDY": "1"}, folder, stopping)
        fresh = LiveCrowd("fresh", FRESH_USERS, catalogue, bench.seed + 1)
        record_returns(
            bench, variant, asyncio.run(_serve(bench, variant, Urls(ingest.url, best.url), fresh)), bench.seed
        )
    bench.record(variant, "wall time", time.perf_counter() - began_s, "s", PARTS * steps)


def _started(name: ServiceName, variables: Mapping[str, str], folder: Path, stopping: ExitStack) -> ServiceProcess:
    service = ServiceProcess(name, variables, folder)
    stopping.callback(service.stop)
    service.start()
    service.wait_ready()
    return service


@dataclass(frozen=True, slots=True)
class Urls:
    """Where the two services listen that a backend knows."""

    ingest: str
    serving: str


@dataclass(slots=True)
class Guest:
    """One user as the client knows it; ``began_ms`` is when the first content was consumed, in simulated time."""

    user_id: str
    began_ms: int
    steps: int = 0


@dataclass(slots=True)
class LiveCrowd:
    """Users side by side, each with a hidden NPE; one who is through makes room for a new one."""

    name: str
    users: int
    catalogue: Catalogue
    seed: int
    staggered: bool = False
    rhythm: Rhythm = Rhythm(GAP_S, tells_step=True)  # noqa: RUF009 - frozen
    rng: np.random.Generator = field(init=False)
    npe: NDArray[np.float64] = field(init=False)
    guests: list[Guest] = field(init=False)
    rounds: int = 0
    served: int = 0

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        self.npe = world.first_exposure(self.users, self.rng)
        self.guests = [self._guest() for _ in range(self.users)]

    def present(self) -> NDArray[np.int64]:
        """Return who takes part in this round; users begin one after the other where that was asked for."""
        begins = np.arange(self.users) * world.STEPS // self.users if self.staggered else np.zeros(self.users)
        return np.flatnonzero(begins <= self.rounds)

    def consume(self, present: NDArray[np.int64], contents: Sequence[int]) -> tuple[list[float], NDArray[np.float64]]:
        """Let users consume; return the engagement each brings and what it was expected to be."""
        c, npe = self.catalogue.c[list(contents)], self.npe[present]
        brought = world.engagement(npe, c, self.rng)
        self.npe[present] = world.next_exposure(npe, c, self.rng)
        for at in present.tolist():
            self.guests[at].steps += 1
            if self.guests[at].steps == world.STEPS:
                self.guests[at] = self._guest()
                self.npe[at] = world.first_exposure(1, self.rng)[0]
        self.rounds += 1
        return brought.tolist(), world.expected_engagement(npe, c)

    def _guest(self) -> Guest:
        self.served += 1
        began_ms = time.time_ns() // 1_000_000 - int(1_000 * GAP_S * world.STEPS)  # so that nothing is in the future
        return Guest(f"{self.name}-{self.served}", began_ms)


def events_of(guest: Guest, impression_id: str, content: int, engagement: float) -> list[dict[str, Any]]:
    """Return what a client posts about one consumption: the click, and what it brought."""
    shared = {
        "type": "interaction",
        "user_id": guest.user_id,
        "content_id": content,
        "impression_id": impression_id,
        "timestamp_ms": guest.began_ms + int(1_000 * GAP_S * guest.steps),
        "source": "backfill",
    }
    return [
        {**shared, "kind": "click", "event_id": f"{impression_id}-click"},
        {**shared, "kind": "reward", "event_id": f"{impression_id}-reward", "value": engagement},
    ]


async def _learn(bench: Bench, variant: str, urls: Urls, crowd: LiveCrowd, steps: int) -> list[float]:
    """Fill the catalogue and play; return what a session was worth by quarters."""
    curve: list[float] = []
    async with _session() as http:
        await _put_all(http, urls, crowd.catalogue)
        for _ in bench.progress(range(PARTS), f"{variant}: learning"):
            worth: list[NDArray[np.float64]] = []
            while sum(map(len, worth)) < steps:
                worth.append(await _round(http, urls, crowd))
            curve.append(float(np.concatenate(worth).mean()) * world.STEPS)
    return curve


async def _serve(bench: Bench, variant: str, urls: Urls, crowd: LiveCrowd) -> NDArray[np.float64]:
    async with _session() as http:
        await _all_known(http, urls, len(crowd.catalogue.c))
        rounds = bench.progress(range(world.STEPS), f"{variant}: best slates")
        total: NDArray[np.float64] = np.sum([await _round(http, urls, crowd) for _ in rounds], axis=0)
        return total


async def _round(http: aiohttp.ClientSession, urls: Urls, crowd: LiveCrowd) -> NDArray[np.float64]:
    """Let each user ask for a content and consume it; return what that was worth on average."""
    present = crowd.present()
    guests = [replace(crowd.guests[at]) for at in present.tolist()]
    offers = crowd.catalogue.offers(len(guests), crowd.rng)
    bodies = [
        {"user_id": guest.user_id, "candidates": list(dict.fromkeys(offered)), "size": 1}
        | {"context": crowd.rhythm.context(guest.steps)}
        for guest, offered in zip(guests, offers, strict=True)
    ]
    answers = await asyncio.gather(*(_call(http, "POST", f"{urls.serving}/api/v1/rank", body) for body in bodies))
    contents = [answer["slate"][0]["content_id"] for answer in answers]
    brought, expected = crowd.consume(present, contents)
    events = [
        event
        for guest, answer, content, value in zip(guests, answers, contents, brought, strict=True)
        for event in events_of(guest, answer["impression_id"], content, value)
    ]
    done = await _call(http, "POST", f"{urls.ingest}/api/v1/events", {"events": events})
    if done["errors"]:
        raise RuntimeError(f"ingest refused {done['errors'][0]}")
    return expected


async def _put_all(http: aiohttp.ClientSession, urls: Urls, catalogue: Catalogue) -> None:
    for content_id, vector in enumerate(catalogue.vectors):  # one after the other: SQLite has one writer
        body = {"title": f"{catalogue.c[content_id]:.3f}", "embedding": vector.tolist()}
        await _call(http, "PUT", f"{urls.ingest}/api/v1/contents/{content_id}", body)
    await _all_known(http, urls, len(catalogue.c))


async def _all_known(http: aiohttp.ClientSession, urls: Urls, contents: int) -> None:
    """Return when serving knows all contents."""
    async with asyncio.timeout(DEADLINE_S):
        while await _resident(http, urls) < contents:  # noqa: ASYNC110 - nobody tells when it has read them all
            await asyncio.sleep(0.1)


async def _resident(http: aiohttp.ClientSession, urls: Urls) -> float:
    async with http.get(f"{urls.serving}/metrics") as answer:
        page = await answer.text()
    return next(float(line.split()[1]) for line in page.splitlines() if line.startswith("moard_serving_contents "))


async def _call(http: aiohttp.ClientSession, method: str, url: str, body: Mapping[str, Any]) -> Any:
    """Return the answer; a busy service says 503, and is asked again as the contract wants it."""
    payload = orjson.dumps(body)
    async with asyncio.timeout(DEADLINE_S):
        while True:
            async with http.request(method, url, data=payload) as answer:
                text = await answer.read()
            if answer.status < 300:
                return orjson.loads(text)
            if answer.status != 503:
                raise RuntimeError(f"{method} {url} answered {answer.status}: {text[:300]!r}")
            await asyncio.sleep(float(answer.headers.get("Retry-After", "1")))


@asynccontextmanager
async def _session() -> AsyncIterator[aiohttp.ClientSession]:
    headers = {"Content-Type": "application/json"}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=IN_FLIGHT), headers=headers) as session:
        yield session
