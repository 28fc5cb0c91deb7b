"""The classes of a factor: its own, eight directions, or natural breaks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from landslip.dataset.channels import StackInfo
from landslip.geo.grid import tiles
from landslip.importance.sampling import SAMPLING_SIDE, Sample, open_prepared, positions_of
from landslip.plots.class_maps import direction_of, eighth

DIRECTION_NAMES = ("north", "northeast", "east", "southeast", "south", "southwest", "west", "northwest")
Cut = Literal["natural breaks", "directions", "classes"]


@dataclass(frozen=True, kw_only=True)
class FactorClasses:
    """A factor's classes: `names` of them, cut from the channels at `positions` of the stack.

    `upper` holds the upper bounds of natural breaks, which belong to their class; the last class is open upwards.
    `note` says what a reader must know, "" if nothing.
    """

    factor: str
    cut: Cut
    unit: str
    positions: tuple[int, ...]
    names: tuple[str, ...]
    upper: tuple[float, ...] = ()
    note: str = ""

    def codes(self, values: NDArray[np.float32]) -> NDArray[np.intp]:
        """The class of each pixel, from 0; -1 where it is undefined.

        `values` (C, ...) are those of the factor's channels; the codes have the shape (...).
        """
        if self.cut == "directions":
            return _directions(values)
        if self.cut == "classes" and len(values) > 1:  # There is a plane for each class.
            largest = np.argmax(np.nan_to_num(values, nan=-1.0), axis=0)
            return np.where(np.nanmax(np.nan_to_num(values, nan=0.0), axis=0) > 0.5, largest, -1)
        if self.cut == "classes" and not self.upper:  # There is one plane, and so a single class.
            return np.where(values[0] > 0.5, 0, -1)
        codes = np.searchsorted(np.asarray(self.upper), values[0].astype(np.float64), side="left")
        return np.where(np.isnan(values[0]), -1, np.minimum(codes, len(self.upper) - 1))


def natural_breaks(values: NDArray[Any], classes: int) -> tuple[float, ...]:
    """Upper bounds of the natural-breaks classes of (N,) values: the least sum of squares within classes.

    Exact: Fisher (1958), by mapclassify. It sums squares in single precision, and those of elevations or coordinates
    would lose the breaks (sums of squares 2 to 19 % above the least), so the values are centred and scaled for it.
    Where there are no more distinct values than `classes`, each is a class of its own.
    """
    ordered = np.sort(np.asarray(values, np.float64))
    distinct = np.unique(ordered)
    if distinct.size <= classes:
        return tuple(distinct.tolist())
    from mapclassify import FisherJenks  # Importing it takes some seconds.

    scaled = (ordered - ordered.mean()) / ordered.std()
    at = np.searchsorted(scaled, FisherJenks(scaled, k=classes).bins)
    return tuple(dict.fromkeys(ordered[at].tolist()))


def make_classes(stack: StackInfo, factor: str, drawn: Sample, classes: int) -> FactorClasses:
    """The classes of a factor of a stack; where it is continuous, natural breaks of the sample `drawn`."""
    positions = positions_of(stack, factor)
    channels = [stack.channels[i] for i in positions]
    unit = channels[0].unit
    of_factor = partial(FactorClasses, factor=factor, unit=unit, positions=positions)
    if factor == "aspect" and ({channel.kind for channel in channels} == {"sine", "cosine"} or unit == "degree"):
        by_kind = sorted(positions, key=lambda i: stack.channels[i].kind != "sine")
        return of_factor(cut="directions", positions=tuple(by_kind), names=("flat", *DIRECTION_NAMES))
    if channels[0].kind == "class":
        names = tuple(channel.name.removeprefix(f"{factor}_") for channel in channels)
        return of_factor(cut="classes", names=names)
    values = drawn.values[:, positions[0]]
    values = values[~np.isnan(values)]
    if not values.size:
        return of_factor(cut="natural breaks", names=("all",), upper=(math.inf,), note="undefined all over the site")
    if unit == "class":  # The paper encodes classes as one channel of ordinals.
        codes = _codes_in(stack, positions[0])  # A sample may miss a rare class.
        return of_factor(cut="classes", names=tuple(f"{code:g}" for code in codes), upper=tuple(codes))
    upper = natural_breaks(values, classes)
    note = ""
    if len(upper) == 1:
        note = f"{upper[0]:g} all over the sample: one class, which says nothing"
    elif len(upper) < classes:
        note = f"{len(upper)} different values in the sample, each a class"
    numbers = tuple(map(str, range(1, len(upper) + 1)))
    return of_factor(cut="natural breaks", names=numbers, upper=upper, note=note)


def _codes_in(stack: StackInfo, position: int) -> list[float]:
    """The values that a channel of classes holds on valid ground of known label, in order."""
    codes: set[float] = set()
    with open_prepared(stack) as rasters:
        for window in tiles(stack.grid.shape, SAMPLING_SIDE):
            known, _ = rasters.known(window)
            values = rasters.values(window, [position])[0][known]
            codes |= set(np.unique(values[~np.isnan(values)]).tolist())
    return sorted(codes)


def _directions(values: NDArray[np.float32]) -> NDArray[np.intp]:
    """0 flat, 1 north, clockwise to 8 northwest, of aspect's sine and cosine, or of degrees, NaN on flat ground."""
    # A plane in degrees holds nothing on flat ground; pixels that are undefined for another reason are not valid.
    codes = direction_of(values) if len(values) == 2 else np.nan_to_num(eighth(values[0]), nan=0.0)
    return np.nan_to_num(codes, nan=-1.0).astype(np.intp)
