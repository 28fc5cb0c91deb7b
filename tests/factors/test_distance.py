"""Distance against brute force and closed forms."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt

from landslip.errors import GridError
from landslip.factors.distance import distance, distance_down, row_gaps


def test_one_feature_is_pythagoras() -> None:
    features = np.zeros((5, 7), bool)
    features[1, 2] = True
    got = distance(features, 30, 20)
    assert got.dtype == np.float32
    assert got[1, 2] == 0
    assert got[1, 5] == 90  # three columns of 30 m
    assert got[4, 2] == 60  # three rows of 20 m
    assert got[3, 3] == 50  # 30 m east, 40 m south


@settings(max_examples=60)
@given(st.data())
def test_is_the_brute_force_minimum(data: st.DataObject) -> None:
    rows, columns = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 9))
    flat = data.draw(st.lists(st.booleans(), min_size=rows * columns, max_size=rows * columns))
    x_size, y_size = data.draw(st.floats(1, 90)), data.draw(st.floats(1, 90))
    features = np.array(flat).reshape(rows, columns)
    got = distance(features, x_size, y_size)
    if not features.any():
        assert np.isnan(got).all()
        return
    row, column = np.indices(features.shape)
    at = np.argwhere(features)
    apart = np.hypot((row[..., None] - at[:, 0]) * y_size, (column[..., None] - at[:, 1]) * x_size)
    np.testing.assert_allclose(got, apart.min(axis=2), rtol=1e-6)


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.floats(0.5, 90), st.floats(0.5, 90), st.sampled_from([0.0003, 0.003, 0.05, 0.5]))
def test_is_scipys_distance(seed: int, x_size: float, y_size: float, share: float) -> None:
    random = np.random.default_rng(seed)
    features = random.random(random.integers(30, 200, 2)) < share
    features[random.integers(len(features)), 0] = True
    expected = distance_transform_edt(~features, sampling=(y_size, x_size))
    np.testing.assert_allclose(distance(features, x_size, y_size), expected, rtol=2e-7, atol=0)


def test_same_bytes_however_rows_and_columns_are_taken() -> None:
    features = np.random.default_rng(3).random((150, 170)) < 0.002
    whole = distance(features, 29.997, 30.0016)
    for step in (1, 7, 64, 300):
        gaps = np.concatenate([row_gaps(features[i : i + step]) for i in range(0, 150, step)])
        parts = [distance_down(gaps[:, i : i + step], 29.997, 30.0016) for i in range(0, 170, step)]
        assert np.concatenate(parts, 1).tobytes() == whole.tobytes()


def test_no_feature_is_undefined_everywhere() -> None:
    got = distance(np.zeros((3, 4), bool), 30, 30)
    assert got.shape == (3, 4) and got.dtype == np.float32 and np.isnan(got).all()


def test_leaves_its_input_alone() -> None:
    features = np.eye(5, 6, 1, dtype=bool)
    before = features.copy()
    distance(features, 30, 30)
    np.testing.assert_array_equal(features, before)


def test_refuses() -> None:
    with pytest.raises(GridError, match=r"\(1, 3, 4\)"):
        distance(np.ones((1, 3, 4), bool), 30, 30)
    with pytest.raises(GridError, match="30 x -30"):
        distance(np.ones((3, 4), bool), 30, -30)
