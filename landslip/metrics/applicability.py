"""Where a model may be trusted: dissimilarity index and area of applicability (Meyer and Pebesma 2021).

"Predicting into unknown space? Estimating the area of applicability of spatial prediction models", Methods in Ecology
and Evolution 12, 1620-1633. The index of a pixel is its distance, in the space of the standardised channels, to the
nearest training pixel, over the mean distance of two training pixels: 0 at a training pixel, about 1 where a pixel is
as unlike every training pixel as those are among each other. The area of applicability is where the index is at most
what training pixels have themselves when only other blocks of ground may be their neighbours.

Every factor and every band counts alike: the paper's weights by importance are left out, and a factor of several
channels (aspect's sine and cosine, the planes of lithology) counts as one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from landslip.errors import ModelError

PIXELS_AT_ONCE = 256  # pixels whose distances are computed at once, so that products stay in the processor's cache
WHISKER = 1.5  # interquartile ranges above the third quartile beyond which an index is an outlier


@dataclass(frozen=True)
class Applicability:
    """Where a model may be trusted, as its training pixels say.

    training: (N, C) pixels, standardised and weighted; mean_distance: that of two of them; threshold: the largest index
    inside the area, NaN where the training pixels lie in one block of ground, so that it cannot be known; weights: (C,)
    of the channels.
    """

    training: NDArray[np.float32]
    mean_distance: float
    threshold: float
    weights: NDArray[np.float32]

    def index(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Dissimilarity index (N,) of pixels (N, C), standardised as the training pixels are; 0 or more."""
        return np.asarray(nearest(values * self.weights, self.training) / np.float32(self.mean_distance))

    def inside(self, index: NDArray[np.float32]) -> NDArray[np.float32]:
        """1 where an index is inside the area of applicability, 0 outside; NaN where there is no threshold."""
        if np.isnan(self.threshold):
            return np.full(index.shape, np.nan, np.float32)
        return (index <= np.float32(self.threshold)).astype(np.float32)


def fit_applicability(values: NDArray[np.float32], folds: NDArray[np.integer], factors: Sequence[str]) -> Applicability:
    """The area of applicability of training pixels (N, C) that lie in blocks of ground (N,), channels of `factors` (C).

    Raises ModelError where the training pixels are fewer than two or all alike, so that no distance means anything.
    """
    weights = channel_weights(factors)
    training = np.ascontiguousarray(values * weights)
    scale = mean_distance(training) if len(training) > 1 else 0.0
    if not scale > 0:
        raise ModelError(
            f"the {len(values)} training pixels are all alike, so that nothing can be told near or far from them. "
            "Train on more ground."
        )
    distances = own_distances(training, folds) / np.float32(scale)
    return Applicability(training, scale, area_threshold(distances), weights)


def channel_weights(factors: Sequence[str]) -> NDArray[np.float32]:
    """(C,) weights of channels, by the factor each belongs to: squared, those of one factor sum to 1."""
    return np.array([factors.count(factor) ** -0.5 for factor in factors], np.float32)


def nearest(pixels: NDArray[np.float32], training: NDArray[np.float32]) -> NDArray[np.float32]:
    """Euclidean distance (M,) of pixels (M, C) to the nearest of (N, C) training pixels; infinite where N is 0.

    The nearest is found by a matrix product (|t|^2 - 2 p.t, least where |p - t| is), and its distance then taken by
    itself, so that a training pixel is exactly 0 from itself. In 19 dimensions a tree is some ten times slower.
    """
    if not len(training):
        return np.full(len(pixels), np.inf, np.float32)
    table = np.vstack([-2 * training.T, (training**2).sum(1)])
    out = np.empty(len(pixels), np.float32)
    ones = np.ones((PIXELS_AT_ONCE, 1), np.float32)
    for start in range(0, len(pixels), PIXELS_AT_ONCE):
        part = pixels[start : start + PIXELS_AT_ONCE]
        places = (np.hstack([part, ones[: len(part)]]) @ table).argmin(1)
        out[start : start + PIXELS_AT_ONCE] = np.sqrt(((part - training[places]) ** 2).sum(1))
    return out


def mean_distance(training: NDArray[np.float32]) -> float:
    """Mean Euclidean distance over all pairs of (N, C) training pixels, N at least 2."""
    points, total = training.astype(np.float64), 0.0
    points -= points.mean(0)
    squares = (points**2).sum(1)
    for start in range(0, len(points), PIXELS_AT_ONCE):
        part, later = slice(start, start + PIXELS_AT_ONCE), slice(start + PIXELS_AT_ONCE, None)
        among, beyond = (squares[part, None] + squares[to] - 2 * points[part] @ points[to].T for to in (part, later))
        total += float(np.sqrt(np.maximum(among, 0)).sum()) + 2 * float(np.sqrt(np.maximum(beyond, 0)).sum())
    return total / (len(points) * (len(points) - 1))


def own_distances(training: NDArray[np.float32], folds: NDArray[np.integer]) -> NDArray[np.float32]:
    """Distance (N,) of each of (N, C) training pixels to the nearest of another block of ground; infinite where
    there is no other.
    """
    out = np.empty(len(training), np.float32)
    for fold in np.unique(folds):
        inside = folds == fold
        out[inside] = nearest(training[inside], training[~inside])
    return out


def area_threshold(index: NDArray[np.float32]) -> float:
    """The largest of (N,) indices that is no outlier: at most 1.5 interquartile ranges above the third quartile.

    NaN where the indices are not finite.
    """
    if not np.isfinite(index).all():
        return float("nan")
    first, third = np.percentile(index.astype(np.float64), (25, 75))
    return float(index[index <= third + WHISKER * (third - first)].max())
