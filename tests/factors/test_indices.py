"""Indices against numbers worked by hand and the laws of a normalized difference."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from landslip.errors import GridError
from landslip.factors.indices import dndvi, mndwi, ndvi, normalized_difference

reflectance = st.floats(0, 1, width=32)


def test_worked_by_hand() -> None:
    # healthy grass: red 0.05, nir 0.45 -> 0.4 / 0.5; bare scar: 0.20, 0.25 -> 0.05 / 0.45
    np.testing.assert_allclose(ndvi([0.05, 0.20], [0.45, 0.25]), [0.8, 1 / 9], rtol=1e-6)
    # clear water: green 0.06, swir 0.01 -> 0.05 / 0.07; soil: 0.10, 0.30 -> -0.20 / 0.40
    np.testing.assert_allclose(mndwi([0.06, 0.10], [0.01, 0.30]), [5 / 7, -0.5], rtol=1e-6)
    # a landslide takes the grass off
    np.testing.assert_allclose(dndvi([0.8], [0.1]), [-0.7], rtol=1e-6)


def test_undefined() -> None:
    a = np.array([np.nan, 0.2, 0.0, -0.3, -0.1, np.nan])
    b = np.array([0.2, np.nan, 0.0, -0.1, 0.0, -0.1])
    assert np.isnan(normalized_difference(a, b)).all()
    assert np.isnan(dndvi([np.nan, 0.1], [0.1, np.nan])).all()


def test_what_a_file_has_below_0_is_0() -> None:
    """Red of -0.010 under near infrared of 0.012, as over dark water, made an NDVI of 11."""
    np.testing.assert_array_equal(ndvi([-0.010, 0.03, -0.3, 0.02], [0.012, -0.001, 0.1, -0.4]), [1, -1, 1, -1])
    # above 1 both keep their ratio: snow in the sun is no artefact to the quotient
    np.testing.assert_allclose(ndvi([1.2], [1.08]), [-0.12 / 2.28], rtol=1e-6)


measured = st.floats(-10, 70_000, width=32)  # reflectance as files have it, and digital numbers


@given(bands=st.lists(measured, min_size=6, max_size=6))
def test_an_index_never_leaves_its_range(bands: list[float]) -> None:
    green, red, nir, swir1, red_before, nir_before = (np.array([band], np.float32) for band in bands)
    now, before, water = ndvi(red, nir)[0], ndvi(red_before, nir_before)[0], mndwi(green, swir1)[0]
    for index, pair in ((now, (red, nir)), (before, (red_before, nir_before)), (water, (green, swir1))):
        assert np.isnan(index) == (max(pair) <= 0)
        assert np.isnan(index) or -1 <= index <= 1
    change = dndvi([before], [now])[0]
    assert np.isnan(change) == np.isnan(before + now)
    assert np.isnan(change) or -2 <= change <= 2  # the difference of two numbers in [-1, 1]
    if min(bands) >= 0 and not np.isnan(now):  # nothing but what is below 0 is changed
        assert now == np.float32((float(nir[0]) - float(red[0])) / (float(nir[0]) + float(red[0])))


def test_digital_numbers_do_not_wrap_around() -> None:
    low, high = np.array([1000], np.uint16), np.array([60000], np.uint16)
    np.testing.assert_allclose(normalized_difference(low, high), [-59000 / 61000], rtol=1e-6)


def test_float32_of_the_shape() -> None:
    made = normalized_difference(np.ones((3, 4)), np.zeros((3, 4)))
    assert made.dtype == np.float32 and made.shape == (3, 4)
    assert dndvi(made, made).dtype == np.float32


@given(a=reflectance, b=reflectance, gain=st.floats(0.1, 1e4))
def test_laws(a: float, b: float, gain: float) -> None:
    """In [-1, 1], odd under exchange, and blind to a common gain."""
    here = normalized_difference([a], [b])[0]
    if a + b == 0:
        assert np.isnan(here)
        return
    assert -1 <= here <= 1
    assert here == -normalized_difference([b], [a])[0]
    assert here == pytest.approx(normalized_difference([a * gain], [b * gain])[0], abs=1e-6)


def test_refuses_two_shapes() -> None:
    """(3, 4) and (4,) would broadcast without a word."""
    with pytest.raises(GridError, match=r"\(3, 4\) and \(4,\)"):
        ndvi(np.ones(4), np.ones((3, 4)))
    with pytest.raises(GridError, match=r"\(3, 4\) and \(4,\)"):
        dndvi(np.ones((3, 4)), np.ones(4))
