"""The label of a site: 1 landslide, 0 not, 255 unknown or outside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landslip.config.site_tables import LandslidesTable
from landslip.dataset.label import LANDSLIDE, OTHER, UNKNOWN
from landslip.errors import LabelError
from landslip.geo.grid import Grid, Window, tiles
from landslip.geo.raster import read_info, read_stored
from landslip.geo.rasterize import burn_window, shapes_on, unburnt
from landslip.geo.warp import warp, warp_stored
from landslip.review.landslides import Landslides
from landslip.review.landslides import read_landslides as read_outlines

MASK_WINDOW = 2048  # pixels a side of the windows that masks are read in
MOST_VALUES_SHOWN = 7  # values of a mask that a message lists


@dataclass(frozen=True)
class LabelSource:
    """A site's landslides, read window by window.

    `at` gives the label at a window of the grid, (h, w) uint8, whether inside the outline or not. `unburnt` are the
    landslides that burn to no pixel: the row and column of a pixel in each, and its feature id. `outlines` are the
    polygons that are burnt, None for a mask.
    """

    at: Callable[[Window], NDArray[np.uint8]]
    unburnt: list[tuple[int, int, Any]]
    outlines: Landslides | None = None


def open_label(table: LandslidesTable | None, grid: Grid) -> LabelSource:
    """The label of a site; unknown everywhere where the site has no landslides.

    What a review has left open is unknown too, except where a landslide lies over it. Raises LabelError as
    `_read_site_landslides` does, and for a mask of something else.
    """
    if table is None:
        return LabelSource(lambda window: np.full((window.height, window.width), UNKNOWN, np.uint8), [])
    if table.is_raster:
        return LabelSource(_mask_reader(table, grid), [])
    landslides = _read_site_landslides(table, grid)
    frame = landslides.outlines
    shapes = shapes_on(frame.geometry, grid, table.burn)
    open_shapes = shapes_on(landslides.unknown.geometry, grid, table.burn)
    centres = frame.geometry.representative_point()
    without_pixel = []
    for i in unburnt(list(frame.geometry), grid, table.burn):
        column = int((centres.iloc[i].x - grid.transform.c) // grid.x_size)
        row = int((grid.transform.f - centres.iloc[i].y) // grid.y_size)
        if 0 <= row < grid.height and 0 <= column < grid.width:
            without_pixel.append((row, column, frame.index[i]))

    def at(window: Window) -> NDArray[np.uint8]:
        label = np.where(burn_window(open_shapes, window), np.uint8(UNKNOWN), np.uint8(OTHER))
        label[burn_window(shapes, window)] = LANDSLIDE
        return label

    return LabelSource(at, without_pixel, landslides)


def require_landslides(table: LandslidesTable, grid: Grid, pixels: int) -> None:
    """Raise LabelError where no landslide pixel lies inside the outline, saying what a mask holds instead."""
    if pixels:
        return
    nothing = f"{table.path}: no landslide pixel inside the outline ({grid.describe()}"
    if not table.is_raster:
        raise LabelError(
            f"{nothing}, burnt by {table.burn}). "
            'Check the outline and the CRS; where landslides are smaller than a pixel, burn = "touched".'
        )
    counts = _pixels_by_value(table, grid)
    others = [value for value in counts if value not in (OTHER, *_marks(table)) and value == round(value)]
    remedy = "Check the outline and the CRS."
    if others:
        remedy = f"Where another value marks landslides, say which: [landslides] landslide = {others[-1]:g}."
    raise LabelError(f"{nothing}). On the site's rectangle it holds {_listed(counts)}; {_meaning(table)}. {remedy}")


def _read_site_landslides(table: LandslidesTable, grid: Grid) -> Landslides:
    """Landslide polygons that touch the grid, in its CRS; LabelError for points, lines or none on the grid."""
    landslides = read_outlines(table.path, table.layer, grid.crs, grid.bounds, stated=table.crs)
    if landslides.outlines.empty:
        every = read_outlines(table.path, table.layer, grid.crs, stated=table.crs)
        if every.outlines.empty:
            why = f" ({every.note})" if every.note else ""
            raise LabelError(f"{table.path} holds no landslide{why}. Remove [landslides] to prepare and map without.")
        left, bottom, right, top = every.outlines.total_bounds
        raise LabelError(
            f"{table.path} has no landslide on the site: its {len(every.outlines)} lie at x {left:.0f} to {right:.0f}, "
            f"y {bottom:.0f} to {top:.0f}, the site at {grid.describe()}. Check that it is the same place."
        )
    kinds = sorted({*landslides.outlines.geom_type, *landslides.unknown.geom_type})
    if not set(kinds) <= {"Polygon", "MultiPolygon"}:
        raise LabelError(
            f"{table.path} holds {', '.join(kinds)} and not only polygons: an inventory of points says nothing of the "
            "ground that a landslide covers, so it cannot train a map. Digitise the outlines, or remove [landslides] "
            "to prepare and map without."
        )
    return landslides


def _marks(table: LandslidesTable) -> tuple[int, ...]:
    """The values of a mask that mean landslide."""
    return table.landslide or (LANDSLIDE,)


def _meaning(table: LandslidesTable) -> str:
    """What the values of a mask mean, in words."""
    marks = " or ".join(str(value) for value in _marks(table))
    return f"{marks} is landslide" + ("" if UNKNOWN in _marks(table) else f", {UNKNOWN} unknown")


def _pixels_by_value(table: LandslidesTable, grid: Grid) -> dict[float, int]:
    """The values that a mask holds on the grid, as stored, ascending, each with its number of pixels."""
    counts: dict[float, int] = {}
    for window in tiles(grid.shape, MASK_WINDOW):
        stored = warp_stored(table.path, grid.crop(window))
        for value, count in zip(*np.unique(stored[~np.isnan(stored)], return_counts=True), strict=True):
            counts[float(value)] = counts.get(float(value), 0) + int(count)
    return dict(sorted(counts.items()))


def _listed(counts: dict[float, int]) -> str:
    """Values with their pixels, in words; the first few of many."""
    shown = [f"{value:g} ({count:,} px)" for value, count in list(counts.items())[:MOST_VALUES_SHOWN]]
    if not shown:
        return "nothing"
    if len(counts) > MOST_VALUES_SHOWN:
        return ", ".join(shown) + f" and {len(counts) - MOST_VALUES_SHOWN} more values"
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)


def _mask_reader(table: LandslidesTable, grid: Grid) -> Callable[[Window], NDArray[np.uint8]]:
    """A function that gives the label at a window of the grid, (h, w), from a mask; unknown beyond the file.

    In a mask 1 is landslide, 0 not and 255 unknown, or landslide is what the table's `landslide` says. Masks of 0 and 1
    often declare 0 as nodata; there it means not a landslide. Raises LabelError for a raster that is no mask.
    """
    marks = np.array(_marks(table), np.float32)
    unknown = () if UNKNOWN in table.landslide else (float(UNKNOWN),)

    def read_mask(window: Window) -> NDArray[np.float32]:
        return np.asarray(warp(table.path, grid.crop(window), [1], "nearest", unknown)[0])

    def read_zeros(window: Window) -> NDArray[np.float32]:
        return warp_stored(table.path, grid.crop(window))

    _require_undeclared(table)
    read = read_zeros if _zero_is_declared(table) else read_mask
    if not table.landslide:
        _require_mask(table, read, grid)

    def at(window: Window) -> NDArray[np.uint8]:
        mask = read(window)
        marked = np.isin(mask, marks) if table.landslide else np.nan_to_num(mask) > 0
        return np.where(np.isnan(mask), UNKNOWN, marked).astype(np.uint8)

    return at


def _require_undeclared(table: LandslidesTable) -> None:
    """Raise LabelError where the file calls nodata what the site file calls a landslide."""
    declared = [value for value in table.landslide if float(value) in read_info(table.path).nodata]
    if declared:
        raise LabelError(
            f"{table.path} declares {declared[0]} as nodata, and [landslides] landslide = {declared[0]} takes it for a "
            "landslide. Remove the declaration (rio edit-info does), or give the value that marks landslides."
        )


def _zero_is_declared(table: LandslidesTable) -> bool:
    """Whether a mask declares 0 as nodata and holds nothing else but what means landslide."""
    info = read_info(table.path)
    return 0.0 in info.nodata and all(
        set(np.unique(read_stored(table.path, 1, window)).tolist()) <= {0, *_marks(table)}
        for window in tiles((info.height, info.width), MASK_WINDOW)
    )


def _require_mask(table: LandslidesTable, read: Callable[[Window], NDArray[np.float32]], grid: Grid) -> None:
    """Raise LabelError where a raster holds more than 0 and one other value, `read` at windows of the grid."""
    distinct: set[float] = set()
    for window in tiles(grid.shape, MASK_WINDOW):
        mask = read(window)
        distinct |= set(np.unique(mask[~np.isnan(mask)])[:MOST_VALUES_SHOWN].tolist())
        values = sorted(distinct)
        if len(values) > 2 or (len(values) == 2 and values[0] != 0):
            raise LabelError(
                f"{table.path} is not a landslide mask: it holds {_listed(_pixels_by_value(table, grid))}. A mask "
                "holds 1 (landslide), 0 (not) and 255 or nodata (unknown); where other values mean landslide, say "
                f"which: [landslides] landslide = {values[-1]:g}, or several in brackets."
            )
