"""Mapped landslides matched to those of a reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

OVERLAP = 0.5


@dataclass(frozen=True)
class Match:
    """What (N,) reference and (M,) mapped landslides share.

    `covered` (N,) is the share of each reference landslide that is mapped, `real` (M,) that of each mapped one that is
    landslide. `pieces` (N,) counts the mapped landslides that lie on a reference one by the overlap, `joined` (M,) the
    reference landslides that a mapped one covers by it.
    """

    covered: NDArray[np.float64]
    real: NDArray[np.float64]
    pieces: NDArray[np.int64]
    joined: NDArray[np.int64]


def match(reference: NDArray[Any], mapped: NDArray[Any], overlap: float = OVERLAP) -> Match:
    """Match valid polygons (N,) and (M,) of one CRS by the area they share. Overlapping polygons count once."""
    at, on = shapely.STRtree(mapped).query(reference, predicate="intersects")
    shared = shapely.intersection(reference[at], mapped[on])
    area = shapely.area(shared)
    at, on, shared, area = at[area > 0], on[area > 0], shared[area > 0], area[area > 0]
    least = overlap * (1 - 1e-9)
    lies, covers = area >= least * shapely.area(mapped)[on], area >= least * shapely.area(reference)[at]
    return Match(
        _joint_area(shared, at, len(reference)) / shapely.area(reference),
        _joint_area(shared, on, len(mapped)) / shapely.area(mapped),
        np.bincount(at[lies], minlength=len(reference)),
        np.bincount(on[covers], minlength=len(mapped)),
    )


def _joint_area(shared: NDArray[Any], owner: NDArray[np.intp], count: int) -> NDArray[np.float64]:
    """Area of the union of the pieces of each owner."""
    out = np.zeros(count)
    if not len(owner):
        return out
    order = np.argsort(owner, kind="stable")
    owners, first = np.unique(owner[order], return_index=True)
    for who, pieces in zip(owners, np.split(shared[order], first[1:]), strict=True):
        out[who] = shapely.area(pieces[0] if len(pieces) == 1 else shapely.union_all(pieces))
    return out
