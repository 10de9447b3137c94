"""The call that scores vectors: ``predict/bulk``."""

from fastapi import APIRouter, HTTPException, Request
from starlette.responses import Response

from services.serving.bodies import answer, documented, read, refusal
from services.serving.model_watcher import ModelWatcher
from services.serving.routing import PREFIX, Direct
from services.serving.schemas import BulkAnswer, BulkRequest
from services.serving.vectors import BadVector, from_body, from_json, from_octets

_OCTETS = "application/octet-stream"
_OCTETS_BODY = {_OCTETS: {"schema": {"type": "string", "format": "binary", "description": "little-endian float32"}}}


def predictions(watcher: ModelWatcher, vector_size: int) -> APIRouter:
    """Return the routes over the model in use."""
    router = APIRouter(prefix=PREFIX, tags=["model"], route_class=Direct)

    @router.post(
        "/predict/bulk",
        response_model=BulkAnswer,
        openapi_extra=documented(BulkRequest, **_OCTETS_BODY),
        responses={503: {"description": "No snapshot yet."}},
    )
    async def bulk(request: Request) -> Response:
        """Score content vectors for a user vector: the dueling network's Q, without anything learned from ids.

        As `application/octet-stream` the body is little-endian float32 without a header: the user's vector, then the
        contents' vectors. The answer is JSON either way.
        """
        try:
            body = await request.body()
            if request.headers.get("content-type", "").partition(";")[0].strip().lower() == _OCTETS:
                user, contents = from_octets(body, vector_size)
            else:
                found = from_body(body, vector_size)
                user, contents = found or from_json(await read(request, BulkRequest), vector_size)
        except BadVector as error:
            raise refusal({"type": "vector", "loc": error.loc, "msg": str(error), "input": None}) from None
        if watcher.served is None:
            raise HTTPException(503, "No snapshot has been published yet", {"Retry-After": "1"})
        return answer({"q_values": watcher.served.model.scorer.q_values(user, contents)})

    return router
