"""Vectors from text: the two legacy calls."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from fastapi import APIRouter, HTTPException, Request
from starlette.responses import Response

from libs.text.vectors import TextVectors
from services.serving.bodies import answer, documented, read
from services.serving.schemas import EmbeddingAnswer, EmbeddingsAnswer, Text, Texts

_RETRY_AFTER_S: Final = 2


class Inference:
    """A text model with a bounded amount of work before it. Belongs to the event loop.

    One thread infers one text at a time, in turns between the calls that wait, so a single text passes a bulk of a
    thousand. What is beyond ``limit`` texts is refused: their answers would come after their callers have given up.
    """

    def __init__(self, texts: TextVectors | None, limit: int) -> None:
        self._texts = texts
        self._limit = limit
        self._admitted = 0

    async def __call__(self, documents: Sequence[Text]) -> list[np.ndarray]:
        """Return the texts' vectors, in order; raises the 503 that names what is missing."""
        if self._texts is None:
            raise HTTPException(503, "No text model is loaded: set MOARD_DOC2VEC_PATH")
        if self._admitted + len(documents) > self._limit:
            detail = f"{self._admitted} texts are being inferred, the limit is {self._limit}: try again later"
            raise HTTPException(503, detail, {"Retry-After": str(_RETRY_AFTER_S)})
        self._admitted += len(documents)
        try:
            return await self._texts.many([(text.title, text.description or "") for text in documents])
        finally:
            self._admitted -= len(documents)


def embeddings(texts: TextVectors | None, limit: int) -> APIRouter:
    """Return the routes over a text model, or over none; at most ``limit`` texts are inferred at once."""
    router = APIRouter(prefix="/embedding", tags=["embedding"])
    refused: dict[int | str, dict[str, Any]] = {503: {"description": "No text model is configured, or it is busy."}}
    infer = Inference(texts, limit)

    @router.post("/doc2vec", response_model=EmbeddingAnswer, openapi_extra=documented(Text), responses=refused)
    async def one(request: Request) -> Response:
        """Return the vector of one text (legacy)."""
        (vector,) = await infer([await read(request, Text)])
        return answer({"embedding": vector})

    @router.post("/doc2vec/bulk", response_model=EmbeddingsAnswer, openapi_extra=documented(Texts), responses=refused)
    async def many(request: Request) -> Response:
        """Return the vectors of several texts, in order (legacy)."""
        body = await read(request, Texts)
        return answer({"embeddings": await infer(body.contents)})

    return router
