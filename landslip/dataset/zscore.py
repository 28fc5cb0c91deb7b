"""The z-score: fitted on training ground only, kept with the model, applied in one place."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rasterio.io import DatasetReader

from landslip.dataset.channels import Channel
from landslip.errors import LabelError
from landslip.geo.grid import Window, tiles
from landslip.geo.mapped_array import bounding_window, union_of_windows
from landslip.geo.raster import read_window
from landslip.runtime.progress import say

STATISTICS_TILE = 1024  # side of the pieces that statistics are summed over, pixels


@dataclass(frozen=True)
class ZScore:
    """Mean and standard deviation of each channel, (C,) float64; 0 and 1 for channels that are not z-scored."""

    mean: NDArray[np.float64]
    std: NDArray[np.float64]

    def apply(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """(x - mean) / std of (C, H, W) float32; undefined pixels enter the network as 0."""
        scaled = (values - self.mean[:, None, None].astype(np.float32)) / self.std[:, None, None].astype(np.float32)
        return np.asarray(np.nan_to_num(scaled, copy=False, nan=0.0, posinf=0.0, neginf=0.0))


def fit(
    dataset: DatasetReader,
    positions: Sequence[int],
    channels: Sequence[Channel],
    windows: Iterable[Window],
    valid: NDArray[np.bool_],
) -> ZScore:
    """Fit the z-score of an open stack's chosen channels: each valid pixel in the union of the windows, once.

    `positions` and `channels` are those of the chosen channels in the stack; `valid` is (H, W). Means and variances of
    pieces are merged in float64 (Chan et al. 1979), so that large rasters lose no digits. Raises LabelError where no
    pixel of the windows is valid.
    """
    union, any_valid = union_of_windows(windows, valid.shape), False
    bands = [position + 1 for position in positions]
    count = np.zeros(len(bands))
    mean = np.zeros(len(bands))
    square = np.zeros(len(bands))
    for window in tiles(valid.shape, STATISTICS_TILE):
        mask = union[window.slices] & valid[window.slices]
        if not mask.any():
            continue
        any_valid = True
        box = bounding_window(mask)  # no more is read, since most tiles of a large raster hold one window or few
        inside = mask[box.slices]
        for i, values in enumerate(read_window(dataset, box.moved(window.row, window.column), bands)):
            pixels = values[inside].astype(np.float64)
            pixels = pixels[~np.isnan(pixels)]
            if pixels.size == 0:
                continue
            piece_mean = pixels.mean()
            total = count[i] + pixels.size
            within, between = ((pixels - piece_mean) ** 2).sum(), (piece_mean - mean[i]) ** 2 * count[i] * pixels.size
            square[i] += within + between / total
            mean[i] += (piece_mean - mean[i]) * pixels.size / total
            count[i] = total
    if not any_valid:
        raise LabelError("no valid pixel in the training windows, so no statistics. Check valid.tif and the split.")
    std = np.sqrt(square / np.maximum(count, 1))
    for i, channel in enumerate(channels):
        if not channel.standardised:
            mean[i], std[i] = 0.0, 1.0
        elif not std[i] > 1e-12 * max(abs(mean[i]), 1.0):
            say(f"warning: channel {channel.name} is {mean[i]:g} all over the training ground and says nothing.")
            std[i] = 1.0
    return ZScore(mean, std)
