import subprocess
import sys

import numpy as np
import pytest

from libs.rl.features import CONTEXT, age_weights, encode_context, log_counts, popularity_centre


def test_declared_numbers_stand_first_and_as_they_are() -> None:
    encoded = encode_context({"price": 12.5, "hour": 7.0}, ("hour", "price"))
    assert encoded[:2].tolist() == [7.0, 12.5]
    assert not encoded[2:].any()


def test_strings_and_undeclared_numbers_are_hashed_behind_them() -> None:
    phone, tablet = (encode_context({"device": device}, ("hour",)) for device in ("phone", "tablet"))
    assert phone[0] == tablet[0] == 0
    assert sorted(np.abs(phone)) == [0.0] * (CONTEXT - 1) + [1.0]
    assert (phone != tablet).any()
    np.testing.assert_allclose(encode_context({"score": 3.0}), 3 * encode_context({"score": 1.0}))


def test_hashing_is_the_same_in_another_process() -> None:
    code = "from libs.rl.features import encode_context as e; print(e({'a': 'b', 'c': 2.0}).nonzero()[0].tolist())"
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert there.strip() == str(encode_context({"a": "b", "c": 2.0}).nonzero()[0].tolist())


def test_a_wild_number_is_bounded() -> None:
    assert encode_context({"x": -1e300}, ("x",))[0] == -1e4
    assert np.isfinite(encode_context({"y": 1e300})).all()


def test_every_slot_declared_leaves_none_to_hash_into() -> None:
    names = tuple(f"n{i}" for i in range(CONTEXT))
    encoded = encode_context({"n63": 2.0, "other": "text"}, names)
    assert encoded[63] == 2.0
    assert encoded.sum() == 2.0


def test_age_weights_decay_by_a_tenth_an_hour() -> None:
    np.testing.assert_allclose(
        age_weights(np.array([[0.0, 7200.0], [-5.0, 36000.0]])), [[1, 0.81], [1, 0.9**10]], rtol=1e-6
    )


def test_counts_are_centred_where_consumption_happens() -> None:
    counts = np.array([0, 0, 7, 7])
    centre = popularity_centre(counts)
    assert centre == pytest.approx(np.log(8))
    np.testing.assert_allclose(log_counts(counts, centre), [-np.log(8), -np.log(8), 0, 0], atol=1e-6)
    assert popularity_centre(np.zeros(3, np.int64)) == 0.0
    assert popularity_centre(np.concatenate([counts, np.zeros(50, np.int64)])) == pytest.approx(centre)


def test_numpy_modules_import_without_torch() -> None:
    modules = "action_space, features, snapshot, slates, rewards, scoring, transitions"
    code = f"import sys; from libs.rl import {modules}; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
