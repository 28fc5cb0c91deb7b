"""Mapped landslides matched to those of a reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

OVERLAP = 0.5  # share of a landslide's area that counts as found


@dataclass(frozen=True)
class Match:
    """What (N,) landslides of a reference and (M,) mapped ones have in common.

    `covered` (N,) is the share of each reference landslide that is mapped, `real` (M,) the share of each mapped one
    that is landslide. `pieces` (N,) counts the mapped landslides that lie on a reference one by the overlap, `joined`
    (M,) the reference landslides that a mapped one covers by it.
    """

    covered: NDArray[np.float64]
    real: NDArray[np.float64]
    pieces: NDArray[np.int64]
    joined: NDArray[np.int64]


def match(reference: NDArray[Any], mapped: NDArray[Any], overlap: float = OVERLAP) -> Match:
    """Match valid polygons (N,) and (M,) of one CRS by the area they share. Overlapping polygons count once."""
    i, j = shapely.STRtree(mapped).query(reference, predicate="intersects")  # These are the pairs that touch.
    shared = shapely.intersection(reference[i], mapped[j])
    area = shapely.area(shared)
    i, j, shared, area = i[area > 0], j[area > 0], shared[area > 0], area[area > 0]
    least = overlap * (1 - 1e-9)
    lies, covers = area >= least * shapely.area(mapped)[j], area >= least * shapely.area(reference)[i]
    return Match(
        covered=_joint_area(shared, i, len(reference)) / shapely.area(reference),
        real=_joint_area(shared, j, len(mapped)) / shapely.area(mapped),
        pieces=np.bincount(i[lies], minlength=len(reference)),
        joined=np.bincount(j[covers], minlength=len(mapped)),
    )


def _joint_area(shared: NDArray[Any], owner: NDArray[np.intp], count: int) -> NDArray[np.float64]:
    """(count,) area of the union of the pieces (N,) that belong to each owner, whose number is in (N,) `owner`."""
    areas = np.zeros(count)
    if not len(owner):
        return areas
    order = np.argsort(owner, kind="stable")
    owners, first = np.unique(owner[order], return_index=True)
    for number, pieces in zip(owners, np.split(shared[order], first[1:]), strict=True):
        areas[number] = shapely.area(pieces[0] if len(pieces) == 1 else shapely.union_all(pieces))
    return areas
