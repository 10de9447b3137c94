from hashlib import sha256

import numpy as np
import pytest
from safetensors.numpy import save

from libs.errors import SnapshotRejected
from libs.rl import snapshot as snapshots
from libs.rl.snapshot import MAX_BYTES, Snapshot, arch, decode, encode
from tests.snapshots import random_snapshot


def decoded(blob: bytes, vector_size: int = 8) -> Snapshot:
    return decode(blob, sha256(blob).hexdigest(), vector_size)


def rejected(blob: bytes, vector_size: int = 8) -> str:
    with pytest.raises(SnapshotRejected) as caught:
        decoded(blob, vector_size)
    return caught.value.reason


def test_a_snapshot_comes_back_as_it_was() -> None:
    snapshot = random_snapshot([5, 7, 11], 8)
    again = decoded(encode(snapshot))
    assert again.config == snapshot.config
    assert again.weights.keys() == snapshot.weights.keys()
    for name, array in snapshot.weights.items():
        np.testing.assert_array_equal(again.weights[name], array)
    for name in ("content_ids", "user_rows", "content_rows", "biases", "consumptions"):
        np.testing.assert_array_equal(getattr(again, name), getattr(snapshot, name))


def test_a_snapshot_without_contents_is_fine() -> None:
    assert len(decoded(encode(random_snapshot([], 8))).content_ids) == 0


def test_arch_ignores_how_many_contents_there_are() -> None:
    assert arch(random_snapshot([1, 2], 8)) == arch(random_snapshot([1, 2, 3], 8))
    assert arch(random_snapshot([1, 2], 8)) != arch(random_snapshot([1, 2], 9))


def test_each_broken_blob_is_rejected_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    good = encode(random_snapshot([1, 2], 8))
    assert rejected(good, vector_size=9) == "vector_size"
    assert rejected(good[:-1]) == "header"
    assert rejected(b"") == "header"
    assert rejected(b"\xff" * 64) == "header"
    assert rejected(save({"weights.a": np.zeros(1, np.float32)}, metadata={"format": "1"})) == "header"
    assert rejected(good.replace(b'"format":"1"', b'"format":"2"')) == "format"
    assert rejected(good.replace(b'"hidden":"128"', b'"hidden":"127"')) == "arch"
    with pytest.raises(SnapshotRejected, match="sha256"):
        decode(good, sha256(b"other").hexdigest(), 8)
    monkeypatch.setattr(snapshots, "MAX_BYTES", len(good) - 1)
    assert rejected(good) == "size"
    assert MAX_BYTES == 64 * 2**20


@pytest.mark.parametrize("where", ["user_rows", "biases", "weights"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_rejected(where: str, value: float) -> None:
    snapshot = random_snapshot([1, 2], 8)
    array = snapshot.weights["heads.bias"] if where == "weights" else getattr(snapshot, where)
    array[0] = value
    assert rejected(encode(snapshot)) == "finite"


def test_tables_of_unequal_length_are_rejected() -> None:
    snapshot = random_snapshot([1, 2], 8)
    arrays = {f"weights.{name}": array for name, array in snapshot.weights.items()}
    arrays |= {name: getattr(snapshot, name) for name in ("content_ids", "user_rows", "content_rows", "consumptions")}
    metadata = {**snapshot.config, "format": "1", "arch": arch(snapshot)}
    assert rejected(save(arrays | {"biases": np.zeros(3, np.float32)}, metadata=metadata)) == "arch"
    assert rejected(save(arrays | {"biases": np.zeros(2, np.float64)}, metadata=metadata)) == "arch"
