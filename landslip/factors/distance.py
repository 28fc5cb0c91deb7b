"""Distance to the nearest feature (river, fault), exact and Euclidean, of rasters of any size.

Two passes, each over lines that do not know of one another (Meijster, Roerdink & Hesselink 2000, in Mathematical
Morphology and its Applications to Image and Signal Processing, 331-340; the envelope as Felzenszwalb & Huttenlocher
2012, Theory of Computing 8, 415-428, draw it): along each row the pixels to the nearest feature of that row, then down
each column the nearest of all rows. So rows may be taken some at a time, and then columns some at a time.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from landslip.errors import GridError
from landslip.runtime.jit import jit

NO_FEATURE = np.iinfo(np.int32).max  # the gap in a row without a feature
DISTANCE_COLUMNS = 256  # columns whose distances are computed at a time


def distance(features: ArrayLike, x_size: float, y_size: float) -> NDArray[np.float32]:
    """Exact Euclidean distance in metres from each pixel's centre to the centre of the nearest feature pixel.

    features: bool (row, column), True where a feature was burnt (all-touched); x_size, y_size: pixel size in
    metres, which may differ. Returns float32 (row, column), 0 on features, all NaN where there is none. Only
    features on the array count: callers burn them on a grid larger than the site, so that those outside its
    outline do. Raises GridError if features is not (row, column) or a pixel size is not positive.
    """
    burnt = np.asarray(features, bool)
    if burnt.ndim != 2:
        raise GridError(f"features have shape {burnt.shape}: give one plane (row, column)")
    out = np.empty(burnt.shape, np.float32)
    gaps = row_gaps(burnt)
    for left in range(0, burnt.shape[1], DISTANCE_COLUMNS):
        part = slice(left, left + DISTANCE_COLUMNS)
        out[:, part] = distance_down(gaps[:, part], x_size, y_size)
    return out


def row_gaps(features: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Pixels from each pixel to the nearest feature of its own row, int32; NO_FEATURE where the row has none.

    features: bool (row, column).
    """
    out = np.empty(features.shape, np.int32)
    _row_gaps(np.ascontiguousarray(features), NO_FEATURE, out)
    return out


def distance_down(gaps: NDArray[np.int32], x_size: float, y_size: float) -> NDArray[np.float32]:
    """Distance in metres, (row, column) float32, from the row gaps of whole columns; NaN where there is no feature.

    gaps: as `row_gaps` gives them, every row of the columns. Raises GridError if a pixel size is not positive.
    """
    if not (np.isfinite([x_size, y_size]).all() and x_size > 0 and y_size > 0):
        raise GridError(f"pixel size is {x_size} x {y_size}: give positive metres")
    out = np.empty(gaps.shape[::-1], np.float32)
    _distance_down(np.ascontiguousarray(gaps.T), NO_FEATURE, float(x_size / y_size), float(y_size), out)
    return np.ascontiguousarray(out.T)


@jit
def _row_gaps(features: Any, none: int, out: Any) -> None:
    """Fill `out` as `row_gaps` returns it: from the left, then from the right."""
    for i in range(features.shape[0]):
        gap = none
        for j in range(features.shape[1]):
            gap = 0 if features[i, j] else (gap if gap == none else gap + 1)
            out[i, j] = gap
        gap = none
        for j in range(features.shape[1] - 1, -1, -1):
            gap = 0 if features[i, j] else (gap if gap == none else gap + 1)
            out[i, j] = min(gap, out[i, j])


@jit
def _distance_down(gaps: Any, none: int, ratio: float, y_size: float, out: Any) -> None:
    """Fill `out` (column, row) from `gaps` (column, row), by the lower envelope of a parabola for each row's feature.

    Lengths are in rows of the raster; the width of a column is `ratio` of them.
    """
    columns, rows = gaps.shape
    place = np.empty(rows, np.int64)  # the rows whose parabola lies lowest somewhere
    height = np.empty(rows)  # the height of its foot, which is the square of the row's gap
    begin = np.empty(rows + 1)  # where it takes over from the one before
    for j in range(columns):
        count = 0
        for i in range(rows):
            if gaps[j, i] == none:
                continue
            foot = (ratio * gaps[j, i]) * (ratio * gaps[j, i])
            meet = -np.inf
            while count:
                last = count - 1
                meet = (foot - height[last]) / (i - place[last]) + i + place[last]  # twice the row
                if meet > begin[last]:
                    break
                count -= 1
                meet = -np.inf
            place[count], height[count], begin[count] = i, foot, meet
            count += 1
        if count == 0:
            out[j, :] = np.nan
            continue
        k = 0
        for i in range(rows):
            while k + 1 < count and begin[k + 1] < 2 * i:
                k += 1
            down = i - place[k]
            out[j, i] = y_size * np.sqrt(height[k] + down * down)
