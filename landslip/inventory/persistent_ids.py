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

    Pairs are matched from the largest shared area down, each outline and each id once. Where a landslide has split, its
    larger part keeps the id; where two have merged, the whole keeps the id of the one that makes up more of it. All
    others get new ids, in order, above every earlier id and above `taken`.
    """
    ids, without = np.zeros(len(outlines), np.int64), np.ones(len(outlines), bool)
    old_ids = np.asarray(earlier_ids, np.int64)
    if len(outlines) and len(earlier):
        new, old = shapely.STRtree(earlier).query(outlines, predicate="intersects")
        shared = shapely.area(shapely.intersection(outlines[new], shapely.make_valid(earlier[old])))
        used: set[int] = set()
        for pair in np.lexsort((old_ids[old], -shared)):  # the largest first; of equals, the lower id
            outline, old_id = new[pair], int(old_ids[old[pair]])
            if shared[pair] > 0 and without[outline] and old_id not in used:
                ids[outline], without[outline] = old_id, False
                used.add(old_id)
    free = max(int(old_ids.max(initial=0)), taken) + 1
    ids[without] = np.arange(free, free + np.count_nonzero(without))
    return ids
