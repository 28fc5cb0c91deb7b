"""Confidence intervals of the six scores: a spatial block bootstrap. No file is opened here.

Neighbouring pixels err together, so that an interval from pixels drawn one by one would be far too narrow. Here whole
square blocks of the scored ground are drawn, as many as there are and with replacement, and the confusion matrices of
the blocks drawn are summed. Blocks are taken to be independent of each other: where landslides are larger than a
block they are not, and larger blocks give the more honest interval. Few blocks give a rough one.

Hall, Horowitz & Jing 1995, Biometrika 82(3), 561-574; percentile intervals, Efron & Tibshirani 1993, ch. 13.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from landslip.metrics.confusion import SCORES, Confusion

BOOTSTRAP_BLOCK = 64  # pixels a side: a window
BOOTSTRAP_DRAWS = 1000
LEVEL = 0.95  # of the intervals
BOOTSTRAP_SEED = 2021


@dataclass(frozen=True)
class Interval:
    """`low` and `high` of one score, NaN where fewer than two blocks or no draw define it.

    `undefined` of the draws left the score undefined (no landslide in them, say) and are left out.
    """

    low: float
    high: float
    undefined: int


def confidence_intervals(
    blocks: NDArray[np.signedinteger], draws: int = BOOTSTRAP_DRAWS, seed: int = BOOTSTRAP_SEED
) -> dict[str, Interval]:
    """95 % percentile interval of each score from (B, 4) pixels by block: TP, FP, FN, TN. Blocks of no pixel drop out.

    The same blocks and seed give the same intervals.
    """
    blocks = blocks[blocks.any(1)]
    count = len(blocks)
    values: dict[str, list[float]] = {name: [] for name in SCORES}
    if count > 1:
        rng = np.random.default_rng(seed)
        pixels = blocks.astype(np.float64)  # Exact up to 2^53.
        for _ in range(draws):
            times = np.bincount(rng.integers(0, count, count), minlength=count)
            confusion = Confusion(*(int(n) for n in times @ pixels))
            for name, score in confusion.scores().items():
                values[name].append(score)
    return {name: percentile_interval(np.array(scores)) for name, scores in values.items()}


def percentile_interval(scores: NDArray[np.float64]) -> Interval:
    """The middle 95 % of (draws,) values; those that are NaN are left out and counted."""
    defined = scores[~np.isnan(scores)]
    undefined = len(scores) - len(defined)
    if not len(defined):
        return Interval(math.nan, math.nan, undefined)
    tail = 50 * (1 - LEVEL)
    low, high = np.percentile(defined, (tail, 100 - tail))
    return Interval(float(low), float(high), undefined)


def block_shape(shape: tuple[int, int], side: int) -> tuple[int, int]:
    """Rows and columns of the square blocks of `side` pixels that a raster of `shape` falls into."""
    return -(-shape[0] // side), -(-shape[1] // side)


def empty_sums(shape: tuple[int, int], side: int, *more: int) -> NDArray[np.signedinteger]:
    """No pixel counted yet, (block rows, block columns, *more), in the narrowest type that holds a block's pixels."""
    most = min(side**2, shape[0] * shape[1])
    signed = np.min_scalar_type(-1 - most)  # A number below 0 asks for a signed type.
    return np.zeros((*block_shape(shape, side), *more), signed)


def add_block_sums(total: NDArray[np.signedinteger], mask: NDArray[np.bool_], row: int, column: int, side: int) -> None:
    """Add the pixels set in (h, w) `mask`, whose corner lies at (row, column), to `total`, one number a block."""
    rows, columns = _cuts(row, mask.shape[0], side), _cuts(column, mask.shape[1], side)
    sums = np.add.reduceat(np.add.reduceat(mask.view(np.uint8), columns, 1, dtype=np.int32), rows, 0)
    top, left = row // side, column // side
    total[top : top + len(rows), left : left + len(columns)] += sums


def _cuts(first: int, length: int, side: int) -> NDArray[np.intp]:
    """Where blocks begin in a window of `length` pixels that begins at `first`; 0 for a block that it cuts."""
    side = min(side, first + length)  # A longer side gives one block too, and numpy cannot count it.
    begins = np.arange(first // side, -(-(first + length) // side)) * side - first
    return np.maximum(begins, 0)
