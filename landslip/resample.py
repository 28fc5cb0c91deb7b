"""Resampling as pure arrays: values at positions between pixels, each computed by itself.

What a pixel gets depends on its own position and the source's pixels around it and on nothing else, so it is the same
to the bit in whatever window it is computed. GDAL's warper is not used because it takes window and size into account.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from landslip.compiled import compiled

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
    _resample(values, *first, rows, columns, METHODS[method], down, across, out)
    return out


@compiled
def _resample(  # type: ignore[no-untyped-def]
    values, first_row, first_column, rows, columns, order, down, across, out
):
    bands, height, width = values.shape
    row_weights = np.empty(2 * int(order * down + 1) + 2)
    column_weights = np.empty(2 * int(order * across + 1) + 2)
    for i in range(rows.shape[0]):
        for j in range(rows.shape[1]):
            p, q = rows[i, j], columns[i, j]
            r, c = -1, -1
            if p == p and q == q and abs(p) < 1e12 and abs(q) < 1e12:
                r, c = int(np.floor(p)) - first_row, int(np.floor(q)) - first_column
            if r < 0 or r >= height or c < 0 or c >= width:
                out[:, i, j] = np.nan
                continue
            if order == 0:
                for b in range(bands):
                    out[b, i, j] = values[b, r, c]
                continue
            for b in range(bands):
                if values[b, r, c] != values[b, r, c]:
                    out[b, i, j] = np.nan
                    continue
                taken = order
                while True:  # again as bilinear where the cubic kernel meets an undefined pixel
                    top = int(np.floor(p - 0.5 - taken * down)) + 1
                    left = int(np.floor(q - 0.5 - taken * across)) + 1
                    rows_in = int(np.ceil(p - 0.5 + taken * down)) - top
                    columns_in = int(np.ceil(q - 0.5 + taken * across)) - left
                    for k in range(rows_in):
                        t = abs(top + k + 0.5 - p) / down
                        if taken == 1:
                            row_weights[k] = 1 - t
                        elif t < 1:
                            row_weights[k] = (1.5 * t - 2.5) * t * t + 1
                        else:
                            row_weights[k] = ((-0.5 * t + 2.5) * t - 4) * t + 2
                    for k in range(columns_in):
                        t = abs(left + k + 0.5 - q) / across
                        if taken == 1:
                            column_weights[k] = 1 - t
                        elif t < 1:
                            column_weights[k] = (1.5 * t - 2.5) * t * t + 1
                        else:
                            column_weights[k] = ((-0.5 * t + 2.5) * t - 4) * t + 2
                    total, weight, whole = 0.0, 0.0, True
                    for k in range(rows_in):
                        r = top + k - first_row
                        for m in range(columns_in):
                            c = left + m - first_column
                            w = row_weights[k] * column_weights[m]
                            if r < 0 or r >= height or c < 0 or c >= width:
                                whole = False
                                continue
                            value = values[b, r, c]
                            if value != value:
                                whole = False
                                continue
                            total += w * value
                            weight += w
                    if whole or taken == 1:
                        break
                    taken = 1
                out[b, i, j] = total / weight
                r, c = int(np.floor(p)) - first_row, int(np.floor(q)) - first_column
