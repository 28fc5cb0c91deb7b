"""Leakage audit: how far the scored pixels lie from the training ground, and how many lie on it.

Distances are exact, centre to centre, and no array of the whole raster is held. The training pixel nearest to one
outside lies on the edge of the training ground, so a tree of the edge's pixels answers every question; and a cell of
16 x 16 pixels whose distances cannot decide the minimum, the median or the share near by is asked at its centre only.
Where most pixels of a window must be asked, a distance transform of it answers them at once: its bounds say how far
around it the nearest edge can lie. Memory follows the length of that edge (about 100 bytes a pixel of it) and the
number of cells (1/256 of the pixels).

A training window lies wholly on training ground, which may reach beyond the windows: to be on it is to be where the
network may have trained.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from scipy.spatial import cKDTree

from landslip.bootstrap import add_block_sums, block_shape
from landslip.grid import Grid, Window, tiles
from landslip.raster import TILE, cut_stored, opening
from landslip.split import TRAIN

CELL = 16  # pixels a side of what is decided at once
SIDE = 4 * TILE
TRANSFORMED = 8  # pixels that a transform takes in the time that the tree takes for one
LARGEST = 4 * SIDE**2  # pixels of a transform, which holds some 20 bytes of each

# windows of the raster that hold one of the cells (rows, columns) bool, each with its (h, w) scored pixels off training
# ground
Scored = Callable[[NDArray[np.bool_]], Iterable[tuple[Window, NDArray[np.bool_]]]]


@dataclass(frozen=True)
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


def empty_cells(grid: Grid) -> NDArray[np.int64]:
    """No scored pixel counted yet, (rows, columns) of cells."""
    return np.zeros(block_shape(grid.shape, CELL), np.int64)


def count_cells(cells: NDArray[np.int64], mask: NDArray[np.bool_], window: Window) -> None:
    """Count the scored pixels off training ground of one window by cell."""
    add_block_sums(cells, mask, window.row, window.column, CELL)


def audit(split: Path, grid: Grid, inside: int, cells: NDArray[np.int64], scored: Scored, window: int) -> Audit:
    """Measure scored ground: `inside` pixels on training ground and, by cell, the others, which `scored` reads again.

    `split` is split.tif, whose part 1 is training ground; `window` is the side of a training window, pixels.
    """
    reach = window * min(grid.x_size, grid.y_size)  # as the guard of a split counts, in pixels
    total = inside + int(cells.sum())
    edge = training_edge(split)
    if not total or not (inside or len(edge)):
        return Audit(math.nan, math.nan, math.nan, math.nan, window, reach)
    if inside == total:
        return Audit(0.0, 0.0, 1.0, 1.0, window, reach)

    distance = _Distance(edge, grid)
    at = np.argwhere(cells)
    many = cells[cells > 0]
    low, high = distance.of_cells(at)
    # The median is the mean of the two middle ranks; those below `inside` are the zeros on training ground.
    ranks = [rank - inside for rank in ((total - 1) // 2, total // 2)]
    beyond = [rank for rank in ranks if rank >= 0]
    first, last = (_at_rank(low, many, beyond[0]), _at_rank(high, many, beyond[-1])) if beyond else (math.inf, -1.0)
    undecided = (high >= first) & (low <= last) | (low < reach) & (high >= reach)
    if not inside:
        undecided |= low <= high.min()
    farthest = np.zeros(cells.shape)
    farthest[tuple(at[undecided].T)] = high[undecided]
    values, times = _exact(distance, farthest, scored)

    below = int(many[~undecided & (high < first)].sum())
    middle = [_at_rank(values, times, rank - below) if rank >= 0 else 0.0 for rank in ranks]
    near = inside + int(many[~undecided & (high < reach)].sum()) + int(times[values < reach].sum())
    minimum = 0.0 if inside else float(values.min())
    return Audit(minimum, sum(middle) / 2, inside / total, near / total, window, reach)


def pooled(audits: Sequence[Audit], pixels: Sequence[int]) -> Audit:
    """One audit of several parts of a site, each with training ground of its own and so many `pixels` scored.

    Shares are weighted by pixels, and the minimum is the least; the median, which does not follow from those of the
    parts, is NaN. A part without scored pixels adds nothing.
    """
    parts = [(found, n) for found, n in zip(audits, pixels, strict=True) if n]
    total = sum(n for _, n in parts)
    minimum = min((found.minimum_m for found, _ in parts if not math.isnan(found.minimum_m)), default=math.nan)
    inside = sum(n * found.share_inside for found, n in parts) / total if total else math.nan
    near = sum(n * found.share_near for found, n in parts) / total if total else math.nan
    return Audit(minimum, math.nan, inside, near, audits[0].window, audits[0].reach_m)


def training_edge(split: Path) -> NDArray[np.int32]:
    """(N, 2) rows and columns of the training pixels that have a pixel without training beside them."""
    found = []
    with opening(split) as dataset:
        shape = dataset.height, dataset.width
        for window in tiles(shape, SIDE):
            outer = Window(window.row - 1, window.column - 1, window.height + 2, window.width + 2).clip(shape)
            # beyond the raster nothing is scored, so its border is no edge
            train = np.ones((window.height + 2, window.width + 2), bool)
            row, column = outer.row - window.row + 1, outer.column - window.column + 1
            train[row : row + outer.height, column : column + outer.width] = cut_stored(dataset, outer) == TRAIN
            core = train[1:-1, 1:-1]
            inner = train[:-2, 1:-1] & train[2:, 1:-1] & train[1:-1, :-2] & train[1:-1, 2:]
            found.append((np.argwhere(core & ~inner) + np.array([window.row, window.column])).astype(np.int32))
    return np.concatenate(found)


class _Distance:
    """Distances to the edge of the training ground, metres."""

    def __init__(self, edge: NDArray[np.int32], grid: Grid) -> None:
        self.edge = edge[np.argsort(edge[:, 0], kind="stable")]
        self.size = np.array([grid.y_size, grid.x_size])
        self.tree = cKDTree(self.edge * self.size)

    def of_pixels(self, at: NDArray[np.intp], farthest: float) -> NDArray[np.float64]:
        """Of (N, 2) rows and columns, none more than `farthest` metres away.

        From whole pixels, so that equal distances are equal numbers.
        """
        margin = np.ceil(farthest / self.size).astype(np.intp)
        corner, end = at.min(0) - margin, at.max(0) + margin + 1
        pixels = math.prod((end - corner).tolist())
        if pixels > min(TRANSFORMED * len(at), LARGEST):
            nearest = self.edge[self.tree.query(at * self.size)[1]]
        else:
            first, behind = np.searchsorted(self.edge[:, 0], (corner[0], end[0]))
            inside = self.edge[first:behind] - corner
            inside = inside[(inside[:, 1] >= 0) & (inside[:, 1] < end[1] - corner[1])]
            away = np.ones(end - corner, bool)
            away[inside[:, 0], inside[:, 1]] = False
            rows, columns = distance_transform_edt(away, self.size, return_distances=False, return_indices=True)
            row, column = (at - corner).T
            nearest = np.stack([rows[row, column], columns[row, column]], 1) + corner
        apart = (nearest - at) * self.size
        return np.asarray(np.hypot(apart[:, 0], apart[:, 1]))

    def of_cells(self, at: NDArray[np.intp]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Bounds on the distances of all pixels of (N, 2) cells: that of the centre, less and more a half diagonal."""
        half = (CELL - 1) / 2
        centre, _ = self.tree.query((at * CELL + half) * self.size)
        radius = half * float(np.hypot(*self.size)) * (1 + 1e-9)
        return np.maximum(centre - radius, 0), centre + radius


def _at_rank(values: NDArray[np.float64], times: NDArray[np.int64], rank: int) -> float:
    """The value of a rank (from 0) in order, each value counted `times`."""
    order = np.argsort(values, kind="stable")
    behind = int(np.searchsorted(np.cumsum(times[order]), rank, side="right"))
    return float(values[order[behind]])


def _exact(
    distance: _Distance, farthest: NDArray[np.float64], scored: Scored
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The distances of all scored pixels in some cells, each different one once in order, and how many have it.

    `farthest` bounds the distances in those cells, metres, and is 0 in the others.
    """
    wanted = farthest > 0
    values, times = np.zeros(0), np.zeros(0, np.int64)
    for window, mask in scored(wanted):
        pixels = np.argwhere(mask) + np.array([window.row, window.column])
        bound = farthest[pixels[:, 0] // CELL, pixels[:, 1] // CELL]
        pixels, most = pixels[bound > 0], bound.max(initial=0)
        if len(pixels):
            found, many = np.unique(distance.of_pixels(pixels, most), return_counts=True)
            values, where = np.unique(np.concatenate([values, found]), return_inverse=True)
            times = np.bincount(where, np.concatenate([times, many])).astype(np.int64)
    return values, times


def windows_of(cells: NDArray[np.bool_], grid: Grid, side: int) -> Iterator[Window]:
    """Windows of `side` pixels over the grid that hold one of the cells."""
    for window in tiles(grid.shape, side):
        rows = slice(window.row // CELL, (window.row + window.height - 1) // CELL + 1)
        columns = slice(window.column // CELL, (window.column + window.width - 1) // CELL + 1)
        if cells[rows, columns].any():
            yield window
