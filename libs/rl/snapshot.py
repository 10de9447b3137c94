"""Snapshots: everything that ranks, as one immutable blob (safetensors; no code in it, nothing to execute)."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b, sha256
from typing import Final

import numpy as np
from jaxtyping import Float32, Int64
from safetensors import SafetensorError
from safetensors.numpy import load, save

from libs.errors import SnapshotRejected
from libs.rl.features import CONTEXT

FORMAT: Final = "1"
MAX_BYTES: Final = 64 * 1024 * 1024
"""Largest blob a reader takes: 50 k contents make 14 MB."""

LARGEST_BOOST: Final = 4.0
"""How far a learner may raise exploration: beyond that slates are nearly random."""

HIDDEN: Final = 128
ID_SIZE: Final = 32

_ROWS: Final = ("content_ids", "user_rows", "content_rows", "biases", "consumptions")
_DIMENSIONS: Final = ("vector_size", "hidden", "id_size", "context_size")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Weights of the network, what each content's id has taught, and the settings a reader needs.

    ``user_rows`` are the id vectors of contents in a history, ``content_rows`` those of candidates; row ``i`` of every
    table belongs to ``content_ids[i]``. ``config`` is all strings, as the file format wants it.
    """

    weights: Mapping[str, np.ndarray]
    content_ids: Int64[np.ndarray, "R"]
    user_rows: Float32[np.ndarray, "R E"]
    content_rows: Float32[np.ndarray, "R E"]
    biases: Float32[np.ndarray, "R"]
    consumptions: Int64[np.ndarray, "R"]
    config: Mapping[str, str]

    @property
    def vector_size(self) -> int:
        """Length of the content text vectors it was trained on."""
        return int(self.config["vector_size"])

    @property
    def id_size(self) -> int:
        """Length of the id vectors."""
        return int(self.config["id_size"])

    @property
    def consumption(self) -> str:
        """Choice model: ``multi`` or ``single``."""
        return self.config["consumption"]

    @property
    def context_numbers(self) -> tuple[str, ...]:
        """Names of the context's declared numbers, in slot order."""
        return tuple(json.loads(self.config["context_numbers"]))

    @property
    def exploration_boost(self) -> float:
        """What the reader multiplies temperature and ε by: above 1 while slates narrow (rl.md §10)."""
        return min(LARGEST_BOOST, max(1.0, float(self.config.get("exploration_boost", "1"))))


def make_config(
    vector_size: int,
    consumption: str,
    context_numbers: tuple[str, ...] = (),
    reward_version: str = "",
    gamma: float = 0.9,
    exploration_boost: float = 1.0,
) -> dict[str, str]:
    """Return the ``config`` of a snapshot."""
    return {
        "vector_size": str(vector_size),
        "hidden": str(HIDDEN),
        "id_size": str(ID_SIZE),
        "context_size": str(CONTEXT),
        "consumption": consumption,
        "context_numbers": json.dumps(context_numbers),
        "reward_version": reward_version,
        "gamma": repr(gamma),
        "exploration_boost": repr(exploration_boost),
    }


def layout(config: Mapping[str, str]) -> dict[str, tuple[int, ...]]:
    """Return name and shape of every weight a network of these dimensions has."""
    text, hidden, ids, context = (int(config[name]) for name in _DIMENSIONS)
    user = text + ids + context
    return {
        "user_in.weight": (hidden, user),
        "content_in.weight": (hidden, text + ids + 1),
        "content_in.bias": (hidden,),
        "norm_1.weight": (hidden,),
        "norm_1.bias": (hidden,),
        "middle.weight": (hidden, hidden),
        "middle.bias": (hidden,),
        "norm_2.weight": (hidden,),
        "norm_2.bias": (hidden,),
        "heads.weight": (2, hidden),
        "heads.bias": (2,),
        "mix.weight": (ids, ids),
        "value_in.weight": (hidden, user),
        "value_in.bias": (hidden,),
        "value_norm.weight": (hidden,),
        "value_norm.bias": (hidden,),
        "value_out.weight": (3, hidden),
        "value_out.bias": (3,),
    }


def arch(snapshot: Snapshot) -> str:
    """Return a hash of names, shapes (all but the number of contents) and types."""
    described = [(name, array.shape, str(array.dtype)) for name, array in sorted(snapshot.weights.items())]
    rows = [(name, getattr(snapshot, name).shape[1:], str(getattr(snapshot, name).dtype)) for name in _ROWS]
    return blake2b(json.dumps([described, rows]).encode(), digest_size=8).hexdigest()


def encode(snapshot: Snapshot) -> bytes:
    """Return the snapshot as a blob."""
    arrays = {f"weights.{name}": np.ascontiguousarray(array) for name, array in snapshot.weights.items()}
    arrays |= {name: np.ascontiguousarray(getattr(snapshot, name)) for name in _ROWS}
    metadata = {**snapshot.config, "format": FORMAT, "arch": arch(snapshot)}
    return save(arrays, metadata=metadata)


def decode(blob: bytes, digest: str, vector_size: int) -> Snapshot:
    """Return the snapshot in a blob after every check that needs no forward pass.

    Parameters
    ----------
    digest
        SHA-256 of the blob in hex, from the pointer that named it.
    vector_size
        Length of the text vectors the reader has.

    Raises
    ------
    SnapshotRejected
        With the first failing check as reason; the caller keeps the snapshot it has.
    """
    if len(blob) > MAX_BYTES:
        raise SnapshotRejected("size", f"{len(blob)} bytes, at most {MAX_BYTES}")
    if sha256(blob).hexdigest() != digest:
        raise SnapshotRejected("sha256", "blob does not match its pointer")
    metadata, arrays = _parsed(blob)
    if metadata.get("format") != FORMAT:
        raise SnapshotRejected("format", f"format {metadata.get('format')!r}, this reader knows {FORMAT!r}")
    snapshot = _assembled(metadata, arrays)
    if snapshot.vector_size != vector_size:
        raise SnapshotRejected("vector_size", f"trained on {snapshot.vector_size}, this reader has {vector_size}")
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise SnapshotRejected("finite", f"{name} holds a value that is not finite")
    return snapshot


def _parsed(blob: bytes) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    try:
        arrays = load(blob)
        length = int.from_bytes(blob[:8], "little")
        return json.loads(blob[8 : 8 + length]).get("__metadata__", {}), arrays
    except (SafetensorError, ValueError, KeyError) as broken:
        raise SnapshotRejected("header", str(broken)) from broken


def _assembled(metadata: dict[str, str], arrays: dict[str, np.ndarray]) -> Snapshot:
    try:
        config = {name: value for name, value in metadata.items() if name not in ("format", "arch")}
        weights = {name.removeprefix("weights."): a for name, a in arrays.items() if name.startswith("weights.")}
        expected = layout(config)
        if {name: array.shape for name, array in weights.items()} != expected:
            raise SnapshotRejected("arch", "weights do not have the shapes of their dimensions")
        _check_rows(arrays, int(config["id_size"]))
        snapshot = Snapshot(weights=weights, config=config, **{name: arrays[name] for name in _ROWS})
        complete = snapshot.consumption in ("multi", "single") and snapshot.context_numbers is not None
    except (KeyError, ValueError, TypeError) as broken:
        raise SnapshotRejected("header", f"missing or malformed: {broken}") from broken
    if not complete or arch(snapshot) != metadata.get("arch"):
        raise SnapshotRejected("arch", "names, shapes or types differ from what the writer declared")
    return snapshot


def _check_rows(arrays: dict[str, np.ndarray], id_size: int) -> None:
    rows = len(arrays["content_ids"])
    shapes = {name: arrays[name].shape for name in _ROWS}
    wide, narrow = (rows, id_size), (rows,)
    expected = dict(zip(_ROWS, (narrow, wide, wide, narrow, narrow), strict=True))
    floats = all(a.dtype == np.float32 for name, a in arrays.items() if name not in ("content_ids", "consumptions"))
    whole = all(arrays[name].dtype == np.int64 for name in ("content_ids", "consumptions"))
    if shapes != expected or not floats or not whole:
        raise SnapshotRejected("arch", "tables of contents differ in length, width or type")
