"""Pieces of landslide that hang together by sides or corners, found tile by tile over a raster of any size.

Each tile is labelled by itself; the ids that touch across a border are then joined. The ids lie in a raster on the
disk, so that memory follows the tile, the width of the raster and the number of pieces, not the number of its pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from landslip.errors import RasterError
from landslip.geo.grid import Window, tiles

MOST_IDS = 2**31 - 2  # ids of pieces within tiles, stored in 32 bits


@dataclass(frozen=True)
class Components:
    """The pieces of a raster, numbered 1, 2, ... in the order in which tiles, row by row, meet them first.

    `piece`, (n + 1,) int64, maps an id within its tile to the number of its piece, and 0 to 0. `pixels`, (pieces,)
    int64, counts the pixels of each.
    """

    piece: NDArray[np.int64]
    pixels: NDArray[np.int64]


def label_components(
    landslide: Callable[[Window], NDArray[np.bool_]],
    keep: Callable[[Window, NDArray[np.int32]], None],
    shape: tuple[int, int],
    side: int,
    watch: Callable[[Iterator[Window], int], Iterator[Window]] = lambda windows, _: windows,
) -> Components:
    """Find the 8-connected pieces of a raster of `shape` in tiles of `side` pixels.

    `landslide` gives (h, w) bool at a window; `keep` stores the ids, (h, w) int32, of that window; `watch` may show
    progress. Raises RasterError for more pieces than 32 bits count.
    """
    structure = np.ones((3, 3), bool)
    counts: list[NDArray[np.int64]] = [np.zeros(1, np.int64)]
    pairs: list[NDArray[np.int64]] = []
    highest, row = 0, -1  # id so far; row of the tile before
    above, below = np.zeros(shape[1], np.int32), np.zeros(shape[1], np.int32)
    left = np.zeros(0, np.int32)
    windows = list(tiles(shape, side))
    for window in watch(iter(windows), len(windows)):
        if window.row != row:
            row, above, below = window.row, below, np.zeros(shape[1], np.int32)
            left = np.zeros(window.height, np.int32)
        ids, count = ndimage.label(landslide(window), structure=structure, output=np.int32)
        if highest + count > MOST_IDS:
            raise RasterError(f"more than {MOST_IDS:,} pieces of landslide: raise the threshold.")
        counts.append(np.bincount(ids[ids > 0], minlength=count + 1)[1:].astype(np.int64))
        ids[ids > 0] += highest
        highest += count
        across = slice(max(window.column - 1, 0), window.column + window.width + 1)
        pairs += _touching(ids[0], above[across], window.column - across.start)
        pairs += _touching(ids[:, 0], left, 0)
        below[window.column : window.column + window.width] = ids[-1]
        left = ids[:, -1].copy()
        keep(window, ids)
    return _joined(highest, np.concatenate(counts), pairs)


def _touching(line: NDArray[np.int32], other: NDArray[np.int32], shift: int) -> list[NDArray[np.int64]]:
    """Pairs (2, n) of ids on two lines of pixels that meet by side or corner; line[i] lies beside other[i + shift]."""
    pairs = []
    for step in (-1, 0, 1):
        first = max(0, -(shift + step))
        last = min(len(line), len(other) - shift - step)
        if last <= first:
            continue
        a, b = line[first:last], other[first + shift + step : last + shift + step]
        both = (a > 0) & (b > 0)
        if both.any():
            pairs.append(np.unique(np.stack([a[both], b[both]]).astype(np.int64), axis=1))
    return pairs


def _joined(highest: int, counts: NDArray[np.int64], pairs: list[NDArray[np.int64]]) -> Components:
    """The pieces that ids 1 to `highest`, of so many pixels each, make where pairs of them touch."""
    a, b = np.concatenate(pairs, axis=1) if pairs else np.zeros((2, 0), np.int64)
    graph = coo_array((np.ones(len(a), bool), (a, b)), shape=(highest + 1, highest + 1))
    number, group = connected_components(graph, directed=False)
    # scipy numbers groups in an order of its own, which another version may change: they are numbered anew by the
    # first id in each, which leaves 0, ground without landslide, alone at 0.
    first = np.full(number, highest + 1, np.int64)
    np.minimum.at(first, group, np.arange(highest + 1))
    rank = np.empty(number, np.int64)
    rank[np.argsort(first)] = np.arange(number)
    piece = rank[group]
    return Components(piece, np.bincount(piece, counts, number)[1:].astype(np.int64))
