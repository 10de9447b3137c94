"""Vectors from text: Doc2Vec on a thread of its own, and the two legacy calls over it."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
from fastapi import APIRouter, HTTPException, Request
from jaxtyping import Float32
from starlette.responses import Response

from libs.errors import RefusedStart
from services.serving.bodies import answer, documented, read
from services.serving.schemas import EmbeddingAnswer, EmbeddingsAnswer, Text, Texts

Document = tuple[str, str]
"""Title and description."""


class TextModel(Protocol):
    """A trained text model: the same text gets the same vector in every process."""

    @property
    def version(self) -> str:
        """Name of this training, the ``vector_version`` of what it infers."""

    def infer(self, title: str, description: str = "") -> Float32[np.ndarray, "D"]:
        """Return the text's vector."""


class TextVectors:
    """Infers off the event loop, one text at a time: gensim's model is not made for two threads."""

    def __init__(self, model: TextModel) -> None:
        self._model = model
        self._thread = ThreadPoolExecutor(1, "doc2vec")

    @property
    def version(self) -> str:
        """Vector version of what is inferred."""
        return self._model.version

    async def one(self, title: str, description: str) -> np.ndarray:
        """Return one text's vector."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._model.infer, title, description)

    async def many(self, documents: Sequence[Document]) -> list[np.ndarray]:
        """Return the vectors of several texts, in order. Single texts may be served in between."""
        return [await self.one(*document) for document in documents]

    def close(self) -> None:
        """Let the thread end."""
        self._thread.shutdown(wait=False, cancel_futures=True)


def load_texts(path: str, vector_size: int) -> TextVectors | None:
    """Return the text model in a folder; None for an empty path.

    Raises
    ------
    RefusedStart
        The folder holds no usable model, one of another vector size, or gensim is not installed.
    """
    if not path:
        return None
    try:
        from libs.text.doc2vec import Doc2VecModel  # gensim: only where a model is wanted
    except ImportError as error:
        raise RefusedStart(f"MOARD_DOC2VEC_PATH={path} needs gensim: install moard[text], or leave it empty") from error
    model = Doc2VecModel.load(path)
    if model.vector_size != vector_size:
        raise RefusedStart(
            f"MOARD_DOC2VEC_PATH={path} makes vectors of {model.vector_size}, MOARD_VECTOR_SIZE is {vector_size}"
        )
    return TextVectors(model)


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
