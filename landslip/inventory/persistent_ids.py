"""Ids of landslides that stay from one inventory to the next where the outlines overlap."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray


def keep_ids(
    outlines: NDArray[Any], earlier: NDArray[Any], earlier_ids: Sequence[int], taken: int = 0
) -> NDArray[np.int64]:
    """An id for each of (n,) `outlines`, given the (m,) outlines and ids of an earlier inventory in the same CRS.

    Pairs are matched from the largest shared area down, each outline and each id once: of a landslide that has split,
    the larger part keeps the id; of two that have merged, the one that makes up more of the whole. All others get new
    ids, in order, above every earlier id and above `taken`.
    """
    ids, new_ones = np.zeros(len(outlines), np.int64), np.ones(len(outlines), bool)
    known = np.asarray(earlier_ids, np.int64)
    if len(outlines) and len(earlier):
        new, old = shapely.STRtree(earlier).query(outlines, predicate="intersects")
        shared = shapely.area(shapely.intersection(outlines[new], shapely.make_valid(earlier[old])))
        used: set[int] = set()
        for pair in np.lexsort((known[old], -shared)):  # largest first; of equals, the lower id
            if shared[pair] > 0 and new_ones[new[pair]] and int(known[old[pair]]) not in used:
                ids[new[pair]], new_ones[new[pair]] = known[old[pair]], False
                used.add(int(known[old[pair]]))
    free = max(int(known.max(initial=0)), taken) + 1
    ids[new_ones] = np.arange(free, free + np.count_nonzero(new_ones))
    return ids
