"""Doc2Vec (Le & Mikolov, 2014, arXiv:1405.4053): train on a catalogue, then infer any text's vector. Uses gensim.

The distributed bag of words (PV-DBOW) without word vectors: a text's vector learns to predict the words in it. Measured
against distributed memory (PV-DM) on gensim's Lee corpus: the one half of a text finds its other half among 300 in
280 cases instead of 155, and only one matrix has to be kept.

A model of either kind that gensim trained elsewhere can be imported (``gensim_file``).

Training and inference see texts through ``tokens.text_of`` and ``tokens.tokens``, nothing else.
"""

import copy
import hashlib
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from gensim.models.callbacks import CallbackAny2Vec
from gensim.models.doc2vec import Doc2Vec, TaggedDocument
from gensim.models.doc2vec_inner import train_document_dbow, train_document_dm
from jaxtyping import Float32

from libs.text.model_folder import Inference, ModelParts, load_parts, save_parts
from libs.text.tokens import text_of, tokens

__all__ = ["Doc2VecModel", "text_of", "train"]

Vector = Float32[np.ndarray, "D"]

_NEGATIVE: Final = 5  # gensim's default


def train(
    documents: Iterable[tuple[int, str]],
    *,
    vector_size: int = 300,
    epochs: int = 40,
    seed: int = 1,
    workers: int = 1,
    min_count: int = 2,
    sample: float = 0.0,
    progress: Callable[[int, int], None] | None = None,
) -> "Doc2VecModel":
    """Return a model of these texts.

    Parameters
    ----------
    documents
        Content id and ``text_of`` of each. Taken in order of id, so that their order here changes nothing.
    vector_size
        Length of a vector; 300 in the legacy catalogue.
    epochs
        Passes over all texts, and over one text when its vector is inferred.
    seed
        With one worker, the same texts and seed give the same model.
    workers
        Threads. With more than one the model depends on their timing.
    min_count
        Least occurrences of a word: one that occurs once teaches nothing.
    sample
        Above 0, words more frequent than this share are often skipped. Right for articles (1e-4), harmful for short
        texts: of MovieLens' titles and genres it skips the genres (10 nearest share 18 % of them instead of 73 %).
    progress
        Called after each pass with how many are done, and how many there are.

    Raises
    ------
    ValueError
        No word occurs often enough.
    """
    corpus = [TaggedDocument(tokens(text), [tag]) for tag, (_, text) in enumerate(sorted(documents))]
    if not any(document.words for document in corpus):
        raise ValueError("there is no text to train on")
    how = Inference(epochs=epochs, negative=_NEGATIVE, sample=sample)
    rates = {"alpha": how.alpha, "min_alpha": how.min_alpha, "negative": how.negative}
    model = Doc2Vec(
        vector_size=vector_size, dm=0, seed=seed, workers=workers, min_count=min_count, sample=sample, **rates
    )
    model.build_vocab(corpus)
    if not model.wv.index_to_key:
        raise ValueError(f"no word occurs {min_count} times: give more texts, or a lower min_count")
    model.train(corpus, total_examples=len(corpus), epochs=epochs, callbacks=[_Progress(progress, epochs)])
    return Doc2VecModel(parts_of(model, how))


class Doc2VecModel:
    """A trained model. The same text has the same vector in every process; safe to use from several threads."""

    def __init__(self, parts: ModelParts) -> None:
        self._parts = parts
        self._gensim = _rebuilt(parts)

    @classmethod
    def load(cls, folder: Path | str) -> "Doc2VecModel":
        """Return the model that ``save`` wrote there; raises ``RefusedStart`` when it is missing or damaged."""
        return cls(load_parts(Path(folder)))

    def save(self, folder: Path | str) -> None:
        """Write the model into a folder, atomically, in place of the one that was there."""
        save_parts(self._parts, Path(folder))

    @property
    def version(self) -> str:
        """Hash of the model's contents; the ``vector_version`` of the vectors it infers."""
        return self._parts.version

    @property
    def words(self) -> tuple[str, ...]:
        """The words it knows."""
        return self._parts.words

    @property
    def vector_size(self) -> int:
        """Length of a vector."""
        return int(self._parts.output.shape[1])

    def infer(self, title: str, description: str | None = "") -> Vector:
        """Return the vector of a content's text; zeros when no word of it is known.

        Takes 0.3 ms for a short text, 10 ms for 200 words; releases the interpreter lock for most of it.
        """
        known = self._gensim.wv.key_to_index
        words = [word for word in tokens(text_of(title, description)) if word in known]
        if not words:
            return np.zeros(self.vector_size, np.float32)
        return self._descend(words)

    def infer_many(self, contents: Iterable[tuple[str, str | None]]) -> Float32[np.ndarray, "N D"]:
        """Return the vector of each (title, description), in order."""
        vectors = [self.infer(title, description) for title, description in contents]
        return np.stack(vectors) if vectors else np.zeros((0, self.vector_size), np.float32)

    def _descend(self, words: list[str]) -> Vector:
        # Doc2Vec.infer_vector, but that draws its start from hash(), which differs from process to process, and the
        # rest from a generator that all calls share. Here both come from the words, and a shallow copy has its own.
        model = copy.copy(self._gensim)
        digest = hashlib.blake2b("\0".join(words).encode(), digest_size=4).digest()
        model.random = np.random.RandomState(int.from_bytes(digest, "little"))
        size = self.vector_size
        vector = ((model.random.random_sample((1, size)) - 0.5) / size).astype(np.float32)
        how = self._parts.inference
        frozen = {"learn_words": False, "learn_hidden": False}
        own = {"doctag_vectors": vector, "doctags_lockf": np.ones(1, np.float32), "work": np.zeros(size, np.float32)}
        step = partial(train_document_dm, neu1=np.zeros(size, np.float32)) if how.window else train_document_dbow
        for alpha in np.linspace(how.alpha, how.min_alpha, how.epochs):
            step(model, words, [0], float(alpha), **own, **frozen)
        found: Vector = vector[0]
        return found


def parts_of(model: Any, inference: Inference) -> ModelParts:
    """Return what inference needs of a gensim model that was trained with negative sampling."""
    return ModelParts(
        inference=inference,
        words=tuple(model.wv.index_to_key),
        output=np.ascontiguousarray(model.syn1neg, np.float32),
        draw=np.ascontiguousarray(model.cum_table, np.uint32),
        keep=np.ascontiguousarray(model.wv.expandos["sample_int"], np.uint32),
        context=np.ascontiguousarray(model.wv.vectors, np.float32) if inference.window else None,
    )


def _rebuilt(parts: ModelParts) -> Any:
    how, size = parts.inference, parts.output.shape[1]
    model = Doc2Vec(
        vector_size=size,
        dm=int(how.window > 0),
        dm_mean=int(how.average),
        window=how.window or 1,
        shrink_windows=how.shrink,
        negative=how.negative,
        sample=how.sample,
        workers=1,
    )
    model.wv.index_to_key = list(parts.words)
    model.wv.key_to_index = {word: index for index, word in enumerate(parts.words)}
    model.wv.expandos = {"sample_int": parts.keep}
    # Taken by pointer also where it is never read, because that kind of model has no vectors of words.
    model.wv.vectors = np.zeros((1, size), np.float32) if parts.context is None else parts.context
    model.wv.vectors_lockf = np.ones(1, np.float32)
    model.syn1neg, model.cum_table = parts.output, parts.draw
    return model


class _Progress(CallbackAny2Vec):  # type: ignore[misc]
    def __init__(self, report: Callable[[int, int], None] | None, epochs: int) -> None:
        self._report, self._epochs, self._done = report, epochs, 0

    def on_epoch_end(self, model: Any) -> None:  # noqa: ARG002 - gensim's signature
        self._done += 1
        if self._report is not None:
            self._report(self._done, self._epochs)
