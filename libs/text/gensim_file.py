"""Import of a Doc2Vec model that gensim saved: the one place where anything is unpickled.

Unpickling runs what the file says. So nothing here happens but by a person's command, who names the SHA-256 of every
file of the model; and what is unpickled are private copies, the very bytes that were hashed.
"""

import glob
import hashlib
import pickle
import re
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Any, Final

from gensim.models.doc2vec import Doc2Vec

from libs.errors import RefusedStart
from libs.text.doc2vec import Doc2VecModel, parts_of
from libs.text.model_folder import Inference, sound
from libs.text.tokens import tokens

_CHUNK_BYTES: Final = 1 << 20
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_TRAIN_AGAIN: Final = "Train a model with `moard doc2vec train` instead."


def import_model(file: Path, sha256: Collection[str]) -> Doc2VecModel:
    """Return the model that gensim saved in this file and the arrays beside it (``FILE.*.npy``).

    Parameters
    ----------
    sha256
        Digest of each of these files, in hexadecimal, in any order; from whoever made the model.

    Raises
    ------
    RefusedStart
        A digest is missing or does not match (nothing was unpickled then), or it is a model moard cannot use.
    """
    with tempfile.TemporaryDirectory(prefix="moard-import-") as private:
        copy = Path(private) / "model"
        _copy_vouched(file, copy, sha256)
        model = _unpickled(file, copy)
    how = _inference(file, model)
    try:
        parts = parts_of(model, how)
    except (AttributeError, KeyError) as error:
        raise _refused(file, f"it lacks {error}. {_TRAIN_AGAIN}") from error
    if not sound(parts):
        raise _refused(file, f"its arrays do not belong together. {_TRAIN_AGAIN}")
    return Doc2VecModel(parts)


def understood(model: Doc2VecModel) -> float:
    """Return the share of a model's words that ``tokens`` can make: others never occur in a text moard reads.

    A model whose words carry tags of their parts of speech, or stems, has few of them.
    """
    return sum(word in tokens(word) for word in model.words) / len(model.words)


def _copy_vouched(file: Path, copy: Path, sha256: Collection[str]) -> None:
    given = {digest.strip().lower() for digest in sha256}
    if wrong := [digest for digest in given if not _DIGEST.fullmatch(digest)]:
        raise _refused(file, f"--sha256 {wrong[0]!r} is not a SHA-256: 64 hexadecimal digits")
    beside = sorted(Path(name) for name in glob.glob(f"{glob.escape(str(file))}.*.npy"))  # noqa: PTH207 - escaped
    digests = {
        source.name: _copied(file, source, copy.with_name(copy.name + source.name.removeprefix(file.name)))
        for source in (file, *beside)
    }
    if unvouched := [name for name, digest in digests.items() if digest not in given]:
        raise _refused(
            file,
            f"the SHA-256 of {', '.join(unvouched)} is not among those given, so nothing was opened. Let whoever made "
            f"the model run `sha256sum {file.name} {file.name}.*.npy` on the originals, and give each with --sha256",
        )
    if spare := given - set(digests.values()):
        raise _refused(file, f"no file has the SHA-256 {min(spare)}: is a {file.name}.*.npy missing beside it?")


def _copied(file: Path, source: Path, target: Path) -> str:
    digest = hashlib.sha256()
    try:
        with source.open("rb") as reading, target.open("wb") as writing:
            while chunk := reading.read(_CHUNK_BYTES):
                digest.update(chunk)
                writing.write(chunk)
    except OSError as error:
        raise _refused(file, f"{source.name} cannot be copied ({error.strerror})") from error
    return digest.hexdigest()


def _unpickled(file: Path, copy: Path) -> Any:
    broken = (
        pickle.UnpicklingError,
        AttributeError,
        ImportError,
        EOFError,
        LookupError,
        OSError,
        TypeError,
        ValueError,
    )
    try:
        model = Doc2Vec.load(str(copy))
    except broken as error:
        reason = f"it cannot be read ({type(error).__name__}: {error})"
        raise _refused(file, f"{reason}. One of gensim 3 has to be loaded and saved with gensim 4 first") from error
    if not isinstance(model, Doc2Vec):
        raise _refused(file, f"it holds a {type(model).__name__}, not a Doc2Vec model")
    return model


def _inference(file: Path, model: Any) -> Inference:
    if model.hs or not model.negative:
        raise _refused(file, f"it was trained with hierarchical softmax (hs=1), moard needs negative=5. {_TRAIN_AGAIN}")
    if model.dm_concat:
        raise _refused(file, f"it was trained with dm_concat=1, which moard does not have. {_TRAIN_AGAIN}")
    return Inference(
        epochs=int(model.epochs),
        negative=int(model.negative),
        sample=float(model.sample),
        alpha=float(model.alpha),
        min_alpha=float(model.min_alpha),
        window=0 if model.sg else int(model.window),
        average=bool(model.cbow_mean),
        shrink=bool(getattr(model, "shrink_windows", True)),  # always, before gensim 4.1
    )


def _refused(file: Path, problem: str) -> RefusedStart:
    return RefusedStart(f"{file} was not imported: {problem}.")
