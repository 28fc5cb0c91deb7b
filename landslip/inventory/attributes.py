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

REACH = 16  # pixels beyond its outline that a landslide may grow by when its largest area is told
MOST_RANKS = 20  # classes of the paper's encoding
CONFIDENCE = 0.9  # of the range of areas
FACTORS = ("slope", "elevation", "distance_to_river", "distance_to_fault")


@dataclass
class Statistics:
    """Sums and extremes of values by landslide 1, 2, ..., fed window by window; undefined values take no part."""

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
        at, values64 = ids[defined] - 1, values[defined].astype(np.float64)
        np.add.at(self.pixels, at, 1)
        np.add.at(self.total, at, values64)
        np.minimum.at(self.lowest, at, values64)
        np.maximum.at(self.highest, at, values64)

    def part(self, part: slice) -> Statistics:
        """Of some of the landslides alone."""
        chosen = Statistics(part.stop - part.start)
        names = ("pixels", "total", "lowest", "highest")
        chosen.pixels, chosen.total, chosen.lowest, chosen.highest = (getattr(self, name)[part] for name in names)
        return chosen

    def _known(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.where(self.pixels > 0, values, np.nan)

    @property
    def mean(self) -> NDArray[np.float64]:
        """(count,), NaN where no value was defined; `least` and `most` likewise."""
        return self._known(self.total / np.maximum(self.pixels, 1))

    @property
    def least(self) -> NDArray[np.float64]:
        return self._known(self.lowest)

    @property
    def most(self) -> NDArray[np.float64]:
        return self._known(self.highest)


class ClassCodes:
    """A factor's classes in a stack: their `names`, the `bands` they are read from (from 1), and where each one is."""

    def __init__(self, channels: Sequence[Channel], factor: str = "lithology") -> None:
        planes = [(i + 1, c) for i, c in enumerate(channels) if c.factor == factor and c.kind == "class"]
        ranks = [i + 1 for i, c in enumerate(channels) if c.name == factor and c.unit == "class"]
        self.ordinal = bool(ranks) and not planes  # the paper's encoding, which does not carry the names
        self.bands = ranks[:1] if self.ordinal else [band for band, _ in planes]
        self.names = [c.name.removeprefix(f"{factor}_").replace("_", " ") for _, c in planes]
        if self.ordinal:
            self.names = [f"class {rank}" for rank in range(1, MOST_RANKS + 1)]

    def masks(self, values: NDArray[np.float32]) -> list[NDArray[np.bool_]]:
        """Where each class is, (n,) bool each, from values (bands, n)."""
        if self.ordinal:
            return [np.asarray(values[0] == rank) for rank in range(1, MOST_RANKS + 1)]
        return [np.asarray(plane == 1) for plane in values]


def area_range(
    ids: NDArray[np.int32],
    probability: NDArray[np.float32],
    core: tuple[slice, slice],
    threshold: float,
    low: NDArray[np.int64],
    high: NDArray[np.int64],
) -> None:
    """Add to `low` and `high`, (count,) pixels, what a window holds of the range of each landslide's area.

    `ids` and `probability` are (h, w) at the window and REACH pixels around it, `core` the window in them. If the
    probabilities hold and the pixels of a landslide stand or fall together (one uniform u says landslide where
    probability >= u), its area lies, with 90 %, between that of u = 0.95 and that of u = 0.05. Pixels outside the
    outline count for the nearest landslide, up to REACH pixels away. The range always holds the mapped area: where the
    threshold itself lies beyond 0.05 or 0.95, that end is the threshold.
    """
    tail = (1 - CONFIDENCE) / 2
    surest, least = max(1 - tail, threshold), min(tail, threshold)
    inner, values = ids[core], probability[core]
    with np.errstate(invalid="ignore"):  # NaN is on neither side
        sure, possible = values >= np.float32(surest), values >= np.float32(least)
    low += np.bincount(inner[sure & (inner > 0)], minlength=len(low) + 1)[1:]
    distances, nearest = ndimage.distance_transform_edt(ids == 0, return_indices=True)
    owner = np.where(distances <= REACH, ids[tuple(nearest)], 0)[core]
    high += np.bincount(owner[possible & (owner > 0)], minlength=len(high) + 1)[1:]


def dominant(shares: NDArray[np.int64], names: Sequence[str]) -> list[str | None]:
    """The class that most pixels of each landslide have; `shares` is (classes, count). None where it has none."""
    if not len(names):
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
