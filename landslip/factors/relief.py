"""How a place lies in the ground around it: position, relief and roughness within a square window.

Each is taken from the pixels that are defined, so that neither the rim of a DEM nor a gap in it grows by the window; it
is undefined where its own pixel is. All give the same number for a pixel whatever block of the DEM is computed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

ROUNDING = 1e-3  # units that values are rounded to before they are summed

Float32 = NDArray[np.float32]


def position(values: Float32, side: int) -> Float32:
    """Height above the mean of the window, in the units of `values`: the topographic position index (Weiss 2001).

    `values` is (row, column), `side` an odd number of pixels. Of a large window it is the relative elevation: what is
    left of the elevation when that of the surroundings is taken away.
    """
    count, total = _sums(values, side, powers=(0, 1))
    with np.errstate(invalid="ignore"):
        return np.asarray(values - ROUNDING * total / count, np.float32)


def relief(values: Float32, side: int) -> Float32:
    """Largest less smallest value in the window, in the units of `values`; arguments as in `position`."""
    _require_odd(side)
    gap = np.isnan(values)
    highest = ndimage.maximum_filter(np.where(gap, -np.inf, values), side, mode="constant", cval=-np.inf)
    lowest = ndimage.minimum_filter(np.where(gap, np.inf, values), side, mode="constant", cval=np.inf)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(gap, np.nan, highest - lowest), np.float32)


def roughness(values: Float32, side: int) -> Float32:
    """Standard deviation in the window (divisor n), in the units of `values`; arguments as in `position`.

    Of slope it is the roughness that Grohmann, Smith and Riccomini (2011) find to hold best over scales.
    """
    count, total, squares = _sums(values, side, powers=(0, 1, 2))
    with np.errstate(invalid="ignore", divide="ignore"):
        deviation = ROUNDING * np.sqrt(np.maximum(squares / count - (total / count) ** 2, 0))
    return np.asarray(np.where(np.isnan(values), np.nan, deviation), np.float32)


def _sums(values: Float32, side: int, powers: Sequence[int]) -> list[NDArray[np.int64]]:
    """Sums of powers of the defined values in each pixel's window, in steps of ROUNDING; power 0 gives their number.

    They are whole numbers: a running sum of fractions would depend on where a block begins.
    """
    _require_odd(side)
    defined = ~np.isnan(values)
    steps = np.rint(np.where(defined, values, 0).astype(np.float64) / ROUNDING).astype(np.int64)
    return [_window_sum(np.where(defined, steps**power, 0), side) for power in powers]


def _window_sum(values: NDArray[np.int64], side: int) -> NDArray[np.int64]:
    """Sum over the window of `side` pixels around each pixel; nothing lies beyond the edge."""
    for axis in (0, 1):
        before = [(0, 0), (0, 0)]
        before[axis] = side // 2 + 1, side // 2
        running = np.cumsum(np.pad(values, before), axis=axis)
        last, first = (np.arange(values.shape[axis]) + start for start in (side, 0))
        values = running.take(last, axis) - running.take(first, axis)
    return values


def _require_odd(side: int) -> None:
    """Raise ValueError for a window without a pixel in its middle."""
    if side < 1 or side % 2 == 0:
        raise ValueError(f"a window of {side} pixels has no middle. Give an odd number.")
