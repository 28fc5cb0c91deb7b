"""What channels are computed from: the type that all sources share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from landslip.dataset.channels import Channel
from landslip.geo.grid import Grid, Window, tiles
from landslip.geo.warp import how_resampled

Encoding = Literal["planes", "paper"]
Values = Callable[[Window], NDArray[np.float32]]
FILL_WINDOW = 1024  # side of the windows that a stack is filled by, pixels
FILL_COLUMNS = 256  # of the windows of whole columns that distances are filled by


@dataclass(frozen=True)
class ChannelSource:
    """Channels that are computed together.

    `begin` does what has to be done once, with its files in the folder that it is called with, and returns a function
    that gives the channels' values at a window of the grid: (C, h, w) float32, NaN where undefined. `columns` is True
    where that function needs windows of whole columns. `resampling` says, by file name, how each input is brought to
    the grid.
    """

    name: str
    channels: tuple[Channel, ...]
    begin: Callable[[Path], Values]
    resampling: dict[str, str]
    columns: bool = False

    def windows(self, shape: tuple[int, int]) -> list[Window]:
        """Windows that tile a grid of `shape` (rows, columns), of the form that these channels are computed in."""
        if self.columns:
            return [Window(0, left, shape[0], FILL_COLUMNS).clip(shape) for left in range(0, shape[1], FILL_COLUMNS)]
        return list(tiles(shape, FILL_WINDOW))


def resampling_of(paths: Sequence[Path], grid: Grid, method: str) -> dict[str, str]:
    """How rasters are brought to the grid, by the name of the file."""
    return {path.name: how_resampled(path, grid, method) for path in paths}
