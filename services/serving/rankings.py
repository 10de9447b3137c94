"""The calls that rank: ``rank`` and the legacy ``predict/top-contents``."""

import time
from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, HTTPException, Request
from starlette.responses import Response

from libs.adapters.ports import Visit
from libs.events.schema import MAX_HISTORY
from services.serving import recommender
from services.serving.bodies import DEGRADED, answer, documented, read
from services.serving.contents import Contents
from services.serving.proposer import SEEN
from services.serving.ranking import Ranking
from services.serving.recommender import Recommender
from services.serving.routing import PREFIX, Direct
from services.serving.schemas import (
    TOP_CONTENTS,
    RankAnswer,
    RankRequest,
    TopContentsAnswer,
    TopContentsRequest,
)
from services.serving.users import Existence, Users
from services.serving.vectors import user_embedding

_LARGEST_ID = 2**63 - 1
_DEGRADABLE: dict[str, Any] = {
    "headers": {
        DEGRADED: {
            "description": "What the answer does without, as `degraded` in the body; absent when nothing is away.",
            "schema": {"type": "string", "example": "history,impression"},
        }
    }
}


def rankings(
    recommend: Recommender, users: Users, contents: Contents, model_name: Callable[[int], str], log_top_contents: bool
) -> APIRouter:
    """Return the routes over these parts.

    ``model_name`` names the model of a version. ``log_top_contents`` False leaves the legacy call's impressions to
    training tasks, which find them in the backend's tables.
    """
    router = APIRouter(prefix=PREFIX, tags=["ranking"], route_class=Direct)

    @router.post(
        "/rank", response_model=RankAnswer, openapi_extra=documented(RankRequest), responses={200: _DEGRADABLE}
    )
    async def rank(request: Request) -> Response:
        """Choose a slate for one user, with the probability of each choice. Never waits for a store that is away."""
        body = await read(request, RankRequest)
        visits = await users.recent(body.user_id, MAX_HISTORY if body.candidates is not None else SEEN)
        wanted = recommender.Request(
            body.user_id, body.candidates, body.size, body.exclude_ids, body.context, explain=body.explain
        )
        found = await recommend.recommend(wanted, visits)
        return answer(_rank_answer(found), degraded=found.degraded)

    @router.post(
        "/predict/top-contents",
        response_model=TopContentsAnswer,
        openapi_extra=documented(TopContentsRequest),
        responses={200: _DEGRADABLE, 404: {"description": "Unknown user, or none of the contents is known."}},
    )
    async def top_contents(request: Request) -> Response:
        """Choose up to six contents, best first (legacy)."""
        body = await read(request, TopContentsRequest)
        user_id = str(body.user_id)
        visits, existence = await _user(users, user_id)
        if existence is Existence.UNKNOWN:
            raise HTTPException(404, "User not found")
        ids = [content_id for content_id in body.content_ids if 0 <= content_id <= _LARGEST_ID]
        wanted = recommender.Request(user_id, ids, TOP_CONTENTS, known_only=True, logged=log_top_contents)
        found = await recommend.recommend(wanted, visits, user_certain=existence is Existence.KNOWN)
        if found.ranking is None:
            raise HTTPException(404, "None of the contents is known")
        return answer(
            {
                "content_ids": found.ranking.content_ids,
                "user_embedding": user_embedding(visits or (), contents.space, time.time_ns() // 1_000_000),
                "model_name": model_name(found.snapshot_version),
                "impression_id": found.impression_id,
                "snapshot_version": found.snapshot_version,
                "degraded": found.degraded,
            },
            degraded=found.degraded,
        )

    return router


async def _user(users: Users, user_id: str) -> tuple[list[Visit] | None, Existence]:
    visits = await users.recent(user_id)
    return visits, Existence.KNOWN if visits else await users.exists(user_id)


def _rank_answer(found: recommender.Answer) -> dict[str, Any]:
    ranking, reasons = found.ranking, found.explanation
    positions = [] if ranking is None else _positions(ranking)
    answered: dict[str, Any] = {
        "impression_id": found.impression_id,
        "slate": positions,
        "policy": None if ranking is None else ranking.policy,
        "arm": None if ranking is None else ranking.slate.arm,
        "snapshot_version": found.snapshot_version,
        "degraded": found.degraded,
    }
    if reasons is not None:
        answered["explanation"] = reasons.request
        for position, reason in zip(positions, reasons.contents, strict=True):
            position["explanation"] = reason
    return answered


def _positions(ranking: Ranking) -> list[dict[str, Any]]:
    drawn = zip(ranking.content_ids.tolist(), ranking.scores, ranking.propensities.tolist(), strict=True)
    return [{"content_id": content, "score": score, "propensity": propensity} for content, score, propensity in drawn]
