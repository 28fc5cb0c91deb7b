"""Rasters brought onto a grid: cut where its pixels are the grid's own, resampled where not.

What a pixel gets follows from its own place, so that any window of a grid holds the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.warp import calculate_default_transform, transform_bounds
from rasterio.warp import transform as transform_points

from landslip.errors import GridError
from landslip.geo.grid import Grid, Window, crs_name
from landslip.geo.raster import RasterInfo, info_of, open_raster, read_info, read_stored_window, read_window
from landslip.geo.resample import reach, resample

MOST_AT_ONCE = 16_000_000  # pixels of a raster; a window that needs more of them is divided
KNOT = 16  # pixels between two whose coordinates PROJ computes
FINEST = 2.0**20  # parts of a pixel that positions are rounded to
SAME_SIZE = 1e-8  # by how much two pixel sizes may differ and be one: 0.0002 of a pixel over a scene


def warp(
    path: Path,
    grid: Grid,
    bands: Sequence[int] | None = None,
    resampling: str = "bilinear",
    nodata: Sequence[float] = (),
) -> NDArray[np.float32]:
    """Bring a raster onto `grid` as (B, H, W) float32 with NaN where undefined.

    `resampling` is bilinear or cubic for continuous values, nearest for classes. Only the part of the raster that
    covers the grid is read. A raster that lies on the grid's own pixels is cut, not resampled. What a pixel gets does
    not depend on how `grid` was cropped, to the bit.
    """
    with open_raster(path) as dataset:
        source = info_of(dataset, path).grid
        with _require_way(path, source.crs, grid.crs):
            window = needed_window(source, grid, resampling).clip(source.shape)
        if window.area > MOST_AT_ONCE and max(grid.shape) > 1:
            return in_quarters(lambda part: warp(path, grid.crop(part), bands, resampling, nodata), grid.shape)
        values = read_window(dataset, window, bands, nodata)
    return warp_array(values, source.crop(window), grid, resampling)


def warp_stored(path: Path, grid: Grid, band: int = 1) -> NDArray[np.float32]:
    """One band brought onto `grid` by the nearest pixel, (H, W) float32: nodata stays a value; NaN beyond it."""
    with open_raster(path) as dataset:
        source = info_of(dataset, path).grid
        with _require_way(path, source.crs, grid.crs):
            window = needed_window(source, grid, "nearest").clip(source.shape)
        if 0 in (window.height, window.width):
            return np.full(grid.shape, np.nan, np.float32)
        values = read_stored_window(dataset, window, band).astype(np.float32)
    return np.asarray(warp_array(values[None], source.crop(window), grid, "nearest")[0])


def warp_array(
    values: NDArray[np.float32], source: Grid, grid: Grid, resampling: str = "bilinear"
) -> NDArray[np.float32]:
    """Bring (B, H, W) float32 values from one grid to another; NaN is undefined on both."""
    if 0 in (*source.shape, *grid.shape):
        return np.full((len(values), *grid.shape), np.nan, np.float32)
    offset = _whole_pixel_offset(source, grid)
    if offset is not None:
        return _cut_array(values, Window(*offset, *grid.shape))
    rows, columns = _positions(source, grid)
    return resample(values, source.first, rows, columns, method=resampling, scale=_scale(source, grid))


def in_quarters(values: Callable[[Window], NDArray[np.float32]], shape: tuple[int, int]) -> NDArray[np.float32]:
    """(B, H, W) of `shape` put together from its quarters, of which `values` gives each, (B, h, w) at a window."""
    rows, columns = ((0, n // 2, n) if n > 1 else (0, n) for n in shape)
    parts = [
        [values(Window(top, left, bottom - top, right - left)) for left, right in pairwise(columns)]
        for top, bottom in pairwise(rows)
    ]
    return np.concatenate([np.concatenate(line, axis=2) for line in parts], axis=1)


def lies_on(path: Path, grid: Grid) -> bool:
    """Whether a raster's pixels are the grid's own, so that it is cut and not resampled."""
    return _whole_pixel_offset(read_info(path).grid, grid) is not None


def how_resampled(path: Path, grid: Grid, method: str) -> str:
    """How a raster's pixels are resampled onto the grid, in words."""
    return "none: its pixels are the grid's" if lies_on(path, grid) else method


def needed_window(source: Grid, grid: Grid, resampling: str = "bilinear") -> Window:
    """The window of `source`, or beyond it, that resampling onto `grid` looks at; empty where no pixel has a place."""
    offset = _whole_pixel_offset(source, grid)
    if offset is not None:
        return Window(*offset, *grid.shape)
    rows, columns = _positions(source, grid)
    placed = np.isfinite(rows) & np.isfinite(columns)
    if not placed.any():
        return Window(0, 0, 0, 0)
    down, across = (reach(resampling, scale) for scale in _scale(source, grid))
    row, column = int(np.floor(rows[placed].min())) - down, int(np.floor(columns[placed].min())) - across
    height = int(np.floor(rows[placed].max())) + down + 1 - row
    width = int(np.floor(columns[placed].max())) + across + 1 - column
    return Window(row - source.first[0], column - source.first[1], height, width)


def covering_window(raster: RasterInfo, grid: Grid, margin: int = 4) -> Window:
    """The window of a raster that covers `grid` with `margin` of its pixels to spare, clipped to the raster.

    Where the grid's pixels are larger the margin grows with them, as GDAL's kernels do (cubic: two target pixels).
    Raises GridError where PROJ cannot convert between the two CRSs.
    """
    source = raster.grid
    with _require_way(raster.path, source.crs, grid.crs):
        left, bottom, right, top = transform_bounds(grid.crs, source.crs, *grid.bounds, densify_pts=41)
    x, y = source.transform.c, source.transform.f
    across = (right - left) / source.x_size / max(grid.width, 1)  # source pixels in one target pixel
    down = (top - bottom) / source.y_size / max(grid.height, 1)
    columns, rows = max(margin, int(2 * across) + 2), max(margin, int(2 * down) + 2)
    first_column = int(np.floor((left - x) / source.x_size)) - columns
    last_column = int(np.ceil((right - x) / source.x_size)) + columns
    first_row = int(np.floor((y - top) / source.y_size)) - rows
    last_row = int(np.ceil((y - bottom) / source.y_size)) + rows
    window = Window(first_row, first_column, last_row - first_row, last_column - first_column)
    return window.clip(source.shape)


def default_grid(info: RasterInfo, crs: CRS, resolution: float | None) -> Grid:
    """The grid that a raster takes in another CRS and, where given, at another resolution (metres).

    Raises GridError where it takes none.
    """
    source = info.grid
    with _require_way(info.path, source.crs, crs):
        transform, width, height = calculate_default_transform(
            source.crs, crs, source.width, source.height, *source.bounds, resolution=resolution
        )
    if transform is None or not width or not height:
        raise GridError(f"{info.path} cannot be brought from {crs_name(source.crs)} to {crs_name(crs)}.")
    return Grid(crs, transform, int(height), int(width))


def _positions(source: Grid, grid: Grid) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where the centres of `grid`'s pixels lie, (H, W) rows and columns in `source`'s pixels from its origin's corner.

    They follow from a pixel's place in the grid that `grid` was cropped from. Between two CRSs every 16th is computed
    by PROJ and the others between them, which moves them by less than a thousandth of a pixel.
    """
    transform, first = grid.origin or grid.transform, grid.first
    down = first[0] + np.arange(grid.height)
    across = first[1] + np.arange(grid.width)
    if source.crs == grid.crs:
        x, y = transform.c + (across + 0.5) * transform.a, transform.f + (down + 0.5) * transform.e
        rows, columns = _in_pixels(source, x, y)
        return np.repeat(rows[:, None], grid.width, 1), np.repeat(columns[None], grid.height, 0)
    first_node = first[0] // KNOT, first[1] // KNOT
    last_node = (first[0] + grid.height) // KNOT + 1, (first[1] + grid.width) // KNOT + 1
    x = transform.c + (np.arange(first_node[1], last_node[1] + 1) * KNOT + 0.5) * transform.a
    y = transform.f + (np.arange(first_node[0], last_node[0] + 1) * KNOT + 0.5) * transform.e
    shape = (len(y), len(x))
    xs, ys = np.broadcast_to(x, shape).ravel(), np.broadcast_to(y[:, None], shape).ravel()
    coordinates = _transformed(grid.crs, source.crs, xs, ys)
    rows, columns = (values.reshape(shape) for values in _in_pixels(source, *coordinates))
    above, left = down // KNOT - first_node[0], across // KNOT - first_node[1]
    u, v = (down % KNOT / KNOT)[:, None], across % KNOT / KNOT
    return _between(rows, above, left, u, v), _between(columns, above, left, u, v)


def _in_pixels(
    source: Grid, x: NDArray[np.floating[Any]], y: NDArray[np.floating[Any]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rows and columns of coordinates, rounded to a millionth of a pixel, so that a pixel's border is met exactly."""
    transform = source.origin or source.transform
    rows, columns = (y - transform.f) / transform.e, (x - transform.c) / transform.a
    return np.round(rows * FINEST) / FINEST, np.round(columns * FINEST) / FINEST


def _transformed(
    from_crs: CRS, to_crs: CRS, x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Coordinates in another CRS; NaN where PROJ knows none."""
    coordinates = np.array(transform_points(from_crs, to_crs, x, y)[:2], np.float64)
    coordinates[:, ~np.isfinite(coordinates).all(axis=0)] = np.nan
    return coordinates[0], coordinates[1]


def _between(
    knots: NDArray[np.float64], above: NDArray[Any], left: NDArray[Any], u: NDArray[Any], v: NDArray[Any]
) -> NDArray[np.float64]:
    """(H, W) between knots: from those `above` and to the `left`, shares `u` down and `v` across towards the next."""
    lines = knots[above] * (1 - u) + knots[above + 1] * u
    return np.asarray(lines[:, left] * (1 - v) + lines[:, left + 1] * v)


def _scale(source: Grid, grid: Grid) -> tuple[float, float]:
    """Source pixels in one pixel of `grid`, down and across, at the corner of the grid that it was cropped from."""
    if source.crs == grid.crs:
        return grid.y_size / source.y_size, grid.x_size / source.x_size
    transform = grid.origin or grid.transform
    left, top = transform.c, transform.f
    x, y = np.array([left, left + transform.a, left]), np.array([top, top, top + transform.e])
    x, y = _transformed(grid.crs, source.crs, x, y)
    down, across = abs(y[2] - y[0]) / source.y_size, abs(x[1] - x[0]) / source.x_size
    return (float(down), float(across)) if np.isfinite(down + across) else (1.0, 1.0)


def _whole_pixel_offset(source: Grid, grid: Grid, tolerance: float = 1e-3) -> tuple[int, int] | None:
    """(row, column) of `grid`'s corner on `source`'s pixels, or None where resampling is needed."""
    if source.crs != grid.crs:
        return None
    if abs(source.x_size / grid.x_size - 1) > SAME_SIZE or abs(source.y_size / grid.y_size - 1) > SAME_SIZE:
        return None
    # The grids that both were cropped from are compared, so that all their windows have the same answer.
    ours, theirs = grid.origin or grid.transform, source.origin or source.transform
    row, column = (theirs.f - ours.f) / source.y_size, (ours.c - theirs.c) / source.x_size
    if abs(row - round(row)) > tolerance or abs(column - round(column)) > tolerance:
        return None
    return (
        round(row) + grid.first[0] - source.first[0],
        round(column) + grid.first[1] - source.first[1],
    )


def _cut_array(values: NDArray[np.float32], window: Window) -> NDArray[np.float32]:
    """(B, h, w) of a window, which may reach beyond the array; NaN there."""
    out = np.full((len(values), window.height, window.width), np.nan, np.float32)
    inside = window.clip((values.shape[1], values.shape[2]))
    if inside.height and inside.width:
        rows, columns = inside.within(window)
        out[:, rows, columns] = values[:, inside.slices[0], inside.slices[1]]
    return out


@contextmanager
def _require_way(path: Path, crs: CRS, other: CRS) -> Iterator[None]:
    """Raise GridError that names the file and both CRSs where PROJ cannot convert between them."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:  # GDAL's own errors, for which rasterio has no public name.
        raise GridError(
            f"{path} is in {crs_name(crs)}, and PROJ cannot convert between that and {crs_name(other)} "
            f"({' '.join(str(error).split())[:200]}). Give it in a CRS of the same body."
        ) from error
