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
    return METHODS[method] * int(np.ceil(kernel_scale(scale))) + 1


def kernel_scale(scale: float) -> float:
    """By how much a kernel is widened: where pixels grow all that they cover counts."""
    return scale if scale > WIDENED else 1.0


def resample(
    values: NDArray[np.float32],
    first: tuple[int, int],
    rows: NDArray[np.float64],
    columns: NDArray[np.float64],
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
    down, across = (kernel_scale(s) for s in scale)
    values = np.ascontiguousarray(values, np.float32)  # one kind of array is compiled for
    _resample(values, *first, rows, columns, METHODS[method], down, across, out)
    return out


@jit
def _resample(
    values: Any,
    first_row: int,
    first_column: int,
    rows: Any,
    columns: Any,
    order: int,
    down: float,
    across: float,
    out: Any,
) -> None:
    bands, height, width = values.shape
    weights = np.empty((2, 2 * int(order * max(down, across) + 1) + 2))
    for i in range(rows.shape[0]):
        for j in range(rows.shape[1]):
            p, q = rows[i, j], columns[i, j]
            row, column = -1, -1
            if abs(p) < 1e12 and abs(q) < 1e12:  # not NaN
                row, column = int(np.floor(p)) - first_row, int(np.floor(q)) - first_column
            if row < 0 or row >= height or column < 0 or column >= width:
                out[:, i, j] = np.nan
                continue
            if order == 0:
                for b in range(bands):
                    out[b, i, j] = values[b, row, column]
                continue
            begin, undone = 0, 1
            taken = order
            while undone:  # a second time, as bilinear, where the cubic kernel meets undefined pixels
                undone = 0
                top = int(np.floor(p - 0.5 - taken * down)) + 1
                left = int(np.floor(q - 0.5 - taken * across)) + 1
                high = int(np.ceil(p - 0.5 + taken * down)) - top
                wide = int(np.ceil(q - 0.5 + taken * across)) - left
                high_sum, wide_sum = 0.0, 0.0
                for axis in range(2):
                    for k in range(wide if axis else high):
                        t = abs(left + k + 0.5 - q) / across if axis else abs(top + k + 0.5 - p) / down
                        if taken == 1:
                            w = 1 - t
                        elif t < 1:
                            w = (1.5 * t - 2.5) * t * t + 1
                        else:
                            w = ((-0.5 * t + 2.5) * t - 4) * t + 2
                        weights[axis, k] = w
                        if axis:
                            wide_sum += w
                        else:
                            high_sum += w
                top -= first_row
                left -= first_column
                inside = top >= 0 and left >= 0 and top + high <= height and left + wide <= width
                for b in range(begin, bands):
                    if values[b, row, column] != values[b, row, column]:
                        out[b, i, j] = np.nan
                        continue
                    total = np.nan
                    if inside and high == 2 and wide == 2:  # the usual case, in one expression
                        total = weights[0, 0] * (
                            weights[1, 0] * values[b, top, left] + weights[1, 1] * values[b, top, left + 1]
                        ) + weights[0, 1] * (
                            weights[1, 0] * values[b, top + 1, left] + weights[1, 1] * values[b, top + 1, left + 1]
                        )
                    elif inside:
                        total = 0.0
                        for k in range(high):
                            line = 0.0
                            for m in range(wide):
                                line += weights[1, m] * values[b, top + k, left + m]
                            total += weights[0, k] * line
                    if total == total:
                        out[b, i, j] = total / (high_sum * wide_sum)
                        continue
                    if taken == 2:
                        begin, undone, taken = b, 1, 1
                        break
                    total, weight = 0.0, 0.0
                    for k in range(max(0, -top), min(high, height - top)):
                        for m in range(max(0, -left), min(wide, width - left)):
                            value = values[b, top + k, left + m]
                            if value == value:
                                total += weights[0, k] * weights[1, m] * value
                                weight += weights[0, k] * weights[1, m]
                    out[b, i, j] = total / weight
