"""Polygons and lines burnt onto a grid, window by window."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio.features import rasterize

from landslip.errors import VectorError
from landslip.geo.grid import Grid, Window

BURN = ("centre", "majority", "touched")
FINER = 5  # sub-pixels per side where a majority is counted
SQUARE = 512  # side of what is burnt at a time, pixels
BURN_MARGIN = 16  # pixels burnt around it, so that GDAL does not cut lines of that length at its border
MANY = 1000  # corners; a geometry of more is cut to the square before it is burnt


@dataclass(frozen=True, kw_only=True)
class Shapes:
    """Geometries to be burnt onto a grid window by window.

    parts: (N,) shapely geometries, those of a multipart geometry apart and empty ones left out.
    index: (N,) the position, among the geometries given, of the one that a part belongs to.
    large: (N,) bool, whether a part has so many corners that it is cut to the window before it is burnt.
    tree: where the parts lie, to find those near a window.
    """

    grid: Grid
    how: str
    parts: NDArray[Any]
    index: NDArray[np.int64]
    large: NDArray[np.bool_]
    tree: shapely.STRtree


def shapes_on(geometries: Iterable[Any], grid: Grid, how: str = "centre") -> Shapes:
    """Geometries, in the grid's CRS, made ready for `burn_window`.

    `how`: "centre", a pixel whose centre lies inside; "touched", every pixel that a geometry touches; "majority", a
    pixel at least half covered (counted on 5 x 5 sub-pixels). Raises VectorError for another word.
    """
    if how not in BURN:
        raise VectorError(f"polygons cannot be burnt by {how!r}; the ways are {', '.join(BURN)}.")
    filled = np.array([g if g is None or not g.is_empty else None for g in geometries], object)
    parts, index = shapely.get_parts(filled, return_index=True)
    large = shapely.get_num_coordinates(parts) > MANY
    large[large] = shapely.is_valid(parts[large])
    return Shapes(grid=grid, how=how, parts=parts, index=index, large=large, tree=shapely.STRtree(parts))


def burn_window(shapes: Shapes, window: Window) -> NDArray[np.bool_]:
    """(h, w) bool of a window inside the shapes' grid.

    GDAL's rounding at a pixel's edge depends on the corner of what is burnt: every part of the grid is burnt in its own
    fixed square, so that no pixel depends on the window.
    """
    out = np.zeros((window.height, window.width), bool)
    for square in _squares_of(shapes, window):
        near = _near(shapes, square)
        if near.size:
            burnt = _burn_square(shapes, near, square, np.ones(near.size, np.int32))
            _copy_common(burnt != 0, square, out, window)
    return out


def burn(geometries: Iterable[Any], grid: Grid, how: str = "centre") -> NDArray[np.bool_]:
    """Burn geometries, in the grid's CRS, into (H, W) bool; `how` and errors as `shapes_on` has them."""
    return burn_window(shapes_on(geometries, grid, how), Window(0, 0, *grid.shape))


def burn_alone(geometry: Any, grid: Grid, how: str = "centre") -> tuple[Window, NDArray[np.bool_]]:
    """The window of the grid around a geometry, and the geometry burnt into it, (h, w) bool; empty beyond the grid."""
    left, bottom, right, top = geometry.bounds
    x, y = grid.transform.c, grid.transform.f
    row, column = int((y - top) // grid.y_size), int((left - x) // grid.x_size)
    height = int((y - bottom) // grid.y_size) - row + 1
    width = int((right - x) // grid.x_size) - column + 1
    window = Window(row, column, height, width).clip(grid.shape)
    if not (window.height and window.width):
        return Window(0, 0, 0, 0), np.zeros((0, 0), bool)
    return window, burn([geometry], grid.crop(window), how)


def unburnt(geometries: list[Any], grid: Grid, how: str = "centre") -> list[int]:
    """Positions of the geometries that burn to no pixel of the grid, each burnt by itself; empty ones too."""
    shapes = shapes_on(geometries, grid, how)
    visible: set[int] = set()
    if how != "majority":  # Burnt all at once, most leave a pixel, and only the others are burnt one by one.
        for square in _squares_of(shapes, Window(0, 0, *grid.shape)):
            near = _near(shapes, square)
            if near.size:
                ids = _burn_square(shapes, near, square, (shapes.index[near] + 1).astype(np.int32))
                visible.update((np.unique(ids) - 1).tolist())
    indices = set(shapes.index.tolist())
    burnt = {i for i in indices if i in visible or burn_alone(geometries[i], grid, how)[1].any()}
    return [i for i in range(len(geometries)) if i not in burnt]


def _squares_of(shapes: Shapes, window: Window) -> Iterator[Window]:
    """The fixed squares of the shapes' grid that meet a window."""
    for row in range(window.row // SQUARE * SQUARE, window.row + window.height, SQUARE):
        for column in range(window.column // SQUARE * SQUARE, window.column + window.width, SQUARE):
            yield Window(row, column, SQUARE, SQUARE).clip(shapes.grid.shape)


def _near(shapes: Shapes, square: Window) -> NDArray[np.int64]:
    """The parts that may touch a square, in the order they were given in."""
    if shapes.parts.size == 0:
        return np.zeros(0, np.int64)
    return np.sort(shapes.tree.query(shapely.box(*shapes.grid.crop(square).pad(BURN_MARGIN).bounds)))


def _burn_square(
    shapes: Shapes, near: NDArray[np.int64], square: Window, values: NDArray[np.int32]
) -> NDArray[np.int32]:
    """(h, w) int32 of a square: the value of the last part that a pixel belongs to, 0 where there is none."""
    around = shapes.grid.crop(square).pad(BURN_MARGIN)
    parts = shapes.parts[near]
    large = shapes.large[near]
    parts[large] = shapely.clip_by_rect(parts[large], *around.pad(1).bounds)
    pairs = [(part, value) for part, value in zip(parts, values.tolist(), strict=True) if not part.is_empty]
    if not pairs:
        return np.zeros((square.height, square.width), np.int32)
    if shapes.how != "majority":
        burnt = rasterize(
            pairs, around.shape, transform=around.transform, all_touched=shapes.how == "touched", dtype="int32"
        )
        return np.asarray(burnt)[BURN_MARGIN:-BURN_MARGIN, BURN_MARGIN:-BURN_MARGIN]
    corner, shape = around.transform, (around.height * FINER, around.width * FINER)
    transform = Affine(corner.a / FINER, 0, corner.c, 0, corner.e / FINER, corner.f)
    fine = rasterize([part for part, _ in pairs], shape, transform=transform, dtype="uint8")
    share = fine.reshape(around.height, FINER, around.width, FINER).sum((1, 3))
    return np.asarray(share * 2 >= FINER * FINER, np.int32)[BURN_MARGIN:-BURN_MARGIN, BURN_MARGIN:-BURN_MARGIN]


def _copy_common(source: NDArray[Any], at: Window, target: NDArray[Any], window: Window) -> None:
    """Copy what a window has in common with the square `at`."""
    common = at.intersect(window)
    target[common.within(window)] = source[common.within(at)]
