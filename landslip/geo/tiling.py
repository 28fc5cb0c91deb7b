"""The windows of a map, planned once: cores that are kept and, around each, the window that the network sees.

All windows of a plan have one size, so that an engine compiles one shape and memory is known beforehand. Among the
sizes that fit into memory, the plan takes the one that computes the fewest pixels. Cores cover the cells of ground that
hold valid pixels: strip by strip from the first row with such a cell, and in a strip from the first column with one.
Windows at the raster's edge are shifted inwards. The corners of all windows are multiples of the network's poolings, so
that a pooling falls on the same pixels whatever the size of the cores.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from landslip.geo.grid import Window, tiles
from landslip.geo.raster import open_raster, read_around

CORE_CELL = 64  # pixels a side of what cores are made of
HALO = 96  # pixels read around a core: with 64, windows of other sizes moved single probabilities by up to 0.003
STRIP = 2048  # rows and columns of valid.tif that are read at once


@dataclass(frozen=True, order=True)
class Tile:
    """One window of a plan: the core that is kept of it, and the window read, which may reach beyond the edge."""

    core: Window
    read: Window


@dataclass(frozen=True)
class Tiling:
    """Tasks over a raster of `shape` (rows, columns). `read` is the (rows, columns) of every window read."""

    shape: tuple[int, int]
    read: tuple[int, int]
    tasks: tuple[Tile, ...]

    @property
    def skipped(self) -> float:
        """The share of the raster that no core covers, since it holds no valid pixel."""
        return 1 - sum(task.core.area for task in self.tasks) / math.prod(self.shape)


def plan_tiles(shape: tuple[int, int], needed: NDArray[np.bool_], multiple: int, most: int) -> Tiling:
    """Plan windows of at most `most` pixels over the cells that are `needed`, (rows, columns) bool.

    `shape` is the raster's (rows, columns), `multiple` the network's poolings. A cell has `cell_size(multiple)` pixels
    a side; `most` is at least `smallest(shape, multiple)`.
    """
    cell, halo, padded = _measures(shape, multiple)
    costs = []
    for rows, columns in _sizes(needed.shape, cell, halo, padded, most):
        read = _read_size((rows, columns), cell, halo, padded)
        costs.append((_count(needed, rows, columns) * math.prod(read), math.prod(read), rows, columns))
    _, _, rows, columns = min(costs)
    read = _read_size((rows, columns), cell, halo, padded)
    tasks = []
    for cells in _cover(needed, rows, columns):
        core = Window(cells.row * cell, cells.column * cell, cells.height * cell, cells.width * cell).clip(shape)
        row = min(max(core.row - halo, 0), padded[0] - read[0])
        column = min(max(core.column - halo, 0), padded[1] - read[1])
        tasks.append(Tile(core, Window(row, column, *read)))
    return Tiling(shape, read, tuple(tasks))


def smallest(shape: tuple[int, int], multiple: int) -> int:
    """Pixels of the smallest window of a plan: one cell and its halo, or the raster where that is less."""
    return math.prod(_read_size((1, 1), *_measures(shape, multiple)))


def needed_cells(valid_path: Path | None, shape: tuple[int, int], cell: int) -> NDArray[np.bool_]:
    """Which cells hold a valid pixel, bool (rows, columns) of cells; all where there is no raster of valid pixels.

    What cannot be read counts as needed, so that mapping meets it and names it.
    """
    counts = -(-shape[0] // cell), -(-shape[1] // cell)
    needed = np.ones(counts, bool)
    if valid_path is None:
        return needed
    side = STRIP // cell * cell or cell
    with open_raster(valid_path) as dataset:
        for window in tiles(shape, side):
            values, damaged = read_around(dataset, window)
            if damaged:
                continue
            cells = cells_holding(values[0] == 1, cell)
            row, column = window.row // cell, window.column // cell
            needed[row : row + cells.shape[0], column : column + cells.shape[1]] = cells
    return needed


def cells_holding(held: NDArray[np.bool_], cell: int) -> NDArray[np.bool_]:
    """Which cells hold any of the pixels `held`, (H, W) bool: bool (rows, columns) of cells."""
    rows, columns = (np.arange(0, length, cell) for length in held.shape)
    return np.asarray(np.logical_or.reduceat(np.logical_or.reduceat(held, rows, 0), columns, 1))


def cell_size(multiple: int) -> int:
    """Side of a cell in pixels: CELL, or more where a network's poolings need it."""
    return math.lcm(CORE_CELL, multiple)


def _measures(shape: tuple[int, int], multiple: int) -> tuple[int, int, tuple[int, int]]:
    """The side of a cell, the halo, and (rows, columns) of the raster up to the next multiple, all in pixels."""
    padded = shape[0] + -shape[0] % multiple, shape[1] + -shape[1] % multiple
    return cell_size(multiple), HALO + -HALO % multiple, padded


def _read_size(core: tuple[int, int], cell: int, halo: int, padded: tuple[int, int]) -> tuple[int, int]:
    """(rows, columns) read for a core of (rows, columns) cells: with its halo, and never more than the raster."""
    return min(core[0] * cell + 2 * halo, padded[0]), min(core[1] * cell + 2 * halo, padded[1])


def _sizes(counts: tuple[int, int], cell: int, halo: int, padded: tuple[int, int], most: int) -> list[tuple[int, int]]:
    """Sizes of cores in cells that fit: those that divide an axis evenly, and of these none far below the largest."""
    axes = [sorted({-(-count // n) for n in range(1, count + 1)}) for count in counts]
    fits = {(r, c): math.prod(_read_size((r, c), cell, halo, padded)) for r, c in product(*axes)}
    fits = {size: area for size, area in fits.items() if area <= most}
    return [size for size, area in fits.items() if 2 * area >= max(fits.values())]


def _count(needed: NDArray[np.bool_], rows: int, columns: int) -> int:
    """How many cores of (rows, columns) cells cover every needed cell."""
    if needed.all():
        return int(-(-needed.shape[0] // rows) * -(-needed.shape[1] // columns))
    return len(_cover(needed, rows, columns))


def _cover(needed: NDArray[np.bool_], rows: int, columns: int) -> list[Window]:
    """Cores in cells, none overlapping another, that cover every needed cell."""
    cores, row = [], 0
    rows_needed = np.asarray(needed.any(1))
    while (row := _next(rows_needed, row)) < len(rows_needed):
        strip = np.asarray(needed[row : row + rows].any(0))
        column = 0
        while (column := _next(strip, column)) < len(strip):
            cores.append(Window(row, column, rows, columns).clip((needed.shape[0], needed.shape[1])))
            column += columns
        row += rows
    return cores


def _next(needed: NDArray[np.bool_], start: int) -> int:
    """The first index from `start` on that is needed, or the length where none is."""
    after = np.flatnonzero(needed[start:])
    return start + int(after[0]) if after.size else len(needed)
