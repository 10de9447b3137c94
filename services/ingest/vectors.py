"""Text vectors for contents that come without one."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np

from libs.adapters.ports import StoredContent
from libs.errors import RefusedStart


class TextModel(Protocol):
    """A trained text model: the same text gets the same vector in every process."""

    @property
    def version(self) -> str:
        """Name of this training, the ``vector_version`` of what it infers."""

    def infer(self, title: str, description: str) -> np.ndarray:
        """Return the text's vector."""


class TextVectors:
    """Infers off the event loop, one text at a time: gensim's model is not made for two threads."""

    def __init__(self, model: TextModel) -> None:
        self._model = model
        self._thread = ThreadPoolExecutor(1, "doc2vec")

    @property
    def version(self) -> str:
        """Vector version of what ``complete`` adds."""
        return self._model.version

    async def complete(self, content: StoredContent) -> StoredContent:
        """Return the content with the vector of its title and description."""
        loop = asyncio.get_running_loop()
        vector = await loop.run_in_executor(self._thread, self._model.infer, content.title, content.description)
        return replace(content, embedding=tuple(vector.tolist()), vector_version=self._model.version)

    def close(self) -> None:
        """Let the thread end."""
        self._thread.shutdown(wait=False, cancel_futures=True)


def load_vectors(path: str, vector_size: int) -> TextVectors | None:
    """Return the text model in a folder; None for an empty path.

    Raises
    ------
    RefusedStart
        The folder holds no model that can be used, or one of another vector size.
    """
    if not path:
        return None
    from libs.text.doc2vec import Doc2VecModel  # gensim: only where a model is wanted

    try:
        model = Doc2VecModel.load(Path(path))
    except (OSError, ValueError, KeyError) as error:
        raise RefusedStart(f"MOARD_DOC2VEC_PATH={path} holds no usable Doc2Vec model: {error}") from error
    if model.vector_size != vector_size:
        raise RefusedStart(
            f"MOARD_DOC2VEC_PATH={path} makes vectors of {model.vector_size}, MOARD_VECTOR_SIZE is {vector_size}"
        )
    return TextVectors(model)
