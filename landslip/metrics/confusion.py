"""The confusion matrix of a landslide map, the six scores that follow from it, and thresholds. No file is opened here.

A pixel is mapped as landslide where its probability is at least the threshold. Scores are fractions; a score that is
not defined is NaN. Counts are Python integers, because kappa multiplies them and int64 overflows past 3 x 10^9 pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from landslip.errors import RasterError, RunError
from landslip.runtime.text import parse_number

SCORES = ("accuracy", "precision", "recall", "f1", "kappa", "miou")
BINS = 1000  # thresholds are then known to 0.001
DEFAULT_THRESHOLD = 0.5


@dataclass(frozen=True)
class Confusion:
    """Pixels by class (Table VI): `tp` landslide in both, `fp` false alarms, `fn` misses, `tn` neither."""

    tp: int
    fp: int
    fn: int
    tn: int

    def __add__(self, other: Confusion) -> Confusion:
        return Confusion(self.tp + other.tp, self.fp + other.fp, self.fn + other.fn, self.tn + other.tn)

    @classmethod
    def from_arrays(
        cls, predicted: NDArray[np.bool_], label: NDArray[np.uint8], scored: NDArray[np.bool_]
    ) -> Confusion:
        """Count (H, W) bool `predicted` against (H, W) `label` (1, 0, 255 unknown) where `scored`; 255 never counts."""
        landslide, other = scored & (label == 1), scored & (label == 0)
        tp, fp = int(np.count_nonzero(predicted & landslide)), int(np.count_nonzero(predicted & other))
        fn, tn = int(np.count_nonzero(landslide)) - tp, int(np.count_nonzero(other)) - fp
        return cls(tp, fp, fn, tn)

    @property
    def n(self) -> int:
        """Pixels counted."""
        return self.tp + self.fp + self.fn + self.tn

    @property
    def accuracy(self) -> float:
        """(TP + TN) / n, formula (2)."""
        return _ratio(self.tp + self.tn, self.n)

    @property
    def precision(self) -> float:
        """TP / (TP + FP), formula (3); NaN where nothing was mapped."""
        return _ratio(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> float:
        """TP / (TP + FN), formula (4); NaN where there is no landslide."""
        return _ratio(self.tp, self.tp + self.fn)

    @property
    def f1(self) -> float:
        """2 TP / (2 TP + FP + FN): formula (5) wherever that is defined.

        Where landslides were all missed, or only false alarms mapped, it is 0; with no landslide in either, NaN.
        """
        return _ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn)

    @property
    def kappa(self) -> float:
        """(p0 - pe) / (1 - pe), formulas (6) and (7), both sides times n^2; NaN where one class is all there is."""
        chance = (self.tp + self.fn) * (self.tp + self.fp) + (self.fp + self.tn) * (self.fn + self.tn)
        return _ratio(self.n * (self.tp + self.tn) - chance, self.n * self.n - chance)

    @property
    def miou(self) -> float:
        """Mean of TP / (TP + FN + FP) and TN / (TN + FN + FP), formula (8); NaN where either is undefined."""
        errors = self.fp + self.fn
        return (_ratio(self.tp, self.tp + errors) + _ratio(self.tn, self.tn + errors)) / 2

    def scores(self) -> dict[str, float]:
        """The six scores in the order of Tables VII and VIII, fractions."""
        return {name: getattr(self, name) for name in SCORES}


@dataclass(frozen=True)
class Histogram:
    """Probabilities of landslide and of other pixels, counted in bins, so that every threshold can be judged at once.

    `landslide` and `other` are (bins + 1,) int64: bin i holds i/bins <= probability < (i + 1)/bins; the last, only 1.
    """

    landslide: NDArray[np.int64]
    other: NDArray[np.int64]

    @classmethod
    def empty(cls, bins: int = BINS) -> Histogram:
        """No pixel counted yet."""
        return cls(np.zeros(bins + 1, np.int64), np.zeros(bins + 1, np.int64))

    @classmethod
    def from_arrays(
        cls, probability: NDArray[np.float32], label: NDArray[np.uint8], scored: NDArray[np.bool_], bins: int = BINS
    ) -> Histogram:
        """Count (H, W) probabilities in [0, 1] where `scored` and the label is 1 or 0; NaN and 255 never count."""
        scored = scored & ~np.isnan(probability)
        landslide = _bin_counts(probability[scored & (label == 1)], bins)
        return cls(landslide, _bin_counts(probability[scored & (label == 0)], bins))

    def __add__(self, other: Histogram) -> Histogram:
        return Histogram(self.landslide + other.landslide, self.other + other.other)

    @property
    def bins(self) -> int:
        """Number of bins between 0 and 1."""
        return len(self.landslide) - 1

    def confusion(self, threshold: float) -> Confusion:
        """The matrix at a threshold that lies on a bin edge; RunError for one that does not."""
        edge = round(threshold * self.bins) if math.isfinite(threshold) else -1
        if not 0 <= edge <= self.bins or abs(edge / self.bins - threshold) > 1e-6:
            raise RunError(f"threshold {threshold:g} is not a whole multiple of 1/{self.bins} between 0 and 1.")
        return self._at(edge)

    def _at(self, edge: int) -> Confusion:
        tp, fp = int(self.landslide[edge:].sum()), int(self.other[edge:].sum())
        return Confusion(tp, fp, int(self.landslide.sum()) - tp, int(self.other.sum()) - fp)

    def best_threshold(self, by: str = "f1") -> float:
        """The threshold with the highest `by` ("f1" or "kappa"); of equals, the one nearest to 0.5.

        NaN where there is no landslide pixel or nothing else: no threshold can be chosen there.
        """
        if by not in ("f1", "kappa"):
            raise RunError(f"a threshold is chosen by f1 or kappa, not by {by!r}.")
        if not self.landslide.any() or not self.other.any():
            return math.nan
        highest, threshold = -math.inf, math.nan
        for edge in sorted(range(self.bins + 1), key=lambda i: abs(2 * i - self.bins)):
            score = getattr(self._at(edge), by)
            if score > highest:
                highest, threshold = score, edge / self.bins
        return threshold


def stated_threshold(given: float | None, tag: str | None, name: str) -> tuple[float, str]:
    """The threshold to map with and, in words, where it came from: as given, else the raster's tag, else 0.5.

    `name` is the probability raster's, for messages. Raises RunError for one outside [0, 1].
    """
    if given is not None:
        threshold, source = given, "as given"
    elif tag is not None:
        threshold, source = parse_number(tag), f"tag of {name}"
    else:
        threshold, source = DEFAULT_THRESHOLD, f"the default: {name} carries none"
    if not 0 <= threshold <= 1:
        raise RunError(
            f"threshold {tag if given is None else given} ({source}) is not between 0 and 1. Give one that is."
        )
    return threshold, source


def require_probabilities(values: NDArray[np.float32], name: str) -> None:
    """Raise RasterError where a value of the raster `name` is outside [0, 1]; NaN passes."""
    if np.any((values < 0) | (values > 1)):
        lowest, highest = float(np.nanmin(values)), float(np.nanmax(values))
        raise RasterError(
            f"{name} holds values from {lowest:g} to {highest:g}, and probabilities lie between 0 and 1. "
            "Give the probability raster that mapping wrote."
        )


def _ratio(numerator: int, denominator: int) -> float:
    return numerator / denominator if denominator else math.nan


def _bin_counts(probability: NDArray[np.float32], bins: int) -> NDArray[np.int64]:
    # The edges are rounded to float32 as numpy rounds a threshold it compares with, so that the matrix of a histogram
    # is that of `probability >= threshold` to the pixel.
    edges = (np.arange(bins + 2) / bins).astype(np.float32)
    bin_numbers = np.clip((probability * np.float32(bins)).astype(np.intp), 0, bins)
    bin_numbers -= probability < edges[bin_numbers]
    bin_numbers += probability >= edges[bin_numbers + 1]
    return np.bincount(bin_numbers, minlength=bins + 1).astype(np.int64)
