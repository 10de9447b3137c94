"""Vectors from text: the two legacy calls."""

from typing import Any

from fastapi import APIRouter, HTTPException, Request
from starlette.responses import Response

from libs.text.vectors import TextVectors
from services.serving.bodies import answer, documented, read
from services.serving.schemas import EmbeddingAnswer, EmbeddingsAnswer, Text, Texts


def embeddings(texts: TextVectors | None) -> APIRouter:
    """Return the routes over a text model, or over none."""
    router = APIRouter(prefix="/embedding", tags=["embedding"])
    absent: dict[int | str, dict[str, Any]] = {503: {"description": "No text model is configured."}}

    def model() -> TextVectors:
        if texts is None:
            raise HTTPException(503, "No text model is loaded: set MOARD_DOC2VEC_PATH")
        return texts

    @router.post("/doc2vec", response_model=EmbeddingAnswer, openapi_extra=documented(Text), responses=absent)
    async def one(request: Request) -> Response:
        """Return the vector of one text (legacy)."""
        text = await read(request, Text)
        return answer({"embedding": await model().one(text.title, text.description or "")})

    @router.post("/doc2vec/bulk", response_model=EmbeddingsAnswer, openapi_extra=documented(Texts), responses=absent)
    async def many(request: Request) -> Response:
        """Return the vectors of several texts, in order (legacy)."""
        body = await read(request, Texts)
        vectors = await model().many([(text.title, text.description or "") for text in body.contents])
        return answer({"embeddings": vectors})

    return router
