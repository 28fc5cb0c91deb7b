"""Closed forms of Meyer and Pebesma 2021; scipy's distances as the other program."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist, pdist

from landslip.errors import ModelError
from landslip.metrics.applicability import (
    PIXELS_AT_ONCE,
    area_threshold,
    channel_weights,
    fit_applicability,
    mean_distance,
    nearest,
    own_distances,
)


def test_channels_of_one_factor_count_as_one() -> None:
    # two pixels of opposite aspect, of other rocks and one standard deviation apart in slope differ by
    # (2^2 + 0) / 2 + (1 + 1 + 0) / 3 + 1 squared
    factors = ["aspect", "aspect", "lithology", "lithology", "lithology", "slope"]
    weights = channel_weights(factors)
    a, b = np.array([1, 0, 1, 0, 0, 0.5], np.float32), np.array([-1, 0, 0, 1, 0, -0.5], np.float32)
    assert (((a - b) * weights) ** 2).sum() == pytest.approx(2 + 2 / 3 + 1)


def test_two_clusters_of_known_distances() -> None:
    # corners of two unit segments, 9 apart: pairs 1, 1, 9, 9, sqrt(82), sqrt(82); in the other block the nearest is 9
    values = np.array([[0, 0], [0, 1], [9, 0], [9, 1]], np.float32)
    folds = np.array([0, 0, 1, 1])
    area = fit_applicability(values, folds, ["a", "b"])
    mean = (1 + 1 + 9 + 9 + 2 * 82**0.5) / 6
    assert area.mean_distance == pytest.approx(mean)
    assert area.threshold == pytest.approx(9 / mean)
    pixels = np.array([[9, 1], [4, 0], [0, -9], [0, -10]], np.float32)
    index = area.index(pixels)
    np.testing.assert_allclose(index, np.array([0, 4, 9, 10]) / mean, rtol=1e-6)
    assert index[0] == 0
    assert area.inside(index).tolist() == [1, 1, 1, 0]  # as far as the threshold is inside


def test_a_training_pixel_is_exactly_nothing_from_itself() -> None:
    values = np.random.default_rng(0).normal(3, 5, (PIXELS_AT_ONCE + 44, 19)).astype(np.float32)
    area = fit_applicability(values, np.arange(len(values)) % 7, [f"f{i}" for i in range(19)])
    assert not area.index(values).any()


@given(st.integers(1, 700), st.integers(1, 300), st.integers(1, 20), st.integers(0, 2**32 - 1))
def test_the_nearest_is_that_of_all_distances(pixels: int, training: int, channels: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = (rng.normal(size=(n, channels)).astype(np.float32) for n in (pixels, training))
    # what the product rounds away is a chance between two neighbours as good as equally near
    np.testing.assert_allclose(nearest(a, b) ** 2, cdist(a, b).min(1) ** 2, rtol=1e-4, atol=1e-5)


def test_the_mean_distance_is_that_of_all_pairs() -> None:
    values = np.random.default_rng(1).normal(100, 1, (2 * PIXELS_AT_ONCE + 1, 5)).astype(np.float32)
    assert mean_distance(values) == pytest.approx(pdist(values.astype(float)).mean(), rel=1e-9)


def test_neighbours_of_the_same_block_of_ground_do_not_count() -> None:
    values = np.array([[0], [1], [5], [100]], np.float32)
    assert own_distances(values, np.array([0, 0, 1, 2])).tolist() == [5, 4, 4, 95]
    assert np.isinf(own_distances(values, np.zeros(4, int))).all()


def test_the_threshold_leaves_outliers_out() -> None:
    # quartiles of 1..10 and 100 are 3.5 and 8.5, so the fence is 16 and the largest within it 10; with 16, 16
    assert area_threshold(np.array([100, *range(1, 11)], np.float32)) == 10
    assert area_threshold(np.array([1, 2, 3], np.float32)) == 3
    assert area_threshold(np.array([2, 2, 2, 2], np.float32)) == 2
    assert np.isnan(area_threshold(np.array([1, np.inf], np.float32)))


def test_one_block_of_ground_tells_no_threshold() -> None:
    area = fit_applicability(np.array([[0], [1], [2]], np.float32), np.zeros(3, int), ["a"])
    assert np.isnan(area.threshold)
    assert np.isnan(area.inside(area.index(np.array([[0], [50]], np.float32)))).all()


def test_scale_does_not_matter_and_a_single_pixel_is_refused() -> None:
    values = np.random.default_rng(2).normal(size=(50, 3)).astype(np.float32)
    pixels = values[:10] + 1
    names, folds = ["a", "b", "c"], np.arange(50) % 5
    one, ten = fit_applicability(values, folds, names), fit_applicability(10 * values, folds, names)
    np.testing.assert_allclose(one.index(pixels), ten.index(10 * pixels), rtol=1e-5)
    assert replace(one, threshold=0.0).inside(one.index(values)).all()
    for alike in (values[:1], np.ones((4, 3), np.float32)):
        with pytest.raises(ModelError, match="all alike"):
            fit_applicability(alike, np.arange(len(alike)), names)
