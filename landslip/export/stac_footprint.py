"""Where a raster lies, as STAC wants it said; on Earth, or on another body.

On Earth the geometry is the grid's outline in WGS 84, split at the antimeridian. On another body it is in that body's
own longitude and latitude, -180 to 180, and `ssys:targets` of the item names the body, as in the solar system
extension's examples; a program that does not know the extension will take it for a place on Earth. The body is told by
the radius of the CRS. Where that is no known body's, or the CRS is a local one, the geometry is null and `proj:` alone
says where.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.warp import transform as transform_points
from shapely.geometry.polygon import orient

from landslip.geo.grid import Grid, is_local_metric

# mean radius in km, IAU 2015 (Archinal et al. 2018): nothing else in the solar system is within 1 % of one of them
BODIES = {
    "Mercury": ("planet", 2439.4),
    "Venus": ("planet", 6051.8),
    "Earth": ("planet", 6371.0),
    "Moon": ("satellite", 1737.4),
    "Mars": ("planet", 3389.5),
}


@dataclass(frozen=True)
class Footprint:
    """Where a grid lies: GeoJSON geometry and bounding box in longitude and latitude of `body`; None where unknown."""

    geometry: dict[str, object] | None
    bbox: list[float] | None
    body: str | None


def footprint(grid: Grid) -> Footprint:
    """The outline of a grid, its edges densified, in WGS 84 or in the longitude and latitude of its own body."""
    if is_local_metric(grid.crs):
        return Footprint(None, None, None)
    body, geodetic = _body(grid.crs)
    if body is None:
        return Footprint(None, None, None)
    left, bottom, right, top = grid.bounds
    x, y = np.linspace(left, right, 17), np.linspace(bottom, top, 17)
    ring_x = np.concatenate([x, np.full(16, right), x[-2::-1], np.full(16, left)])
    ring_y = np.concatenate([np.full(17, bottom), y[1:], np.full(16, top), y[-2::-1]])
    lon, lat = (np.asarray(values) for values in transform_points(grid.crs, geodetic, ring_x, ring_y)[:2])
    if not (np.isfinite(lon).all() and np.isfinite(lat).all()):
        return Footprint(None, None, body)
    lon, lat = np.round((lon + 180) % 360 - 180, 7), np.round(lat, 7)
    crosses = lon.max() - lon.min() > 180
    if crosses:  # RFC 7946, 3.1.9 and 5.2: cut there, and the box's west is then larger than its east
        ring = _outline(np.where(lon < 0, lon + 360, lon), lat)
        west, east = ring & shapely.box(-180, -90, 180, 90), ring & shapely.box(180, -90, 540, 90)
        moved = shapely.transform(east, lambda points: points - [360, 0])
        shape = shapely.MultiPolygon([orient(piece) for piece in (west, moved)])
        box = [float(west.bounds[0]), float(lat.min()), float(moved.bounds[2]), float(lat.max())]
    else:
        shape = orient(_outline(lon, lat))
        box = [float(lon.min()), float(lat.min()), float(lon.max()), float(lat.max())]
    return Footprint(shapely.geometry.mapping(shape), box, body)


def _outline(lon: NDArray[np.float64], lat: NDArray[np.float64]) -> shapely.Polygon:
    """A ring without the points that a straight line passes within some decimetres of."""
    return shapely.Polygon(np.column_stack([lon, lat])).simplify(3e-6)


def _body(crs: CRS) -> tuple[str | None, CRS]:
    """The body that a CRS is of, told by its radius, and the CRS of longitude and latitude to use for it."""
    import pyproj

    parsed = pyproj.CRS.from_wkt(crs.to_wkt())
    if parsed.ellipsoid is None or parsed.geodetic_crs is None:
        return None, crs
    radius = parsed.ellipsoid.semi_major_metre / 1000
    body = next((name for name, (_, mean) in BODIES.items() if abs(radius / mean - 1) < 0.01), None)
    return body, CRS.from_epsg(4326) if body == "Earth" else CRS.from_wkt(parsed.geodetic_crs.to_wkt())


def projection(grid: Grid) -> dict[str, object]:
    """A grid as the projection extension has it: a code where there is one, WKT2 where there is none."""
    import pyproj

    code = grid.crs.to_epsg()
    facts: dict[str, object] = {"proj:code": f"EPSG:{code}" if code else None}
    if not code:
        facts["proj:wkt2"] = pyproj.CRS.from_wkt(grid.crs.to_wkt()).to_wkt()
    at = grid.transform
    return facts | {
        "proj:shape": list(grid.shape),
        "proj:transform": [at.a, at.b, at.c, at.d, at.e, at.f],
        "proj:bbox": list(grid.bounds),
    }
