"""What an inventory says of each landslide: its probabilities, the range of its area, and the ground it lies on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy import ndimage

from landslip.dataset.channels import Channel

GROWTH_REACH = 16  # pixels beyond its outline that a landslide may grow by in the range of its area
MOST_RANKS = 20  # most classes of rock in the paper's encoding, one channel of ranks
CONFIDENCE = 0.9  # of the range of areas
# factors of the stack that an inventory has columns of
ATTRIBUTE_FACTORS = ("slope", "elevation", "distance_to_river", "distance_to_fault")


@dataclass
class Statistics:
    """Sums and extremes of values for each of `count` landslides, fed window by window; undefined values do not count.

    Arrays are (count,). Landslides are counted from 1.
    """

    count: int
    pixels: NDArray[np.int64] = field(init=False)
    total: NDArray[np.float64] = field(init=False)
    lowest: NDArray[np.float64] = field(init=False)
    highest: NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        self.pixels, self.total = np.zeros(self.count, np.int64), np.zeros(self.count)
        self.lowest, self.highest = np.full(self.count, np.inf), np.full(self.count, -np.inf)

    def add(self, ids: NDArray[np.int32], values: NDArray[np.float32]) -> None:
        """Take in values (n,) of pixels of landslides `ids` (n,), counted from 1."""
        defined = ~np.isnan(values)
        places, values64 = ids[defined] - 1, values[defined].astype(np.float64)
        np.add.at(self.pixels, places, 1)
        np.add.at(self.total, places, values64)
        np.minimum.at(self.lowest, places, values64)
        np.maximum.at(self.highest, places, values64)

    def part(self, part: slice) -> Statistics:
        """The statistics of some of the landslides alone, by their places from 0."""
        statistics = Statistics(part.stop - part.start)
        statistics.pixels, statistics.total = self.pixels[part], self.total[part]
        statistics.lowest, statistics.highest = self.lowest[part], self.highest[part]
        return statistics

    @property
    def mean(self) -> NDArray[np.float64]:
        """The mean of each landslide's values, NaN where none was defined."""
        return self._where_defined(self.total / np.maximum(self.pixels, 1))

    @property
    def least(self) -> NDArray[np.float64]:
        """The smallest of each landslide's values, NaN where none was defined."""
        return self._where_defined(self.lowest)

    @property
    def most(self) -> NDArray[np.float64]:
        """The largest of each landslide's values, NaN where none was defined."""
        return self._where_defined(self.highest)

    def _where_defined(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.where(self.pixels > 0, values, np.nan)


class ClassCodes:
    """The classes of a factor in a stack: their `names`, and the `bands` that they are read from, counted from 1."""

    def __init__(self, channels: Sequence[Channel], factor: str = "lithology") -> None:
        planes = [(i + 1, c) for i, c in enumerate(channels) if c.factor == factor and c.kind == "class"]
        ranks = [i + 1 for i, c in enumerate(channels) if c.name == factor and c.unit == "class"]
        self.ordinal = bool(ranks) and not planes  # The paper's encoding, which has ranks and no names.
        self.bands = ranks[:1] if self.ordinal else [band for band, _ in planes]
        self.names = [c.name.removeprefix(f"{factor}_").replace("_", " ") for _, c in planes]
        if self.ordinal:
            self.names = [f"class {rank}" for rank in range(1, MOST_RANKS + 1)]

    def masks(self, values: NDArray[np.float32]) -> list[NDArray[np.bool_]]:
        """Which of n pixels are of each class, (n,) bool, from their values (bands, n)."""
        if self.ordinal:
            return [np.asarray(values[0] == rank) for rank in range(1, MOST_RANKS + 1)]
        return [np.asarray(plane == 1) for plane in values]


def area_range(
    ids: NDArray[np.int32],
    probability: NDArray[np.float32],
    core: tuple[slice, slice],
    threshold: float,
    *,
    low: NDArray[np.int64],
    high: NDArray[np.int64],
) -> None:
    """Add what a window holds of the range of each landslide's area to `low` and `high`, (count,) pixels.

    `ids` and `probability` are (h, w) at the window and REACH pixels around it; `core` is the window in them.

    The range is that of a 90 % interval, under two assumptions: that the probabilities are right, and that the pixels
    of a landslide stand or fall together. One uniform random number u then says landslide wherever probability >= u,
    and the area lies between those at u = 0.95 and at u = 0.05. Pixels outside the outline count for the nearest
    landslide, up to REACH pixels away. The range always holds the mapped area: where the threshold itself lies beyond
    0.05 or 0.95, that end is the threshold.
    """
    tail = (1 - CONFIDENCE) / 2
    upper, lower = max(1 - tail, threshold), min(tail, threshold)
    inner, values = ids[core], probability[core]
    with np.errstate(invalid="ignore"):  # NaN compares as False on both sides, as it should.
        sure, possible = values >= np.float32(upper), values >= np.float32(lower)
    low += np.bincount(inner[sure & (inner > 0)], minlength=len(low) + 1)[1:]
    distances, nearest = ndimage.distance_transform_edt(ids == 0, return_indices=True)
    owner = np.where(distances <= GROWTH_REACH, ids[tuple(nearest)], 0)[core]
    high += np.bincount(owner[possible & (owner > 0)], minlength=len(high) + 1)[1:]


def dominant(shares: NDArray[np.int64], names: Sequence[str]) -> list[str | None]:
    """The class that most pixels of each landslide have, None where none has any.

    `shares` is (classes, count): the pixels of each class in each landslide.
    """
    if not names:
        return [None] * shares.shape[1]
    best = shares.argmax(axis=0)
    return [names[i] if shares[i, j] > 0 else None for j, i in enumerate(best)]


def sides(outlines: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Length and width of each outline: the sides of the smallest rectangle around it, in units of its CRS."""
    corners = [shapely.get_coordinates(box)[:3] for box in shapely.minimum_rotated_rectangle(outlines)]
    if not corners:
        return np.zeros(0), np.zeros(0)
    lengths = np.linalg.norm(np.diff(np.array(corners), axis=1), axis=2)
    return lengths.max(axis=1), lengths.min(axis=1)
