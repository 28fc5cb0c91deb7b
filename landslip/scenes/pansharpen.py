"""Pan-sharpening of Landsat bands with band 8, on band 8's own pixels.

Band 8 has pixels half as large, and its pixel centres lie on those of the other bands and half-way between them, so
that n rows have 2 n - 1 of band 8: position 2 k is that of the coarse pixel k.

What band 8 shows beyond itself at the coarse pixels' size is added to a band, times the band's gain on band 8 around
the pixel: context-based injection (Aiazzi et al. 2002, IEEE TGRS 40(10), 2300-2312), a regression over 5 x 5 coarse
pixels, drawn towards the ratio of the means (the high-pass modulation of Vivone et al. 2015, IEEE TGRS 53(5),
2565-2586) where band 8 hardly varies. Averaged over a coarse pixel it gives back the band, near enough, whatever light
band 8 shares with it. All of it is sums over a fixed neighbourhood, in one order, without statistics of the scene: a
pixel's value does not depend on the window that it is computed in.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

SHARPENED = ("green", "red")  # within band 8's 0.50 to 0.68 um; the others share hardly any light with it
GAIN_REACH = 2  # coarse pixels around one that its gain is taken from
FINE_REACH = 2 * GAIN_REACH + 1  # the same, and what the outermost sees, in fine pixels
NOISE = 0.005  # reflectance: where band 8 varies less than this, a regression on it says little
WEIGHTS = (1.0, 2.0, 1.0)  # of three fine pixels in a coarse one: half, whole, half


def upsample(coarse: NDArray[np.floating]) -> Float32:
    """Bilinear: (h, w) at positions 0, 2, 4, ... to (2 h - 1, 2 w - 1) at every position; NaN where a neighbour is."""
    values = coarse.astype(np.float32)
    out = np.empty((2 * values.shape[0] - 1, 2 * values.shape[1] - 1), np.float32)
    out[::2, ::2] = values
    out[1::2, ::2] = (values[1:] + values[:-1]) / 2
    out[:, 1::2] = (out[:, 2::2] + out[:, :-2:2]) / 2
    return out


def sharpen(band: NDArray[np.floating], pan: NDArray[np.floating]) -> Float32:
    """A band on band 8's pixels: (2 m - 1, 2 n - 1) float32 reflectance.

    band: (m + 2 REACH, n + 2 REACH) reflectance, so with REACH pixels around what is wanted. pan: band 8 with
    FINE_REACH pixels around, (2 m - 1 + 2 FINE_REACH, 2 n - 1 + 2 FINE_REACH). Undefined is NaN, and stays so.
    """
    smooth = degrade(pan)
    inner = slice(GAIN_REACH, -GAIN_REACH)
    fine = pan[FINE_REACH:-FINE_REACH, FINE_REACH:-FINE_REACH].astype(np.float32)
    beyond = fine - upsample(smooth[inner, inner])
    return np.asarray(upsample(band[inner, inner]) + upsample(gain(band.astype(np.float64), smooth)) * beyond)


def degrade(fine: NDArray[np.floating]) -> Float64:
    """What coarse pixels see of (2 m + 1, 2 n + 1) fine ones, which reach one further on each side: (m, n).

    The mean over a coarse pixel's area of those fine pixels in it that are defined; NaN where the central one is not.
    """
    values = fine.astype(np.float64)
    defined = ~np.isnan(values)
    total = _over_coarse(np.where(defined, values, 0.0))
    share = _over_coarse(defined.astype(np.float64))
    centre = defined[1::2, 1::2]
    out = np.full(centre.shape, np.nan)
    np.divide(total, share, out=out, where=centre)
    return out


def _over_coarse(values: Float64) -> Float64:
    a, b, c = WEIGHTS
    rows = a * values[:-2:2] + b * values[1:-1:2] + c * values[2::2]
    return np.asarray(a * rows[:, :-2:2] + b * rows[:, 1:-1:2] + c * rows[:, 2::2])


def gain(band: Float64, smooth: Float64) -> Float64:
    """How much a band rises with band 8 around each pixel: two (m + 2 REACH, n + 2 REACH) to (m, n), not below 0.

    Least squares over the pixels of the neighbourhood that are defined in both, with NOISE's square added on the side
    of the ratio of their means; 0 where none is.
    """
    defined = ~(np.isnan(band) | np.isnan(smooth))
    y, x = (np.where(defined, values, 0.0) for values in (band, smooth))
    count = np.maximum(_around(defined.astype(np.float64)), 1)
    mean_y, mean_x = _around(y) / count, _around(x) / count
    covariance = _around(x * y) / count - mean_x * mean_y
    variance = np.maximum(_around(x * x) / count - mean_x**2, 0)
    ratio = np.zeros(mean_x.shape)
    np.divide(mean_y, mean_x, out=ratio, where=mean_x > 0)
    return np.maximum((covariance + NOISE**2 * ratio) / (variance + NOISE**2), 0)


def _around(values: Float64) -> Float64:
    """Sums over 2 REACH + 1 squared pixels, each by the same additions in the same order."""
    size = 2 * GAIN_REACH + 1
    height, width = values.shape[0] - 2 * GAIN_REACH, values.shape[1] - 2 * GAIN_REACH
    rows = np.zeros((height, values.shape[1]))
    for i in range(size):
        rows += values[i : i + height]
    out = np.zeros((height, width))
    for i in range(size):
        out += rows[:, i : i + width]
    return out
