"""How far probabilities can be taken at their word, and thresholds that keep a promise. No file is opened here.

A network is calibrated where, of the pixels it gives a probability of 0.3, three in ten are landslide. Temperature
scaling divides its logits by one number, fitted on ground it was not trained on: no pixel changes its rank, so that
what a threshold can reach stays the same. Guo et al. 2017, "On calibration of modern neural networks", ICML.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from landslip.errors import LabelError, RunError
from landslip.metrics.bootstrap import BOOTSTRAP_DRAWS, BOOTSTRAP_SEED, Interval, percentile_interval
from landslip.metrics.confusion import Histogram
from landslip.runtime.progress import plural

RELIABILITY_CLASSES = 10  # of a reliability table: 0.1 wide
SHARPEST, FLATTEST = 0.05, 20.0  # temperatures looked at
MOST_STEPS, CLOSE = 100, 1e-9  # of Newton's method: how many, and how small the last is
CHUNK = 1 << 20  # pixels that are summed at a time


@dataclass(frozen=True, kw_only=True)
class Reliability:
    """One class of a reliability table: the pixels with `low` <= probability < `high`; the last class has 1 too.

    `pixels` is how many there are, `probability` their mean probability and `observed` the share of them that is
    landslide, both NaN where there are none. `observed_low` and `observed_high` are the ends of that share's 95 %
    interval, NaN where no bootstrap was made.
    """

    low: float
    high: float
    pixels: int
    probability: float
    observed: float
    observed_low: float = math.nan
    observed_high: float = math.nan


def reliability(
    counted: Histogram, blocks: NDArray[np.signedinteger] | None = None, classes: int = RELIABILITY_CLASSES
) -> list[Reliability]:
    """The reliability table of a histogram in `classes` of one width (DeGroot & Fienberg 1983).

    `blocks`, where given, is (B, classes, 2) pixels by block of ground and class, all of them and landslides, from
    which intervals are drawn.

    The mean probability is that of bin centres, so that it is known to half a bin of the histogram: 0.0005.
    Raises RunError where the histogram's bins do not fill the classes evenly.
    """
    if not 1 <= classes <= counted.bins or counted.bins % classes:
        raise RunError(f"{counted.bins} bins do not fall into {classes} classes of one width. Give a divisor of them.")
    centres = np.append((np.arange(counted.bins) + 0.5) / counted.bins, 1.0)
    pixels = counted.landslide + counted.other
    begins = np.arange(classes) * (counted.bins // classes)
    weighted, count, landslide = (np.add.reduceat(x, begins) for x in (pixels * centres, pixels, counted.landslide))
    table = [
        Reliability(
            low=i / classes,
            high=(i + 1) / classes,
            pixels=int(count[i]),
            probability=float(weighted[i] / count[i]) if count[i] else math.nan,
            observed=float(landslide[i] / count[i]) if count[i] else math.nan,
        )
        for i in range(classes)
    ]
    if blocks is None:
        return table
    intervals = observed_intervals(blocks)
    return [
        replace(row, observed_low=interval.low, observed_high=interval.high)
        for row, interval in zip(table, intervals, strict=True)
    ]


def add_class_sums(
    total: NDArray[np.signedinteger],
    probability: NDArray[np.float32],
    landslide: NDArray[np.bool_],
    *,
    scored: NDArray[np.bool_],
    corner: tuple[int, int],
    side: int,
) -> None:
    """Add a window's scored pixels to `total`, (block rows, block columns, classes, 2): all of them, and landslides.

    Window arrays are (h, w), their corner at (row, column) of the raster, whose blocks are `side` pixels square.
    """
    classes = total.shape[2]
    # Edges are rounded as a histogram's are, so that both count a pixel in the same class.
    edges = (np.arange(1, classes) / classes).astype(np.float32)
    row, column = np.nonzero(scored)
    blocks = ((row + corner[0]) // side) * total.shape[1] + (column + corner[1]) // side
    cells = blocks * classes + np.searchsorted(edges, probability[scored], "right")
    first = int(cells.min()) if cells.size else 0  # Counts begin at the window's first block.
    flat = total.reshape(-1, 2)
    for i, selection in enumerate((cells, cells[landslide[scored]])):
        counts = np.bincount(selection - first)
        flat[first : first + len(counts), i] += counts


def expected_calibration_error(table: list[Reliability]) -> float:
    """Mean over pixels of |mean probability - observed share| of their class; NaN where no pixel was counted.

    Naeini et al. 2015 (AAAI), Guo et al. 2017, formula (3), with landslide as the event: probabilities of landslide
    against shares of landslide, not confidences of the class mapped against its accuracy.
    """
    total = sum(row.pixels for row in table)
    gaps = [row.pixels * abs(row.probability - row.observed) for row in table if row.pixels]
    return sum(gaps) / total if total else math.nan


def log_loss(
    logits: NDArray[np.float32], landslide: NDArray[np.bool_], temperature: float = 1.0, bias: float = 0.0
) -> float:
    """Mean negative log-likelihood of (n,) logits / temperature + bias, nats."""
    return _loss(logits, landslide, 1 / temperature, bias)[0] if len(logits) else math.nan


def fit_platt(logits: NDArray[np.float32], landslide: NDArray[np.bool_]) -> tuple[float, float]:
    """The temperature T above 0 and the bias b that minimise the negative log-likelihood of (n,) logits / T + b.

    Platt 1999. Exact: no logit is binned, and the loss is convex in 1 / T and b, so that Newton's steps, halved where
    they would go too far, end at its one minimum. Raises LabelError where one class is missing or T would lie outside
    0.05 to 20.
    """
    if landslide.all() or not landslide.any():
        raise LabelError(
            f"a temperature is fitted on landslides and on other ground, and of {len(logits)} pixels "
            f"{int(np.count_nonzero(landslide))} are landslide. Fit it on ground that holds both."
        )
    at = np.array([1.0, 0.0])
    loss, slope, curvature = _loss(logits, landslide, *at)
    for _ in range(MOST_STEPS):
        step = np.linalg.lstsq(curvature, slope, rcond=None)[0]
        while True:
            tried = _loss(logits, landslide, *(at - step))
            if tried[0] <= loss or np.abs(step).max() < CLOSE:
                break
            step /= 2
        at, (loss, slope, curvature) = at - step, tried
        if np.abs(step).max() < CLOSE:
            break
    if at[0] <= 1 / FLATTEST:
        raise LabelError(
            f"no temperature up to {FLATTEST:g} flattens these probabilities enough: they say little of where "
            "landslides are. Train the model further before calibrating it."
        )
    if at[0] >= 1 / SHARPEST:
        raise LabelError(
            f"no temperature down to {SHARPEST:g} sharpens these probabilities enough: landslides and other ground are "
            "told apart all but without error. The model needs no calibration here; validate it on more ground."
        )
    return 1 / float(at[0]), float(at[1])


def _loss(
    logits: NDArray[np.float32], landslide: NDArray[np.bool_], factor: float, bias: float
) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
    """The mean negative log-likelihood of (n,) factor * logits + bias; its gradient (2,) and its Hessian (2, 2)."""
    loss, slope, curvature = 0.0, np.zeros(2), np.zeros((2, 2))
    for i in range(0, len(logits), CHUNK):
        z, y = logits[i : i + CHUNK].astype(np.float64), landslide[i : i + CHUNK]
        scaled = factor * z + bias
        loss += float(np.logaddexp(0, np.where(y, -scaled, scaled)).sum())
        p = expit(scaled)
        by = np.stack([z, np.ones_like(z)])
        slope += by @ (p - y)
        curvature += (by * (p * (1 - p))) @ by.T
    return loss / len(logits), slope / len(logits), curvature / len(logits)


def missed_shares(landslide: NDArray[np.int64]) -> NDArray[np.float64]:
    """Share of each region's landslide pixels that a threshold of i / bins misses, (R, bins + 1).

    `landslide` is (R, bins + 1): each region's landslide pixels as a `Histogram` counts them, at least one a region.
    """
    total = landslide.sum(1, keepdims=True)
    return np.asarray((np.cumsum(landslide, 1) - landslide) / total)


def regions_needed(most: float) -> int:
    """The fewest regions from which a missed share of at most `most` can be promised: 1 / most - 1, rounded up."""
    return max(1, math.ceil(1 / most - 1 - 1e-9))


def require_regions(count: int, most: float, name: str) -> None:
    """Raise RunError for an impossible `most`, LabelError where `count` regions are too few to promise it.

    `name` is what the regions are of, for messages.
    """
    if not 0 < most < 1:
        raise RunError(f"a missed share of {most:g} cannot be promised. Give --miss between 0 and 1.")
    if count < regions_needed(most):
        least = math.ceil(1000 / (count + 1)) / 1000
        remedy = f"Give --miss {least:g} or more, or choose" if count else "Choose"
        raise LabelError(
            f"{name} holds {plural(count, 'independent region')} with landslides, and to miss at most {100 * most:g} % "
            f"takes {regions_needed(most)} (1/x - 1). {remedy} the threshold by f1 or kappa, or train with a split "
            "whose validation part holds more regions."
        )


def conformal_threshold(missed: NDArray[np.float64], most: float, name: str) -> float:
    """The largest threshold whose missed share, in expectation over regions, is at most `most` (0 to 1).

    `missed` is (n, bins + 1), each region's missed share at the thresholds i / bins, as `missed_shares` gives it.
    Taken is the largest with n / (n + 1) mean + 1 / (n + 1) <= most: conformal risk control, Angelopoulos, Bates,
    Fisch, Lei & Schuster 2024 (ICLR), theorem 1, with 1 as the largest loss. The promise is on the average over
    regions like these (exchangeable with them), not on each one. It stands however probabilities were scaled, since
    a scaling moves thresholds and not what they can miss.

    Raises as `require_regions`, for `name`.
    """
    require_regions(len(missed), most, name)
    promised = missed.sum(0) + 1 <= most * (len(missed) + 1) + 1e-9
    return int(np.flatnonzero(promised)[-1]) / (int(missed.shape[1]) - 1)


def observed_intervals(
    blocks: NDArray[np.signedinteger], draws: int = BOOTSTRAP_DRAWS, seed: int = BOOTSTRAP_SEED
) -> list[Interval]:
    """95 % interval of each class's observed share from (B, K, 2) pixels by block and class: all, and landslide.

    As in `bootstrap.confidence_intervals`, whole blocks are drawn with replacement. Neighbouring pixels are landslide
    together, so that an interval from single pixels (Wilson's) would be far too narrow.
    """
    blocks = blocks[blocks.any((1, 2))]
    count, classes = len(blocks), blocks.shape[1]
    shares = np.full((draws if count > 1 else 0, classes), math.nan)
    rng = np.random.default_rng(seed)
    pixels = blocks.reshape(count, 2 * classes).astype(np.float64)
    for draw in range(len(shares)):
        times = np.bincount(rng.integers(0, count, count), minlength=count)
        scored, landslide = (times @ pixels).reshape(classes, 2).T
        np.divide(landslide, scored, out=shares[draw], where=scored > 0)
    return [percentile_interval(shares[:, i]) for i in range(classes)]
