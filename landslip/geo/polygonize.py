"""Polygons traced around pixels of one id, window by window, and put together."""

from __future__ import annotations

from typing import Any

import geopandas as gpd
import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio.features import shapes

from landslip.geo.grid import Grid, Window


def trace(ids: NDArray[np.int32], grid: Grid) -> gpd.GeoDataFrame:
    """Polygons around each id > 0 of (H, W) int32, one row an id (column `id`), in the grid's CRS.

    Pieces of one id that meet only at a corner become one multipolygon, so that every geometry is valid.
    """
    pieces = outline(ids, Window(0, 0, *grid.shape))
    order = sorted(pieces)
    placed = place([together(pieces[i]) for i in order], grid)
    return gpd.GeoDataFrame({"id": np.array(order, np.int64)}, geometry=placed, crs=grid.crs.to_wkt())


def outline(ids: NDArray[np.int32], window: Window) -> dict[int, list[Any]]:
    """Polygons around each id > 0 of a window, (h, w) int32, by id, in whole pixels (x column, y row).

    Pixels are exact where metres are rounded, so that what two windows hold of one landslide meets without a gap.
    """
    corner = Affine.translation(window.column, window.row)
    pieces: dict[int, list[Any]] = {}
    for geometry, value in shapes(ids, mask=ids > 0, connectivity=4, transform=corner):
        pieces.setdefault(int(value), []).append(shapely.geometry.shape(geometry))
    return pieces


def join(pieces: list[Any]) -> Any:
    """One geometry from polygons in whole pixels that meet at the borders of windows, without a corner there."""
    return shapely.simplify(shapely.union_all(pieces), 0)


def together(pieces: list[Any]) -> Any:
    """One geometry from polygons that meet at corners at most."""
    return pieces[0] if len(pieces) == 1 else shapely.MultiPolygon(pieces)


def place(geometries: list[Any], grid: Grid) -> NDArray[Any]:
    """Geometries in whole pixels (x column, y row) brought to the grid's CRS; outer rings run counterclockwise."""
    origin = np.array([grid.transform.c, grid.transform.f])
    size = np.array([grid.transform.a, grid.transform.e])
    placed = shapely.transform(np.array(geometries, object), lambda xy: origin + xy * size)
    return np.asarray(shapely.orient_polygons(placed))
