"""A trained text model as a folder: arrays, vocabulary, manifest. Nothing in it is code, nothing is unpickled.

``manifest.json`` names the version and is replaced last, so that a reader finds the old model or the new one, whole.
The version is a hash of everything that inference depends on, and is recomputed when the model is loaded.
"""

import hashlib
import json
import os
import re
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import Float32, UInt32
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

from libs.errors import RefusedStart

FORMAT: Final = 2
"""Layout of the folder and meaning of the words (``tokens.py``): changes when either does."""

_VERSION: Final = re.compile(r"[0-9a-f]{16}")
_DOMAIN: Final = 2**31 - 1  # the last entry of gensim's table of cumulative word frequencies


@dataclass(frozen=True, slots=True)
class Inference:
    """How a text's vector is found.

    Passes over the text, negative samples for each word, subsampling of frequent words, and the rate of the first and
    of the last pass. A window makes it distributed memory (PV-DM): so many words to each side help to predict the one
    between them, their vectors and the text's averaged or summed, the window shrunk at random or whole. Zero is the
    distributed bag of words (PV-DBOW), which has no vectors of words.
    """

    epochs: int
    negative: int
    sample: float
    alpha: float = 0.025
    min_alpha: float = 0.0001
    window: int = 0
    average: bool = True
    shrink: bool = True


@dataclass(frozen=True)
class ModelParts:
    """Everything that inference needs: V words, output weights, and two tables made of the words' frequencies.

    ``context`` are the words' own vectors, None without a window.
    """

    inference: Inference
    words: tuple[str, ...]
    output: Float32[np.ndarray, "V D"]
    draw: UInt32[np.ndarray, "V"]
    keep: UInt32[np.ndarray, "V"]
    context: Float32[np.ndarray, "V D"] | None = None

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays by name."""
        arrays = {"output": self.output, "draw": self.draw, "keep": self.keep}
        return arrays if self.context is None else arrays | {"context": self.context}

    @cached_property
    def version(self) -> str:
        """Hash of the contents; the same training gives the same version."""
        digest = hashlib.sha256(json.dumps([FORMAT, asdict(self.inference), self.words]).encode())
        for array in self.arrays.values():
            digest.update(f"{array.dtype}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()[:16]


def save_parts(parts: ModelParts, folder: Path) -> None:
    """Write the model into the folder, in place of the one that was there."""
    folder.mkdir(parents=True, exist_ok=True)
    weights, vocabulary = _names(parts.version)
    arrays = {name: np.ascontiguousarray(array) for name, array in parts.arrays.items()}
    _write(folder / weights, save_arrays(arrays))
    _write(folder / vocabulary, json.dumps(parts.words, ensure_ascii=False).encode())
    manifest = {
        "format": FORMAT,
        "version": parts.version,
        "vector_size": parts.output.shape[1],
        "words": len(parts.words),
        "inference": asdict(parts.inference),
    }
    _write(folder / "manifest.json", json.dumps(manifest, indent=2).encode())
    for stale in (*folder.glob("weights-*.safetensors"), *folder.glob("vocabulary-*.json")):
        if stale.name not in (weights, vocabulary):
            stale.unlink(missing_ok=True)


def load_parts(folder: Path) -> ModelParts:
    """Return the model in the folder.

    Raises
    ------
    RefusedStart
        There is none, a file is damaged, or another version of moard wrote it.
    """
    try:
        manifest = json.loads((folder / "manifest.json").read_bytes())
        if manifest["format"] != FORMAT:
            raise _refused(folder, f"its format is {manifest['format']}, this moard reads {FORMAT}")
        version = str(manifest["version"])
        if not _VERSION.fullmatch(version):
            raise _refused(folder, "manifest.json: version is not one")
        weights, vocabulary = _names(version)
        arrays = load_arrays((folder / weights).read_bytes())
        words = tuple(json.loads((folder / vocabulary).read_bytes()))
        inference = Inference(**manifest["inference"])
        parts = ModelParts(inference, words, arrays["output"], arrays["draw"], arrays["keep"], arrays.get("context"))
    except FileNotFoundError as error:
        raise _refused(folder, f"{Path(error.filename).name} is missing") from error
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise _refused(folder, f"it cannot be read ({type(error).__name__}: {error})") from error
    if parts.version != version:
        raise _refused(folder, "its contents do not match its version: a file is damaged")
    if not sound(parts):
        raise _refused(folder, "its arrays do not belong together")
    return parts


def sound(parts: ModelParts) -> bool:
    """Return whether the arrays belong together."""
    # gensim's inner loop reads these by pointer and checks nothing: an index out of range would read foreign memory.
    count = len(parts.words)
    return (
        parts.output.ndim == 2
        and parts.output.dtype == np.float32
        and parts.draw.dtype == parts.keep.dtype == np.uint32
        and parts.output.shape[0] == parts.draw.shape[0] == parts.keep.shape[0] == count > 0
        and len(set(parts.words)) == count
        and parts.draw[-1] == _DOMAIN
        and bool(np.isfinite(parts.output).all())
        and parts.inference.epochs > 0
        and parts.inference.negative > 0
        and _context_sound(parts)
    )


def _context_sound(parts: ModelParts) -> bool:
    if parts.context is None or parts.inference.window < 1:
        return parts.context is None and parts.inference.window == 0
    return (
        parts.context.dtype == np.float32
        and parts.context.shape == parts.output.shape
        and bool(np.isfinite(parts.context).all())
    )


def _names(version: str) -> tuple[str, str]:
    return f"weights-{version}.safetensors", f"vocabulary-{version}.json"


def _write(path: Path, data: bytes) -> None:
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    with beside.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def _refused(folder: Path, problem: str) -> RefusedStart:
    return RefusedStart(
        f"MOARD_DOC2VEC_PATH: no text model can be loaded from {folder}: {problem}. "
        "Train one again, point to another folder, or leave it empty to do without."
    )
