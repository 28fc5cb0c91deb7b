"""Position, relief and roughness against a window cut by hand, and against the closed form of a plane."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from landslip.factors.relief import position, relief, roughness

heights = arrays(
    np.float32,
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    elements=st.one_of(st.integers(-500, 8_800).map(float), st.just(np.nan)),
)
sides = st.sampled_from([1, 3, 5, 15])


def by_hand(values: np.ndarray, side: int, of: object) -> np.ndarray:
    """A function of the defined values in each pixel's window, as numpy states it."""
    half, result = side // 2, np.full(values.shape, np.nan)
    for row, column in np.argwhere(~np.isnan(values)):
        window = values[max(row - half, 0) : row + half + 1, max(column - half, 0) : column + half + 1]
        result[row, column] = of(window.astype(np.float64))  # type: ignore[operator]
    return result


@given(heights, sides)
def test_the_window_cut_by_hand(values: np.ndarray, side: int) -> None:
    np.testing.assert_allclose(position(values, side), values - by_hand(values, side, np.nanmean), atol=2e-3)
    np.testing.assert_allclose(relief(values, side), by_hand(values, side, lambda x: np.nanmax(x) - np.nanmin(x)))
    np.testing.assert_allclose(roughness(values, side), by_hand(values, side, np.nanstd), atol=5e-3, rtol=1e-6)


@given(heights, sides)
def test_no_pixel_is_lost_or_won(values: np.ndarray, side: int) -> None:
    for factor in (position, relief, roughness):
        assert np.array_equal(np.isnan(factor(values, side)), np.isnan(values))


def test_a_plane() -> None:
    row, column = np.mgrid[:31, :31]
    plane = (3.0 * row - 2.0 * column).astype(np.float32)
    inside = np.s_[7:-7, 7:-7]
    assert position(plane, 15)[inside] == pytest.approx(0)
    assert relief(plane, 15)[inside] == pytest.approx(14 * 5)
    # the variance of 15 equally spaced numbers is (15^2 - 1) / 12
    assert roughness(plane, 15)[inside] == pytest.approx(np.sqrt((9 + 4) * (15**2 - 1) / 12), rel=1e-6)


def test_a_block_gives_the_bits_of_the_whole() -> None:
    values = np.random.default_rng(3).normal(1_500, 300, (80, 90)).astype(np.float32)
    values[20:24, 40:50] = np.nan
    part, inner = np.s_[10:60, 17:77], np.s_[15:-15, 15:-15]
    for factor in (position, relief, roughness):
        assert np.array_equal(factor(values[part], 31)[inner], factor(values, 31)[part][inner], equal_nan=True)


@pytest.mark.parametrize("side", [0, 2, -3])
def test_a_window_has_a_middle(side: int) -> None:
    for factor in (position, relief, roughness):
        with pytest.raises(ValueError, match=f"a window of {side} pixels"):
            factor(np.zeros((4, 4), np.float32), side)
