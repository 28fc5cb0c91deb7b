"""True sizes on the body a CRS belongs to: areas and perimeters on its ellipsoid, whatever the projection.

A CRS that belongs to no body (a local one, in metres) is taken as a plane.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import CRS as ProjCRS
from pyproj import Geod, Transformer
from rasterio.crs import CRS

from landslip.geo.grid import Grid, Window, is_local_metric

SOME = 1000  # geometries brought to degrees at a time
EDGES = 8  # points along the side of a window, so that its curved sides are followed


def area_and_perimeter(geometries: NDArray[Any], crs: CRS) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Areas (m2) and perimeters (m) of polygons given in `crs`, (n,) each, on the ellipsoid of its datum.

    Sides are geodesics between the vertices (Karney 2013, as in GeographicLib); holes are taken off areas and added to
    perimeters.
    """
    if is_local_metric(crs):
        return shapely.area(geometries), shapely.length(geometries)
    geod = ellipsoid(crs)
    areas, perimeters = np.zeros(len(geometries)), np.zeros(len(geometries))
    for start in range(0, len(geometries), SOME):  # All at once, the copies in degrees would fill the memory.
        some = slice(start, start + SOME)
        oriented = shapely.orient_polygons(degrees(geometries[some], crs))
        areas[some] = [abs(geod.geometry_area_perimeter(geometry)[0]) for geometry in oriented]
        perimeters[some] = [geod.geometry_length(boundary) for boundary in shapely.boundary(oriented)]  # holes too
    return areas, perimeters


def window_area(window: Window, grid: Grid) -> float:
    """Area of a window of a grid, m2, on the ellipsoid of the grid's datum."""
    box = shapely.segmentize(
        shapely.box(*grid.crop(window).bounds), max(window.height, window.width) * grid.x_size / EDGES
    )
    return float(area_and_perimeter(np.array([box]), grid.crs)[0][0])


def ellipsoid(crs: CRS) -> Geod:
    """The ellipsoid of a CRS's datum: the Earth's, or another body's own."""
    body = ProjCRS.from_wkt(crs.to_wkt()).ellipsoid
    assert body is not None
    return Geod(a=body.semi_major_metre, b=body.semi_minor_metre)


def degrees(geometries: NDArray[Any], crs: CRS) -> NDArray[Any]:
    """Geometries as longitude and latitude, degrees, on the datum of their own CRS."""

    def turned(xy: NDArray[np.float64]) -> NDArray[np.float64]:
        coordinates = geodetic(crs, xy[:, 0], xy[:, 1])
        assert coordinates is not None  # Only a local CRS has no body, and its sizes are those of a plane.
        return np.stack(coordinates, axis=1)

    return np.asarray(shapely.transform(geometries, turned))


def geodetic(
    crs: CRS, x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """(longitude, latitude), degrees on the datum of `crs`, of coordinates in it; None for a CRS of no body."""
    projected = ProjCRS.from_wkt(crs.to_wkt())
    if projected.geodetic_crs is None:
        return None
    longitude, latitude = Transformer.from_crs(projected, projected.geodetic_crs, always_xy=True).transform(x, y)
    return np.asarray(longitude, np.float64), np.asarray(latitude, np.float64)
