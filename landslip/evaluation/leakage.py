"""Leakage audit: how far the scored pixels lie from the training ground, and how many lie on it.

Distances are exact, centre to centre, and no array of the whole raster is held. The training pixel nearest to one
outside lies on the edge of the training ground, so a tree of the edge's pixels answers every question; and a cell of
16 x 16 pixels whose distances cannot decide the minimum, the median or the share near by is asked at its centre only.
Where most pixels of a window must be asked, a distance transform of it answers them at once: its bounds say how far
around it the nearest edge can lie. Memory follows the length of that edge (8 bytes a pixel of it for the tree's order,
which has the pixels themselves in a mapped file where they are many) and the number of cells (1/256 of the pixels).

A training window lies wholly on training ground, which may reach beyond the windows: to be on it is to be where the
network may have trained.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from scipy.spatial import cKDTree

from landslip.dataset.split import TRAIN
from landslip.geo.geotiff import STORED_TILE
from landslip.geo.grid import Grid, Window, tiles
from landslip.geo.mapped_array import mapped_zeros, strips
from landslip.geo.raster import open_raster, read_stored_window
from landslip.metrics.bootstrap import add_block_sums, empty_sums

CELL = 16  # pixels a side of a cell, whose distances are decided on together
FEW = 2**16  # values that are put in order at once
LEAF = 64  # pixels of the edge in a leaf of the tree
ROUNDING = 1e-6  # share that a bound is widened by, more than float32 loses of it
TRANSFORMED = 8  # pixels that a distance transform takes in the time that the tree takes for one
LARGEST = (4 * STORED_TILE) ** 2  # pixels of a distance transform at most, which holds some 20 bytes of each

# From (rows, columns) bool cells: windows of the raster that hold one of them, each with its (h, w) scored pixels off
# training ground.
Scored = Callable[[NDArray[np.bool_]], Iterable[tuple[Window, NDArray[np.bool_]]]]


@dataclass(frozen=True, kw_only=True)
class Audit:
    """Distance of the scored pixels to the nearest training pixel, metres (0 on training ground).

    All are NaN where nothing was scored or no training ground is known. Shares are of the pixels scored: `share_inside`
    lies on training ground, `share_near` nearer to it than one window of `window` pixels, `reach_m` metres.
    """

    minimum_m: float
    median_m: float
    share_inside: float
    share_near: float
    window: int
    reach_m: float


def empty_cells(grid: Grid) -> NDArray[np.signedinteger]:
    """Cells (rows, columns) in which no scored pixel is counted yet."""
    return empty_sums(grid.shape, CELL)


def count_cells(cells: NDArray[np.signedinteger], mask: NDArray[np.bool_], window: Window) -> None:
    """Count the scored pixels off training ground of one window by cell."""
    add_block_sums(cells, mask, window.row, window.column, CELL)


def windows_of(cells: NDArray[np.bool_], grid: Grid, side: int) -> Iterator[Window]:
    """Windows of `side` pixels over the grid that hold one of the cells."""
    for window in tiles(grid.shape, side):
        rows = slice(window.row // CELL, (window.row + window.height - 1) // CELL + 1)
        columns = slice(window.column // CELL, (window.column + window.width - 1) // CELL + 1)
        if cells[rows, columns].any():
            yield window


def audit(split: Path, grid: Grid, inside: int, cells: NDArray[np.signedinteger], scored: Scored, window: int) -> Audit:
    """Measure how far the scored pixels lie from training ground.

    `split` is split.tif, whose part 1 is training ground. `inside` is how many scored pixels lie on it, `cells` counts
    the others by cell, and `scored` reads them again where cells do not decide. `window` is the side of a training
    window in pixels.
    """
    reach = window * min(grid.x_size, grid.y_size)  # in pixels, as the guard of a split counts
    total = inside + int(cells.sum())
    distance = _Distance(training_edge(split), grid)
    if not total or not (inside or distance.tree.n):
        return Audit(
            minimum_m=math.nan,
            median_m=math.nan,
            share_inside=math.nan,
            share_near=math.nan,
            window=window,
            reach_m=reach,
        )
    if inside == total:
        return Audit(minimum_m=0.0, median_m=0.0, share_inside=1.0, share_near=1.0, window=window, reach_m=reach)

    low, high = distance.of_cells(cells)
    # The median is the mean of the two middle ranks; those below `inside` are the zeros on training ground.
    ranks = [rank - inside for rank in ((total - 1) // 2, total // 2)]
    beyond = [rank for rank in ranks if rank >= 0]
    first, last = (_at_rank(low, cells, beyond[0]), _at_rank(high, cells, beyond[-1])) if beyond else (math.inf, -1.0)
    undecided = (high >= first) & (low <= last) | (low < reach) & (high >= reach)
    if not inside:
        undecided |= low <= high.min()
    below, near = (int(cells[~undecided & (high < bound)].sum()) for bound in (first, reach))
    high[~undecided] = 0
    del low, undecided
    values, times = _exact(distance, high, scored)

    middle = [_at_rank(values, times, rank - below) if rank >= 0 else 0.0 for rank in ranks]
    near += inside + int(times[values < reach].sum())
    minimum = 0.0 if inside else float(values.min())
    return Audit(
        minimum_m=minimum,
        median_m=sum(middle) / 2,
        share_inside=inside / total,
        share_near=near / total,
        window=window,
        reach_m=reach,
    )


def pooled(audits: Sequence[Audit], pixels: Sequence[int]) -> Audit:
    """One audit of several parts of a site, each with training ground of its own and so many `pixels` scored.

    Shares are weighted by pixels, and the minimum is the least; the median, which does not follow from those of the
    parts, is NaN. A part without scored pixels adds nothing.
    """
    parts = [(part, n) for part, n in zip(audits, pixels, strict=True) if n]
    total = sum(n for _, n in parts)
    minimum = min((part.minimum_m for part, _ in parts if not math.isnan(part.minimum_m)), default=math.nan)
    inside = sum(n * part.share_inside for part, n in parts) / total if total else math.nan
    near = sum(n * part.share_near for part, n in parts) / total if total else math.nan
    return Audit(
        minimum_m=minimum,
        median_m=math.nan,
        share_inside=inside,
        share_near=near,
        window=audits[0].window,
        reach_m=audits[0].reach_m,
    )


def training_edge(split: Path) -> NDArray[np.int32]:
    """(N, 2) rows and columns, by row, of the training pixels that have a pixel without training beside them."""
    with open_raster(split) as dataset:
        shape = dataset.height, dataset.width
        edge, count = mapped_zeros((0, 2), np.int32), 0
        for strip in strips(shape):
            pixels = _edge_of(dataset, strip, shape)
            # Gathered where it will lie: the pieces of a long edge would fill the heap beside it.
            if count + len(pixels) > len(edge):
                longer = mapped_zeros((2 * (count + len(pixels)), 2), np.int32)
                longer[:count] = edge[:count]
                edge = longer
            edge[count : count + len(pixels)] = pixels
            count += len(pixels)
    return edge[:count]


def _edge_of(dataset: Any, strip: Window, shape: tuple[int, int]) -> NDArray[np.int32]:
    """(N, 2) rows and columns of the edge's pixels in a strip of whole rows."""
    outer = Window(strip.row - 1, 0, strip.height + 2, strip.width).clip(shape)
    # Beyond the raster nothing is scored, so that its border is no edge.
    train = np.ones((strip.height + 2, strip.width + 2), bool)
    row = outer.row - strip.row + 1
    train[row : row + outer.height, 1:-1] = read_stored_window(dataset, outer) == TRAIN
    inner = train[:-2, 1:-1] & train[2:, 1:-1]
    inner &= train[1:-1, :-2]
    inner &= train[1:-1, 2:]
    return np.asarray(np.argwhere(train[1:-1, 1:-1] & ~inner) + np.array([strip.row, 0]), np.int32)


class _Distance:
    """Distances to the edge of the training ground, metres."""

    def __init__(self, edge: NDArray[np.int32], grid: Grid) -> None:
        self.size = np.array([grid.y_size, grid.x_size])
        # The tree keeps the array that it is given, and copies nothing.
        self.tree = cKDTree(np.multiply(edge, self.size, mapped_zeros(edge.shape, float)), LEAF)

    def of_pixels(self, at: NDArray[np.intp], farthest: float) -> NDArray[np.float64]:
        """(N,) distances of pixels at (N, 2) rows and columns, none of them more than `farthest` metres away.

        They follow from whole numbers of pixels, so that equal distances are equal numbers.
        """
        margin = np.ceil(farthest / self.size).astype(np.intp)
        corner, end = at.min(0) - margin, at.max(0) + margin + 1
        pixels = math.prod((end - corner).tolist())
        if pixels > min(TRANSFORMED * len(at), LARGEST):
            down, across = (self._edge(self.tree.query(at * self.size)[1]) - at).T
        else:
            first, behind = np.searchsorted(self.tree.data[:, 0], np.array([corner[0], end[0]]) * self.size[0])
            inside = self._edge(slice(first, behind)) - corner
            inside = inside[(inside[:, 1] >= 0) & (inside[:, 1] < end[1] - corner[1])]
            away = np.ones(end - corner, bool)
            away[inside[:, 0], inside[:, 1]] = False
            row, column = (at - corner).T
            rows, columns = distance_transform_edt(away, self.size, return_distances=False, return_indices=True)
            down, across = rows[row, column] - row, columns[row, column] - column
        return np.asarray(np.hypot(down * self.size[0], across * self.size[1]))

    def of_cells(self, cells: NDArray[np.signedinteger]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Lower and upper bounds on the distances of the pixels of each cell, (rows, columns) each.

        They are the distance of the cell's centre, less and more half its diagonal; infinite where no pixel is counted
        in `cells`.
        """
        half = (CELL - 1) / 2
        radius = half * float(np.hypot(*self.size)) * (1 + ROUNDING)
        low, high = mapped_zeros(cells.shape, np.float32), mapped_zeros(cells.shape, np.float32)
        for row, counted in enumerate(cells > 0):
            at = np.stack(np.broadcast_arrays(row, np.flatnonzero(counted)), 1)
            centre = self.tree.query((at * CELL + half) * self.size)[0]
            low[row], high[row] = np.inf, np.inf
            low[row, counted], high[row, counted] = centre * (1 - ROUNDING) - radius, centre * (1 + ROUNDING) + radius
        return low, high

    def _edge(self, which: slice | NDArray[np.intp]) -> NDArray[np.intp]:
        """(N, 2) rows and columns of some pixels of the edge, which the tree holds in metres."""
        return np.asarray(np.rint(self.tree.data[which] / self.size), np.intp)


def _at_rank(values: NDArray[np.floating], times: NDArray[np.signedinteger], rank: int) -> float:
    """The value at a rank, from 0, of all values in order, where each stands so many `times`."""
    counted = times > 0
    low, high = values.min(where=counted, initial=np.inf), values.max(where=counted, initial=-np.inf)
    # Halved until few lie between: to put all of them in order would take several times their memory.
    while np.count_nonzero(between := counted & (values >= low) & (values <= high)) > FEW:
        middle = np.float64(low) + (np.float64(high) - np.float64(low)) / 2
        upper = times.sum(where=values <= middle) <= rank
        if upper:
            low = values.min(where=between & (values > middle), initial=np.inf)
        else:
            high = values.max(where=between & (values <= middle), initial=-np.inf)
        if low == high:
            return float(low)
    order = np.argsort(values[between], kind="stable")
    behind = np.searchsorted(np.cumsum(times[between][order]), rank - times.sum(where=values < low), side="right")
    return float(values[between][order[behind]])


def _exact(
    distance: _Distance, farthest: NDArray[np.float32], scored: Scored
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The distances of all scored pixels in some cells, each different one once in order, and how many have it.

    `farthest` bounds the distances in those cells, metres, and is 0 in the others.
    """
    undecided = farthest > 0
    values, times = np.zeros(0), np.zeros(0, np.int64)
    for window, mask in scored(undecided):
        row, column = (np.arange(*s.indices(s.stop)) // CELL for s in window.slices)
        cells = np.ix_(row, column)
        pixels = np.argwhere(mask & undecided[cells])
        if len(pixels):
            pixels += window.row, window.column
            distances, counts = np.unique(distance.of_pixels(pixels, farthest[cells].max()), return_counts=True)
            values, where = np.unique(np.concatenate([values, distances]), return_inverse=True)
            times = np.bincount(where, np.concatenate([times, counts])).astype(np.int64)
    return values, times
