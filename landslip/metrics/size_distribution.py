"""The power-law tail of landslide areas, by maximum likelihood. No file is opened here.

Above an area x_min the density of areas is taken as p(A) = (alpha - 1) / x_min (A / x_min)^-alpha. Clauset, Shalizi &
Newman 2009, SIAM Review 51(4), 661-703, section 3: alpha = 1 + n / sum ln(A / x_min), standard error
(alpha - 1) / sqrt(n), and x_min where the tail's distribution and the fitted one are nearest (Kolmogorov-Smirnov).
Inventories of triggered landslides often have alpha about 2.4 (Malamud et al. 2004, Earth Surf. Process. Landforms
29, 687-711).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

FEWEST = 10  # landslides of a tail that is fitted at all
SURE_COUNT = 50  # landslides of a tail whose x_min can be found well (Clauset et al., section 3.3)
TRIED = 1000  # areas tried as x_min


@dataclass(frozen=True)
class Tail:
    """The power law of the `count` landslides of at least `x_min` m2: its exponent alpha, with a standard error.

    `ks` is the largest difference between their distribution and the fitted one. All is NaN, and `count` 0, where there
    are fewer than 10 landslides of different areas. The standard error takes x_min as known.
    """

    exponent: float
    standard_error: float
    x_min: float
    count: int
    ks: float


def fit_tail(areas: ArrayLike, x_min: float | None = None) -> Tail:
    """Fit the tail of areas (N,) > 0; `x_min` is found where not given, among at most 1,000 of the areas."""
    ordered = np.sort(np.asarray(areas, np.float64))
    if x_min is None:
        # The last start still leaves a tail of FEWEST landslides; equal areas start at the first of them.
        starts = np.unique(np.searchsorted(ordered, ordered[: max(len(ordered) - FEWEST + 1, 0)]))
        if len(starts) > TRIED:
            starts = starts[np.linspace(0, len(starts) - 1, TRIED).round().astype(int)]
        tails = [_fit(ordered[first:], float(ordered[first])) for first in starts]
    else:
        tails = [_fit(ordered[ordered >= x_min], x_min)]
    fitted = [tail for tail in tails if not math.isnan(tail.exponent)]
    return min(fitted, key=lambda tail: tail.ks) if fitted else Tail(math.nan, math.nan, math.nan, 0, math.nan)


def _fit(tail: np.ndarray, x_min: float) -> Tail:
    """The tail of areas that are all at least `x_min`, (N,) in order."""
    count = len(tail)
    logs = np.log(tail / x_min)
    if count < FEWEST or not logs.sum() > 0:
        return Tail(math.nan, math.nan, math.nan, 0, math.nan)
    exponent = 1 + count / float(logs.sum())
    fitted = 1 - np.exp((1 - exponent) * logs)
    # The empirical distribution steps from i/n to (i+1)/n at each area, and either side may be farther from the fit.
    steps = np.arange(count + 1) / count
    ks = float(max(np.abs(steps[1:] - fitted).max(), np.abs(steps[:-1] - fitted).max()))
    return Tail(exponent, (exponent - 1) / math.sqrt(count), x_min, count, ks)
