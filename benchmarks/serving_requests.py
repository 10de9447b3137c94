"""What servers are asked in the bench: bodies drawn from a seed, and a small text model to ask about."""

import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import orjson

from benchmarks.load import Requests
from benchmarks.serving_stand import USERS, VECTOR, user
from libs.text.doc2vec import text_of, train

TOP_CONTENTS: Final = "/api/v1/predict/top-contents"
BULK: Final = "/api/v1/predict/bulk"
DOC2VEC: Final = "/api/v1/embedding/doc2vec"

SIZES: Final = (18, 36, 100, 1_000)
TOP_100: Final = "top-contents, 100 ids"
JSON_BULK: Final = "bulk, JSON"
OCTETS: Final = "bulk, octets"

_BODIES: Final = 300
_LARGE_BODIES: Final = 20  # 650 kB each
_WORDS: Final = 2_000
_TEXTS: Final = 500


def kinds(seed: int, catalogue: int) -> list[Requests]:
    """Return the kinds of request; octets ask the same as the JSON before them."""
    rng, numbers = random.Random(seed), np.random.default_rng(seed)

    def top(count: int) -> bytes:
        return orjson.dumps({"user_id": user(rng.randrange(USERS)), "content_ids": rng.sample(range(catalogue), count)})

    def rank() -> bytes:
        candidates = rng.sample(range(catalogue), 100)
        return orjson.dumps({"user_id": user(rng.randrange(USERS)), "candidates": candidates, "size": 10})

    def bodies(make: Callable[[], bytes]) -> tuple[bytes, ...]:
        return tuple(make() for _ in range(_BODIES))

    vectors = [numbers.normal(size=(101, VECTOR)).astype(np.float32) for _ in range(_LARGE_BODIES)]
    asked = [{"user_embedding": one[0].tolist(), "content_embeddings": one[1:].tolist()} for one in vectors]
    return [
        *(Requests(f"top-contents, {size} ids", TOP_CONTENTS, bodies(partial(top, size))) for size in SIZES),
        Requests("rank, 100 ids", "/api/v1/rank", bodies(rank)),
        Requests(JSON_BULK, BULK, tuple(orjson.dumps(one) for one in asked)),
        Requests(OCTETS, BULK, tuple(one.astype("<f4").tobytes() for one in vectors), "application/octet-stream"),
        Requests("doc2vec, 20 words", DOC2VEC, bodies(lambda: orjson.dumps({"title": _text(rng, 20)}))),
    ]


def train_texts(folder: Path) -> Path:
    """Train a text model on made-up words, quickly; what it infers takes as long as with any other."""
    rng = random.Random(0)
    train(((number, text_of(_text(rng, 30), "")) for number in range(_TEXTS)), vector_size=VECTOR).save(folder)
    return folder


def _text(rng: random.Random, words: int) -> str:
    return " ".join(f"word{rng.randrange(_WORDS)}" for _ in range(words))
