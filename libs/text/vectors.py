"""Text vectors off the event loop, for the services that infer them."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import numpy as np
from jaxtyping import Float32

from libs.errors import RefusedStart

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
    """Infers one text at a time on a thread of its own: a flood of contents shall not take every thread."""

    def __init__(self, model: TextModel) -> None:
        self._model = model
        self._thread = ThreadPoolExecutor(1, "doc2vec")

    @property
    def version(self) -> str:
        """Vector version of what is inferred."""
        return self._model.version

    async def one(self, title: str, description: str) -> Float32[np.ndarray, "D"]:
        """Return one text's vector."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._model.infer, title, description)

    async def many(self, documents: Sequence[Document]) -> list[np.ndarray]:
        """Return the vectors of several texts, in order. Single texts may be served in between."""
        return [await self.one(*document) for document in documents]

    def close(self) -> None:
        """Let the thread end."""
        self._thread.shutdown(wait=False, cancel_futures=True)


def load_text_vectors(path: str, vector_size: int) -> TextVectors | None:
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
