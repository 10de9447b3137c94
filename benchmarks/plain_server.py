"""The legacy calls as one would write them first, with FastAPI and torch: what serving is measured against.

``python -m benchmarks.plain_server PORT SNAPSHOT CATALOGUE DOC2VEC``; addresses come from the environment. It does the
same work on the same data: reads the user's history in Redis, scores with the same net (one concatenation, one thread,
``inference_mode``), draws a slate, and sends an impression to Kafka without waiting for it. It has no deadlines, no
exact propensities, no snapshot that changes and no content that comes later.
"""

import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import torch
import uvicorn
from aiokafka import AIOKafkaProducer
from fastapi import FastAPI, HTTPException, Request
from pydantic import BaseModel
from redis.asyncio import Redis
from torch.nn import functional

from benchmarks.scoring import Naive
from benchmarks.serving_stand import VECTOR, vectors
from libs.events.codec import encode
from libs.events.schema import Impression
from libs.events.topics import EVENTS, user_key
from libs.rl.action_space import ActionSpace
from libs.rl.networks import RankingNetwork
from libs.rl.slates import Scores, slate_scores
from libs.rl.snapshot import decode
from libs.rl.transitions import State
from libs.text.doc2vec import Doc2VecModel


class TopContents(BaseModel):
    """The legacy request."""

    user_id: UUID
    content_ids: list[int]


class Rank(BaseModel):
    """What ``/rank`` is asked by the bench."""

    user_id: str
    candidates: list[int]
    size: int


class Text(BaseModel):
    """What a content is about."""

    title: str
    description: str = ""


class Plain:
    """A model, its tables and the stores."""

    producer: AIOKafkaProducer

    def __init__(self, snapshot: Path, catalogue: int, redis_url: str) -> None:
        self.space = ActionSpace(VECTOR, catalogue + 1)
        for number, row in enumerate(vectors(catalogue)):
            self.space.put(number, row)
        blob = snapshot.read_bytes()
        self.model = Naive(decode(blob, sha256(blob).hexdigest(), VECTOR), self.space)
        self.redis = Redis.from_url(redis_url)

    async def state(self, user_id: str) -> State:
        """Return the user's last thirty visits."""
        visits: list[tuple[bytes, float]] = await self.redis.zrevrange(
            f"history:user:{user_id}", 0, 29, withscores=True
        )  # type: ignore[assignment]
        now_ms = time.time() * 1_000
        ids = tuple(int(member.decode().rpartition(":")[2]) for member, _ in visits)
        return State(history=ids, history_age_s=tuple((now_ms - at) / 1_000 for _, at in visits))

    def score(self, state: State, ids: list[int]) -> torch.Tensor:
        """Return what the rule ``value`` ranks by."""
        predicted: Scores = self.model.score(state, self.space.index(ids))
        return torch.from_numpy(slate_scores(predicted, "value", "multi", 6))

    def user_embedding(self, state: State) -> list[float]:
        """Return the legacy mean of the last ten contents."""
        rows = self.model.vectors[torch.from_numpy(self.space.index(state.history[:10])).long()]
        weights = 0.9 ** (torch.tensor(state.history_age_s[:10]) / 3_600)
        mean: list[float] = (rows * weights[:, None]).mean(0).tolist()
        return mean

    async def log(self, user_id: str, state: State, ids: list[int], drawn: list[int], log_p: list[float]) -> str:
        """Send an impression and return its id."""
        event = Impression(
            event_id=uuid4().hex,
            user_id=user_id,
            slate=tuple(ids[at] for at in drawn),
            history=state.history,
            history_age_s=state.history_age_s,
            candidates=tuple(ids),
            log_propensities=tuple(log_p),
            policy="plain",
            arm="policy",
            timestamp_ms=int(time.time() * 1_000),
        )
        await self.producer.send(EVENTS, encode(event), user_key(user_id))
        return event.event_id


def draw(scores: torch.Tensor, size: int) -> tuple[list[int], list[float]]:
    """Return positions drawn without replacement, and the log-probability of each prefix."""
    logits = (scores - scores.mean()) / scores.std() / 0.25
    drawn = torch.multinomial(torch.softmax(logits, 0), min(size, len(logits)))
    left, total, log_p = logits.clone(), 0.0, []
    for at in drawn.tolist():
        total += float(left[at] - torch.logsumexp(left, 0))
        log_p.append(total)
        left[at] = -torch.inf
    return drawn.tolist(), log_p


@torch.inference_mode()
def q_values(network: RankingNetwork, user: torch.Tensor, contents: torch.Tensor, unseen: float) -> list[float]:
    """Return N(u) + A(u, c) of vectors alone, by one concatenation."""
    text = functional.normalize(contents)
    ids = torch.zeros(len(text), network.content_in.in_features - text.shape[1])
    ids[:, -1] = unseen
    whole = torch.zeros(network.user_in.in_features)
    whole[: len(user)] = functional.normalize(user, dim=0)
    both = torch.cat([whole.expand(len(text), -1), text, ids], 1)
    weight = torch.cat([network.user_in.weight, network.content_in.weight], 1)
    hidden = functional.relu(network.norm_1(functional.linear(both, weight, network.content_in.bias)))
    hidden = functional.relu(network.norm_2(network.middle(hidden)))
    tower = functional.relu(network.value_norm(network.value_in(whole)))
    q: list[float] = (network.heads(hidden)[:, 0] + network.value_out(tower)[1]).tolist()
    return q


def create_app(plain: Plain, texts: Doc2VecModel) -> FastAPI:
    """Return the application."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        servers = os.environ["KAFKA_BOOTSTRAP_SERVERS"]
        plain.producer = AIOKafkaProducer(bootstrap_servers=servers, acks="all", enable_idempotence=True)
        await plain.producer.start()
        yield
        await plain.producer.stop()

    app = FastAPI(lifespan=lifespan)
    unseen = float(plain.model.counts[0])  # of padding: a content that nobody consumed

    @app.post("/api/v1/predict/top-contents")
    async def top_contents(body: TopContents) -> dict[str, Any]:
        user_id = str(body.user_id)
        state = await plain.state(user_id)
        ids = [content_id for content_id in dict.fromkeys(body.content_ids) if content_id in plain.space]
        if not state.history or not ids:
            raise HTTPException(404)
        drawn, log_p = draw(plain.score(state, ids), 6)
        return {
            "content_ids": [ids[at] for at in drawn],
            "user_embedding": plain.user_embedding(state),
            "model_name": "plain",
            "impression_id": await plain.log(user_id, state, ids, drawn, log_p),
        }

    @app.post("/api/v1/rank")
    async def rank(body: Rank) -> dict[str, Any]:
        state = await plain.state(body.user_id)
        scores = plain.score(state, body.candidates)
        drawn, log_p = draw(scores, body.size)
        await plain.log(body.user_id, state, body.candidates, drawn, log_p)
        return {"slate": [{"content_id": body.candidates[at], "score": float(scores[at])} for at in drawn]}

    @app.post("/api/v1/predict/bulk")
    async def bulk(request: Request) -> dict[str, list[float]]:
        body = await request.json()
        user, contents = torch.tensor(body["user_embedding"]), torch.tensor(body["content_embeddings"])
        return {"q_values": q_values(plain.model.network, user, contents, unseen)}

    @app.post("/api/v1/embedding/doc2vec")
    async def doc2vec(body: Text) -> dict[str, list[float]]:
        return {"embedding": texts.infer(body.title, body.description).tolist()}

    @app.get("/readyz")
    async def readyz() -> str:
        return "ready"

    return app


def main() -> None:
    """Serve on loopback until SIGTERM."""
    torch.set_num_threads(1)
    port, snapshot, catalogue, doc2vec = sys.argv[1:]
    plain = Plain(Path(snapshot), int(catalogue), os.environ["REDIS_URL"])
    app = create_app(plain, Doc2VecModel.load(doc2vec))
    uvicorn.run(app, host="127.0.0.1", port=int(port), loop="uvloop", http="httptools", access_log=False)


if __name__ == "__main__":
    main()
