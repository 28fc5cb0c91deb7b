"""Leakage audit: how far the scored pixels lie from the training ground, and how many lie on it.

Distances run from pixel centre to pixel centre. The training pixel that is nearest to a pixel outside lies on the edge
of the training ground, so only the pixels of that edge are kept, in a k-d tree.

The scored pixels are looked at in cells of 16 x 16 pixels. A cell that may hold a pixel nearer than one training window
is measured pixel by pixel. All pixels of a cell farther away count as far as its centre is. So the minimum and the
share near training ground are exact. The median comes from a histogram of bins one pixel wide, and is therefore rounded
to a pixel near training ground and good to about one pixel elsewhere. Memory follows the window, the histogram and the
length of the edge.

A training window lies wholly on training ground, which may reach beyond the windows: to be on it is to be where the
network may have trained.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from scipy.spatial import cKDTree

from landslip.dataset.split import TRAIN
from landslip.geo.grid import Grid, Window
from landslip.geo.mapped_array import strips
from landslip.geo.raster import open_raster, read_stored_window
from landslip.metrics.bootstrap import add_block_sums, empty_sums

AUDIT_CELL = 16  # pixels a side of a cell, whose pixels count together where it is far from training ground
ROUNDING = 1e-9  # share of a distance that its last digits may be wrong by


@dataclass(frozen=True, kw_only=True)
class Audit:
    """Distance of the scored pixels to the nearest training pixel, metres (0 on training ground).

    All are NaN where nothing was scored or no training ground is known. Shares are of the pixels scored: `share_inside`
    lies on training ground, `share_near` nearer to it than one window of `window` pixels, `reach_m` metres. The median
    is read from a histogram of bins one pixel wide; the others are exact.
    """

    minimum_m: float
    median_m: float
    share_inside: float
    share_near: float
    window: int
    reach_m: float


class TrainingDistances:
    """Distances of scored pixels to the training ground of a split, counted window after window."""

    def __init__(self, split: Path, grid: Grid, window: int) -> None:
        """`split` is split.tif on `grid`, whose part 1 is training ground; `window` the side of a training window."""
        self.window = window
        self.size = np.array([grid.y_size, grid.x_size])
        self.pixel = float(self.size.min())
        self.reach = window * self.pixel  # The guard of a split is counted in the same way.
        self.edge = training_edge(split)
        self.tree = cKDTree(self.edge * self.size)
        self.radius = (AUDIT_CELL - 1) / 2 * math.hypot(*self.size)  # From a cell's centre to its corners.
        farthest = math.hypot(grid.height * grid.y_size, grid.width * grid.x_size)
        self.pixels_at = np.zeros(math.ceil(farthest / self.pixel) + 2, np.int64)  # By distance in whole pixels.
        self.inside = self.near = 0
        self.minimum = math.inf

    def add(self, window: Window, scored: NDArray[np.bool_], train: NDArray[np.bool_]) -> None:
        """Count the (h, w) pixels of a window that are `scored`; those that `train` are training ground."""
        self.inside += int(np.count_nonzero(scored & train))
        outside = scored & ~train
        if not outside.any() or not self.tree.n:
            return
        counts = empty_sums(outside.shape, AUDIT_CELL)
        add_block_sums(counts, outside, 0, 0, AUDIT_CELL)
        cells = np.argwhere(counts)
        corner = np.array([window.row, window.column])
        centres = self.tree.query((corner + cells * AUDIT_CELL + (AUDIT_CELL - 1) / 2) * self.size)[0]
        lowest, highest = centres - self.radius, centres + self.radius
        close = lowest < self.reach
        self._count(centres[~close], counts[tuple(cells[~close].T)])
        if close.any():
            distances = self._measured_nearby(window, _pixels_of(cells[close], outside))
            self._count(distances, np.ones(len(distances), np.int64))
            self.near += int(np.count_nonzero(distances < self.reach * (1 - ROUNDING)))
            self.minimum = min(self.minimum, float(distances.min()))
        # The nearest pixel of all may lie in a cell that is far from training ground.
        nearest = ~close & (lowest <= min(self.minimum, highest.min()))
        if nearest.any():
            pixels = corner + np.argwhere(_pixels_of(cells[nearest], outside))
            self.minimum = min(self.minimum, float(self.tree.query(pixels * self.size)[0].min()))

    def audit(self) -> Audit:
        """What the pixels counted so far say."""
        pixels_at = self.pixels_at.copy()
        pixels_at[0] += self.inside
        total = int(pixels_at.sum())
        # The median is the mean of the two middle pixels.
        ranks = np.searchsorted(np.cumsum(pixels_at), [(total - 1) // 2, total // 2], side="right")
        return Audit(
            minimum_m=math.nan if not total else 0.0 if self.inside else self.minimum,
            median_m=float(ranks.mean()) * self.pixel if total else math.nan,
            share_inside=self.inside / total if total else math.nan,
            share_near=(self.inside + self.near) / total if total else math.nan,
            window=self.window,
            reach_m=self.reach,
        )

    def _count(self, distances: NDArray[np.float64], times: NDArray[np.signedinteger]) -> None:
        """Count distances in metres, each so many times."""
        bins = np.rint(distances / self.pixel).astype(np.intp)
        self.pixels_at += np.bincount(bins, times, len(self.pixels_at)).astype(np.int64)

    def _measured_nearby(self, window: Window, pixels: NDArray[np.bool_]) -> NDArray[np.float64]:
        """(N,) distances of (h, w) `pixels`, by a transform of the window and all that may be nearest to them."""
        down, across = np.ceil((self.reach + 2 * self.radius) / self.size).astype(int).tolist()
        top, left = window.row - down, window.column - across
        outside = np.ones((window.height + 2 * down, window.width + 2 * across), bool)
        first, last = np.searchsorted(self.edge[:, 0], [top, top + len(outside)])
        rows, columns = (self.edge[first:last] - (top, left)).T
        here = (columns >= 0) & (columns < outside.shape[1])
        outside[rows[here], columns[here]] = False
        distances = distance_transform_edt(outside, self.size)
        return np.asarray(distances[down : down + window.height, across : across + window.width][pixels])


def pooled(audits: Sequence[Audit], pixels: Sequence[int]) -> Audit:
    """One audit of several parts of a site, each with training ground of its own and so many `pixels` scored.

    Shares are weighted by pixels, and the minimum is the least; the median, which does not follow from those of the
    parts, is NaN. A part without scored pixels adds nothing.
    """
    parts = [(part, n) for part, n in zip(audits, pixels, strict=True) if n]
    total = sum(n for _, n in parts)
    return Audit(
        minimum_m=min((part.minimum_m for part, _ in parts if not math.isnan(part.minimum_m)), default=math.nan),
        median_m=math.nan,
        share_inside=sum(n * part.share_inside for part, n in parts) / total if total else math.nan,
        share_near=sum(n * part.share_near for part, n in parts) / total if total else math.nan,
        window=audits[0].window,
        reach_m=audits[0].reach_m,
    )


def training_edge(split: Path) -> NDArray[np.int32]:
    """(N, 2) rows and columns, by row, of the training pixels that have a pixel without training beside them."""
    edges = [np.zeros((0, 2), np.int32)]
    with open_raster(split) as dataset:
        shape = dataset.height, dataset.width
        for strip in strips(shape):
            outer = Window(strip.row - 1, 0, strip.height + 2, strip.width).clip(shape)
            # Nothing beyond the raster is scored, so its border is no edge.
            train = np.ones((strip.height + 2, strip.width + 2), bool)
            row = outer.row - strip.row + 1
            train[row : row + outer.height, 1:-1] = read_stored_window(dataset, outer) == TRAIN
            inner = train[:-2, 1:-1] & train[2:, 1:-1] & train[1:-1, :-2] & train[1:-1, 2:]
            pixels = np.argwhere(train[1:-1, 1:-1] & ~inner)
            pixels[:, 0] += strip.row
            edges.append(pixels.astype(np.int32))
    return np.concatenate(edges)


def _pixels_of(cells: NDArray[np.intp], pixels: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Those of (h, w) `pixels` that lie in (N, 2) cells of their window."""
    height, width = pixels.shape
    chosen = np.zeros((-(-height // AUDIT_CELL), -(-width // AUDIT_CELL)), bool)
    chosen[tuple(cells.T)] = True
    return pixels & chosen.repeat(AUDIT_CELL, 0).repeat(AUDIT_CELL, 1)[:height, :width]
