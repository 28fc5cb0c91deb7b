"""The domain of a model: the values of each channel on its training ground, and whether other ground has them too.

The training range of a channel is what the middle 98 % of the training pixels hold. Ground lies outside it where more
than half of its pixels do. On a model's own ground a few hundredths do, on other ground of the same kind seldom half,
and at a wrong scale nearly all (docs/results.md has the figures).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

RANGE_TAIL = 0.01  # share of the training pixels beyond each end of the range
DEVIATIONS = 3.0  # from the mean to each end, where nothing but mean and deviation is known
MOST_OUTSIDE = 0.5  # share of the pixels; more are most of the ground
MOST_LARGER = 1.25  # of two pixels' sides: beyond it shapes and textures are others
WARNING = "warning_"  # begins the names of a map's tags that hold warnings

Ends = tuple[NDArray[np.float64], NDArray[np.float64]]


def range_of_pixels(values: NDArray[np.floating[Any]]) -> Ends:
    """Lower and upper end, (C,) each, of the middle 98 % of pixels (N, C), N at least 1; each is one of the values."""
    ends = np.quantile(values.astype(np.float64), (RANGE_TAIL, 1 - RANGE_TAIL), axis=0, method="inverted_cdf")
    return ends[0], ends[1]


def range_of_moments(mean: NDArray[np.float64], deviation: NDArray[np.float64], positive: NDArray[np.bool_]) -> Ends:
    """Lower and upper end, (C,) each, of ranges of which only mean and deviation (C,) are known: three deviations.

    Where values are all `positive` (C,), as bands are, and the mean is above 0, those are deviations of the logarithm,
    as of a log-normal distribution with this mean and deviation: the lower end is above 0 then, so that a tenth of
    the values can lie below it.
    """
    low, high = mean - DEVIATIONS * deviation, mean + DEVIATIONS * deviation
    skewed = positive & (mean > 0)
    variance = np.log1p((deviation[skewed] / mean[skewed]) ** 2)
    middle = np.log(mean[skewed]) - variance / 2
    low[skewed] = np.exp(middle - DEVIATIONS * np.sqrt(variance))
    high[skewed] = np.exp(middle + DEVIATIONS * np.sqrt(variance))
    return low, high


def share_outside(values: NDArray[np.floating[Any]], ends: Ends) -> NDArray[np.float64]:
    """Share (C,) of pixels (N, C), N at least 1, beyond the ends of each channel; 0 where an end is NaN, unknown."""
    low, high = ends
    return np.asarray(((values < low) | (values > high)).mean(axis=0))


def is_same_size(one: tuple[float, float], other: tuple[float, float]) -> bool:
    """Whether two pixels (width, height), as squares of the same areas, differ by at most a quarter in their sides."""
    ratio = math.sqrt(math.prod(one) / math.prod(other))
    return 1 / MOST_LARGER <= ratio <= MOST_LARGER


def warnings_in(tags: Mapping[str, str]) -> list[str]:
    """The warnings that a map's tags hold, in words."""
    return [text for key, text in sorted(tags.items()) if key.startswith(WARNING)]
