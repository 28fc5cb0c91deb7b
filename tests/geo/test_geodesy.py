"""Sizes on the ellipsoid against closed forms: a zone of the sphere, the scale of UTM, and the length of a degree."""

import math

import numpy as np
import pytest
import shapely
from affine import Affine
from rasterio.crs import CRS

from landslip.geo.geodesy import area_and_perimeter, degrees, ellipsoid, window_area
from landslip.geo.grid import Grid, Window

MARS = CRS.from_wkt(
    'PROJCS["Equirectangular Mars",GEOGCS["Mars",DATUM["Mars",SPHEROID["Mars",3396190,0]],PRIMEM["Greenwich",0],'
    'UNIT["degree",0.0174532925199433]],PROJECTION["Equirectangular"],PARAMETER["standard_parallel_1",0],'
    'PARAMETER["central_meridian",0],PARAMETER["false_easting",0],PARAMETER["false_northing",0],UNIT["metre",1]]'
)
RADIUS = 3396190.0
UTM = CRS.from_epsg(32648)


@pytest.mark.parametrize("latitude", [0.0, 14.0, -60.0])
def test_a_zone_of_mars(latitude: float) -> None:
    # the area between two parallels and two meridians is R^2 (lambda2 - lambda1) (sin phi2 - sin phi1)
    metre = math.radians(1) * RADIUS  # of a degree at the equator, which is this projection's unit everywhere
    box = shapely.segmentize(shapely.box(10 * metre, latitude * metre, 10.5 * metre, (latitude + 0.5) * metre), 500)
    low, high = math.radians(latitude), math.radians(latitude + 0.5)
    expected = RADIUS**2 * math.radians(0.5) * (math.sin(high) - math.sin(low))
    area, perimeter = area_and_perimeter(np.array([box]), MARS)
    assert area[0] == pytest.approx(expected, rel=1e-6)
    around = RADIUS * math.radians(0.5) * (2 + math.cos(low) + math.cos(high))
    assert perimeter[0] == pytest.approx(around, rel=1e-6)
    assert ellipsoid(MARS).a == ellipsoid(MARS).b == RADIUS


def test_the_scale_of_utm() -> None:
    # 0.9996 along the central meridian (Snyder 1987, p. 58): true lengths are longer than those of the grid
    box = shapely.box(499_500, 3_399_500, 500_500, 3_400_500)
    area, perimeter = area_and_perimeter(np.array([box]), UTM)
    assert area[0] == pytest.approx(1e6 / 0.9996**2, rel=1e-6)
    assert perimeter[0] == pytest.approx(4000 / 0.9996, rel=1e-6)


def test_holes_are_taken_off_and_walked_round() -> None:
    outer, hole = (
        shapely.box(499_000, 3_399_000, 501_000, 3_401_000),
        shapely.box(499_900, 3_399_900, 500_100, 3_400_100),
    )
    ring = shapely.difference(outer, hole)
    areas, perimeters = area_and_perimeter(np.array([ring, outer, hole, shapely.reverse(ring)]), UTM)
    assert areas[0] == pytest.approx(areas[1] - areas[2], rel=1e-12) == areas[3]
    assert perimeters[0] == pytest.approx(perimeters[1] + perimeters[2], rel=1e-12) == perimeters[3]


def test_a_local_crs_is_a_plane() -> None:
    local = CRS.from_wkt('LOCAL_CS["mosaic",UNIT["metre",1],AXIS["x",EAST],AXIS["y",NORTH]]')
    areas, perimeters = area_and_perimeter(np.array([shapely.box(0, 0, 30, 20)]), local)
    assert (areas[0], perimeters[0]) == (600, 100)


def test_windows_add_up_to_the_grid() -> None:
    grid = Grid(UTM, Affine(15, 0, 465_000, 0, -15, 3_430_000), 400, 600)
    parts = [window_area(Window(row, column, 200, 200), grid) for row in (0, 200) for column in (0, 200, 400)]
    assert sum(parts) == pytest.approx(window_area(Window(0, 0, 400, 600), grid), rel=1e-7)
    assert window_area(Window(0, 0, 400, 600), grid) == pytest.approx(400 * 600 * 225 / 0.9996**2, rel=1e-4)


def test_nothing_has_no_size() -> None:
    areas, perimeters = area_and_perimeter(np.array([], object), UTM)
    assert areas.shape == perimeters.shape == (0,)


def test_degrees_are_of_the_own_datum() -> None:
    (point,) = degrees(np.array([shapely.Point(500_000, 0)]), UTM)
    assert (point.x, point.y) == pytest.approx((105, 0), abs=1e-9)
