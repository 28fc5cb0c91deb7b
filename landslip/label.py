"""The label of a site: 1 landslide, 0 not, 255 unknown or outside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
from numpy.typing import NDArray

from landslip.errors import LabelError
from landslip.grid import Grid
from landslip.raster import read_info, read_stored, warp, warp_array
from landslip.site import LandslidesTable
from landslip.vector import burn, read_vector, unburnt

LANDSLIDE, OTHER, UNKNOWN = 1, 0, 255


def read_label(path: Path) -> NDArray[np.uint8]:
    """A label raster as it is stored, (H, W) uint8; LabelError where it holds anything but 1, 0 and 255."""
    return known_label(read_stored(path), path)


def known_label(label: NDArray[Any], path: Path | str) -> NDArray[np.uint8]:
    """Stored label values as uint8; LabelError where they hold anything but 1, 0 and 255."""
    strange = ~np.isin(label, (LANDSLIDE, OTHER, UNKNOWN))
    if strange.any():
        raise LabelError(
            f"{path} holds {label[strange][0]}; a label holds {LANDSLIDE} (landslide), {OTHER} (not) and {UNKNOWN} "
            "(unknown). Prepare it again with landslip, or recode it."
        )
    return label.astype(np.uint8)


def read_landslides(table: LandslidesTable, grid: Grid) -> gpd.GeoDataFrame:
    """Landslide polygons that touch the grid, in its CRS; LabelError for points, lines or none on the grid."""
    frame = read_vector(table.path, table.layer, grid.crs, grid.bounds)
    if frame.empty:
        whole = read_vector(table.path, table.layer, grid.crs)
        if whole.empty:
            raise LabelError(f"{table.path} holds no landslide. Remove [landslides] to prepare and map without.")
        left, bottom, right, top = whole.total_bounds
        raise LabelError(
            f"{table.path} has no landslide on the site: its {len(whole)} lie at x {left:.0f} to {right:.0f}, "
            f"y {bottom:.0f} to {top:.0f}, the site at {grid.describe()}. Check that it is the same place."
        )
    polygons = frame[frame.geom_type.isin(["Polygon", "MultiPolygon"])]
    if len(polygons) < len(frame):
        kinds = ", ".join(sorted(frame.geom_type.unique()))
        raise LabelError(
            f"{table.path} holds {kinds} and not only polygons: an inventory of points says nothing of the ground "
            "that a landslide covers, so it cannot train a map. Digitise the outlines, or remove [landslides] to "
            "prepare and map without."
        )
    return polygons


def burn_label(table: LandslidesTable, grid: Grid, inside: NDArray[np.bool_]) -> tuple[NDArray[np.uint8], list[Any]]:
    """The label (H, W) uint8, 255 outside, and the landslides inside that burn to no pixel (their feature ids).

    Raises LabelError where no landslide pixel lies inside the outline.
    """
    lost: list[Any] = []
    if table.is_raster:
        mask = _read_mask(table, grid)
        label = np.where(np.isnan(mask), UNKNOWN, np.nan_to_num(mask) > 0).astype(np.uint8)
    else:
        frame = read_landslides(table, grid)
        label = burn(frame.geometry, grid, table.burn).astype(np.uint8)
        geometries = list(frame.geometry)
        centres = frame.geometry.representative_point()
        for i in unburnt(geometries, grid, table.burn):
            column = int((centres.iloc[i].x - grid.transform.c) // grid.x_size)
            row = int((grid.transform.f - centres.iloc[i].y) // grid.y_size)
            if 0 <= row < grid.height and 0 <= column < grid.width and inside[row, column]:
                lost.append(frame.index[i])
    label[~inside] = UNKNOWN
    if not (label == LANDSLIDE).any():
        raise LabelError(
            f"{table.path}: no landslide pixel inside the outline ({grid.describe()}, burnt by {table.burn}). "
            'Check the outline and the CRS; where landslides are smaller than a pixel, burn = "touched".'
        )
    return label, lost


def _read_mask(table: LandslidesTable, grid: Grid) -> NDArray[np.float32]:
    """A mask on the grid: 1 landslide, 0 not, NaN unknown or beyond the mask.

    Masks of 0 and 1 often declare 0 as nodata; there it means not a landslide. Beyond the file all is unknown.
    """
    info = read_info(table.path)
    if 0.0 in info.nodata:
        stored = read_stored(table.path)
        if set(np.unique(stored).tolist()) <= {0, 1}:
            mask = warp_array(stored[None].astype(np.float32), info.grid, grid, "nearest")[0]
            return np.asarray(mask)
    mask = warp(table.path, grid, [1], "nearest", (float(UNKNOWN),))[0]
    _require_mask(table, mask)
    return np.asarray(mask)


def _require_mask(table: LandslidesTable, mask: NDArray[np.float32]) -> None:
    values = np.unique(mask[~np.isnan(mask)])
    if len(values) > 2 or (len(values) == 2 and values[0] != 0):
        shown = ", ".join(f"{value:g}" for value in values[:6])
        raise LabelError(
            f"{table.path} is not a landslide mask: it holds {shown}{' ...' if len(values) > 6 else ''}. "
            "A mask holds 1 (landslide), 0 (not) and 255 or nodata (unknown)."
        )
