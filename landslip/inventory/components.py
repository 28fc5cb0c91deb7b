"""Pieces of landslide that hang together by sides or corners, found tile by tile over a raster of any size.

Each tile is labelled by itself; the ids that touch across a border are then joined. Memory follows the tile, the width
of the raster and the number of pieces, not its pixels: the ids lie in a raster on the disk.
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

MOST = 2**31 - 2  # ids of pieces within tiles, stored in 32 bits


@dataclass(frozen=True)
class Components:
    """What was found: `piece` (n + 1,) int64 maps an id within its tile to its piece, 1, 2, ..., and 0 to 0.

    `pixels` (pieces,) int64 counts the pixels of pieces 1, 2, ... Pieces are numbered in the order in which tiles, row
    by row, meet them first.
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
    joined: list[NDArray[np.int64]] = []
    found, row = 0, -1
    above, below = np.zeros(shape[1], np.int32), np.zeros(shape[1], np.int32)
    left = np.zeros(0, np.int32)
    windows = list(tiles(shape, side))
    for window in watch(iter(windows), len(windows)):
        if window.row != row:
            row, above, below = window.row, below, np.zeros(shape[1], np.int32)
            left = np.zeros(window.height, np.int32)
        ids, here = ndimage.label(landslide(window), structure=structure, output=np.int32)
        if found + here > MOST:
            raise RasterError(f"more than {MOST:,} pieces of landslide: raise the threshold.")
        ids[ids > 0] += found
        found += here
        counts.append(np.bincount(ids[ids > 0] - (found - here), minlength=here + 1)[1:].astype(np.int64))
        across = slice(max(window.column - 1, 0), window.column + window.width + 1)
        joined += _touching(ids[0], above[across], window.column - across.start)
        joined += _touching(ids[:, 0], left, 0)
        below[window.column : window.column + window.width] = ids[-1]
        left = ids[:, -1].copy()
        keep(window, ids)
    return _joined(found, np.concatenate(counts), joined)


def _touching(own: NDArray[np.int32], other: NDArray[np.int32], shift: int) -> list[NDArray[np.int64]]:
    """Pairs (2, n) of ids on two lines of pixels that meet by side or corner; own[i] lies beside other[i + shift]."""
    pairs = []
    for step in (-1, 0, 1):
        first = max(0, -(shift + step))
        last = min(len(own), len(other) - shift - step)
        if last <= first:
            continue
        a, b = own[first:last], other[first + shift + step : last + shift + step]
        both = (a > 0) & (b > 0)
        if both.any():
            pairs.append(np.unique(np.stack([a[both], b[both]]).astype(np.int64), axis=1))
    return pairs


def _joined(found: int, counts: NDArray[np.int64], pairs: list[NDArray[np.int64]]) -> Components:
    a, b = np.concatenate(pairs, axis=1) if pairs else np.zeros((2, 0), np.int64)
    graph = coo_array((np.ones(len(a), bool), (a, b)), shape=(found + 1, found + 1))
    number, group = connected_components(graph, directed=False)
    # scipy numbers groups in its own order: number them by the first id that they hold, which leaves 0 alone at 0
    first = np.full(number, found + 1, np.int64)
    np.minimum.at(first, group, np.arange(found + 1))
    rank = np.empty(number, np.int64)
    rank[np.argsort(first)] = np.arange(number)
    piece = rank[group]
    return Components(piece, np.bincount(piece, counts, number)[1:].astype(np.int64))
