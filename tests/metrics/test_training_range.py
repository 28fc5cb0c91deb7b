"""The training range, the share outside it and the size of pixels, against closed forms and scipy's distributions."""

import numpy as np
import pytest
from scipy import stats

from landslip.metrics.training_range import (
    is_same_size,
    range_of_moments,
    range_of_pixels,
    share_outside,
    warnings_in,
)


def test_a_range_holds_the_middle_98_per_cent_and_ends_at_values() -> None:
    values = np.stack([np.arange(1000.0), np.arange(1000.0)[::-1] / 8], axis=1)
    low, high = range_of_pixels(values)
    assert low.tolist() == [9, 9 / 8] and high.tolist() == [989, 989 / 8]
    assert range_of_pixels(np.array([[3.0]])) == (np.array([3]), np.array([3]))


def test_a_class_that_a_few_pixels_hold_is_outside_the_range_and_one_that_many_hold_inside() -> None:
    values = np.zeros((1000, 2))
    values[:5, 0] = 1
    values[:50, 1] = 1
    low, high = range_of_pixels(values)
    assert low.tolist() == [0, 0] and high.tolist() == [0, 1]


def test_moments_give_three_deviations_of_a_normal_and_of_a_log_normal_distribution() -> None:
    skewed = stats.lognorm(s=0.5, scale=np.exp(-2))  # the logarithm has mean -2 and deviation 0.5
    mean, deviation = np.array([10, skewed.mean(), -4]), np.array([2, skewed.std(), 1.0])
    low, high = range_of_moments(mean, deviation, np.array([False, True, True]))
    assert low == pytest.approx([4, np.exp(-3.5), -7])  # decibels, say: below 0 there is no logarithm
    assert high == pytest.approx([16, np.exp(-0.5), -1])


def test_the_share_outside_counts_pixels_beyond_the_ends_and_none_where_an_end_is_unknown() -> None:
    values = np.array([[0, 5, 1], [1, 6, 2], [2, 7, 3], [3, 8, 9]], np.float32)
    ends = np.array([1.0, 0, np.nan]), np.array([2.0, 4, np.nan])
    assert share_outside(values, ends).tolist() == [0.5, 1, 0]


@pytest.mark.parametrize("scale", [10, 0.1])
def test_ten_times_the_scale_and_a_tenth_put_most_ground_outside_whatever_tells_the_range(scale: float) -> None:
    values = stats.gamma(9, scale=0.02).rvs((5000, 1), random_state=1)  # of a third of its mean in deviation
    mean, deviation, positive = values.mean(0), values.std(0), np.array([True])
    for ends in (range_of_pixels(values), range_of_moments(mean, deviation, positive)):
        assert share_outside(values, ends)[0] < 0.03
        assert share_outside(scale * values, ends)[0] > 0.9


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ((10, 10), (12.5, 12.5), True),
        ((12.5, 12.5), (10, 10), True),
        ((10, 10), (12.6, 12.6), False),
        ((30, 30), (10, 10), False),
        ((15, 15), (30, 30), False),
        ((29.997, 30.0016), (30, 30), True),
        ((20, 5), (10, 10), True),  # of one area
    ],
)
def test_pixels_are_of_one_size_where_their_sides_differ_by_a_quarter_at_most(
    one: tuple[float, float], other: tuple[float, float], same: bool
) -> None:
    assert is_same_size(one, other) is same


def test_warnings_are_those_tags_that_are_named_so() -> None:
    assert warnings_in({"warning_range": "b", "threshold": "0.5", "warning_accepted_range": "a"}) == ["a", "b"]
