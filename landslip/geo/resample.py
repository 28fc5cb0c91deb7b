"""Resampling as pure arrays: values at positions between pixels, each computed by itself.

What a pixel gets depends on its own position and the source's pixels around it and on nothing else, so it is the same
to the bit in whatever window it is computed. GDAL's warper is not used because it takes window and size into account.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from landslip.runtime.jit import jit

METHODS = {"nearest": 0, "bilinear": 1, "cubic": 2}
WIDENED = 1 / 0.95  # source pixels in one target pixel from which kernels are widened, as GDAL has it


def reach(method: str, scale: float) -> int:
    """Source pixels on each side of a position that `method` looks at, `scale` source pixels to a target pixel."""
    return METHODS[method] * int(np.ceil(_kernel_scale(scale))) + 1


def resample(
    values: NDArray[np.float32],
    first: tuple[int, int],
    rows: NDArray[np.float64],
    columns: NDArray[np.float64],
    *,
    method: str,
    scale: tuple[float, float] = (1.0, 1.0),
) -> NDArray[np.float32]:
    """Values (B, H, W), whose corner is pixel `first` (row, column), at positions (h, w): (B, h, w) float32.

    Positions count pixels from the raster's upper left corner, so that pixel k has its centre at k + 0.5; NaN is
    nowhere. `method`: nearest, bilinear, or cubic (Keys 1981, a = -1/2); `scale`: source pixels in one target pixel,
    down and across. A position in an undefined pixel (NaN, or beyond the array) is undefined. Elsewhere undefined
    pixels of the kernel are left out, for which cubic becomes bilinear.
    """
    out = np.empty((len(values), *rows.shape), np.float32)
    down, across = (_kernel_scale(s) for s in scale)
    values = np.ascontiguousarray(values, np.float32)  # For each other kind of array the code would be compiled anew.
    _resample(values, first, (rows, columns), (METHODS[method], down, across), out)
    return out


def _kernel_scale(scale: float) -> float:
    """By how much a kernel is widened: where pixels grow all that they cover counts."""
    return scale if scale > WIDENED else 1.0


@jit
def _resample(values: Any, first: Any, positions: Any, kernel: Any, out: Any) -> None:
    """Fill `out` (B, h, w). `kernel`: the order of a method, and how far it is widened down and across."""
    order, down, across = kernel
    rows, columns = positions
    bands, height, width = values.shape
    weights = np.empty((2, 2 * int(order * max(down, across) + 1) + 2))  # down, across
    for i in range(rows.shape[0]):
        for j in range(rows.shape[1]):
            row, column = _pixel_at(rows[i, j], first[0]), _pixel_at(columns[i, j], first[1])
            if row < 0 or row >= height or column < 0 or column >= width:
                out[:, i, j] = np.nan
                continue
            if order == 0:
                for b in range(bands):
                    out[b, i, j] = values[b, row, column]
                continue
            box = _weigh_box(values, weights, (first, (rows[i, j], columns[i, j])), kernel)
            is_complete = True
            for b in range(bands):
                mean = _mean_of_all(values, b, box, weights)
                is_complete = is_complete and mean == mean
                out[b, i, j] = mean
            if is_complete:
                continue
            # The kernel meets undefined pixels. Linear weights are taken, since cubic ones may add up to nothing.
            box = _weigh_box(values, weights, (first, (rows[i, j], columns[i, j])), (1, down, across))
            for b in range(bands):
                if values[b, row, column] != values[b, row, column]:
                    out[b, i, j] = np.nan
                elif out[b, i, j] != out[b, i, j]:
                    mean = _mean_of_all(values, b, box, weights)
                    out[b, i, j] = mean if mean == mean else _mean_of_defined(values, b, box, weights)


@jit
def _pixel_at(position: float, first: int) -> int:
    """The pixel of an axis, counted from `first`, that a position lies in; -1 for NaN and what no raster reaches."""
    return int(np.floor(position)) - first if abs(position) < 1e12 else -1


@jit
def _weigh_box(values: Any, weights: Any, place: Any, kernel: Any) -> Any:
    """Fill `weights` (down, across) for a kernel around a position; where it lies, their sum, and if all is inside."""
    first, at = place
    order, down, across = kernel
    top, high, high_sum = _weigh(weights, 0, at[0], order, down)
    left, wide, wide_sum = _weigh(weights, 1, at[1], order, across)
    top, left = top - first[0], left - first[1]
    is_inside = top >= 0 and left >= 0 and top + high <= values.shape[1] and left + wide <= values.shape[2]
    return (top, left, high, wide), high_sum * wide_sum, is_inside


@jit
def _weigh(weights: Any, axis: int, position: float, degree: int, scale: float) -> Any:
    """Fill `weights[axis]` with those of a kernel around a position: (its first pixel, how many, the weights' sum).

    `degree`: 1 is linear, 2 Keys' cubic.
    """
    begin = int(np.floor(position - 0.5 - degree * scale)) + 1
    length = int(np.ceil(position - 0.5 + degree * scale)) - begin
    total = 0.0
    for k in range(length):
        t = abs(begin + k + 0.5 - position) / scale
        if degree == 1:
            weight = 1 - t
        elif t < 1:
            weight = (1.5 * t - 2.5) * t * t + 1
        else:
            weight = ((-0.5 * t + 2.5) * t - 4) * t + 2
        weights[axis, k] = weight
        total += weight
    return begin, length, total


@jit
def _mean_of_all(values: Any, b: int, box: Any, weights: Any) -> Any:
    """The weighted mean over a box; NaN where a pixel of it is undefined or beyond the array."""
    (top, left, high, wide), weight, is_inside = box
    if not is_inside:
        return np.nan
    if high == 2 and wide == 2:  # The usual case, which needs no loops.
        upper = weights[1, 0] * values[b, top, left] + weights[1, 1] * values[b, top, left + 1]
        lower = weights[1, 0] * values[b, top + 1, left] + weights[1, 1] * values[b, top + 1, left + 1]
        return (weights[0, 0] * upper + weights[0, 1] * lower) / weight
    total = 0.0
    for k in range(high):
        line = 0.0
        for m in range(wide):
            line += weights[1, m] * values[b, top + k, left + m]
        total += weights[0, k] * line
    return total / weight


@jit
def _mean_of_defined(values: Any, b: int, box: Any, weights: Any) -> float:
    """The weighted mean of those pixels of a box that are defined and inside the array."""
    (top, left, high, wide), _, _ = box
    total, weight = 0.0, 0.0
    for k in range(max(0, -top), min(high, values.shape[1] - top)):
        for m in range(max(0, -left), min(wide, values.shape[2] - left)):
            value = values[b, top + k, left + m]
            if value == value:
                total += weights[0, k] * weights[1, m] * value
                weight += weights[0, k] * weights[1, m]
    return total / weight
