"""Power-law tails, held against the formula worked by hand and against scipy."""

import math

import numpy as np
import pytest
from scipy.stats import kstest, pareto

from landslip.metrics.size_distribution import fit_tail


def quantiles(exponent: float, x_min: float, count: int) -> np.ndarray:
    """Areas whose distribution is a power law as nearly as `count` of them can be."""
    return x_min * (1 - (np.arange(count) + 0.5) / count) ** (-1 / (exponent - 1))


def test_the_formula_by_hand() -> None:
    # each ln(A / x_min) is 1: alpha = 1 + 25 / 25, standard error 1 / 5; the smaller ones take no part
    found = fit_tail([*[100 * math.e] * 25, 3.0, 99.0], x_min=100)
    assert found.exponent == pytest.approx(2) and found.standard_error == pytest.approx(0.2)
    assert (found.count, found.x_min) == (25, 100)


def test_is_scipys_fit_and_distance() -> None:
    areas = pareto.rvs(1.4, scale=900, size=300, random_state=3)
    found = fit_tail(areas, x_min=900)
    shape, _, _ = pareto.fit(areas, floc=0, fscale=900)
    assert found.exponent == pytest.approx(1 + shape, rel=1e-6)
    assert found.ks == pytest.approx(kstest(areas, pareto(found.exponent - 1, scale=900).cdf).statistic, rel=1e-9)


def test_finds_where_the_tail_begins() -> None:
    small = np.linspace(50, 999, 400)  # a flat distribution below the tail
    found = fit_tail(np.concatenate([small, quantiles(2.4, 1000, 600)]))
    assert found.x_min == pytest.approx(1000, rel=0.03) and found.exponent == pytest.approx(2.4, abs=0.05)
    assert found.standard_error == pytest.approx((found.exponent - 1) / math.sqrt(found.count))
    assert found.ks < 0.01


def test_many_areas_are_tried_in_part() -> None:
    found = fit_tail(quantiles(2.4, 1000, 5000))
    assert found.exponent == pytest.approx(2.4, abs=0.02) and found.count > 4000


@pytest.mark.parametrize("areas", [[], [5.0] * 9, [5.0] * 40])
def test_few_landslides_or_all_alike_have_no_tail(areas: list[float]) -> None:
    found = fit_tail(areas)
    assert math.isnan(found.exponent) and math.isnan(found.x_min) and found.count == 0
