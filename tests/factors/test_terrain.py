"""Terrain against closed forms, gdaldem, SAGA and slopes made by others."""

import math
import pathlib
import shutil
import subprocess
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from real_data import DATA

from landslip.errors import GridError
from landslip.factors import terrain

FACTORS: list[Callable[..., NDArray[np.float32]]] = [
    terrain.slope,
    terrain.aspect,
    terrain.aspect_sin_cos,
    terrain.curvature,
    terrain.plan_curvature,
    terrain.profile_curvature,
    terrain.hillshade,
]


def test_every_surface_is_computed() -> None:
    z = (50 * np.random.default_rng(2).random((9, 11))).astype(np.float32)
    names = [surface.name.lower() for surface in terrain.Surface]
    assert np.isfinite(terrain.surfaces(z, 15, 15, names)[:, 1:-1, 1:-1]).all()


INNER = (slice(1, -1), slice(1, -1))
needs_gdaldem = pytest.mark.skipif(shutil.which("gdaldem") is None, reason="gdaldem is not on PATH")


def xy(rows: int, columns: int, x_size: float, y_size: float) -> tuple[NDArray[Any], NDArray[Any]]:
    """Coordinates of pixel centres about the middle one, x east and y north."""
    row, column = np.mgrid[0:rows, 0:columns].astype(float)
    return (column - columns // 2) * x_size, (rows // 2 - row) * y_size


def surface() -> NDArray[np.float32]:
    """The made-up surface of the gdaldem tables below: 7 x 6 pixels of 30 x 20 m."""
    row, column = np.mgrid[0:7, 0:6].astype(float)
    z = 500 + 12 * np.sin(0.9 * column + 0.2 * row) + 9 * np.cos(0.7 * row) - 2 * row
    return z.astype(np.float32)


def read(*parts: str) -> tuple[NDArray[np.float64], float, float]:
    """All bands of a real raster, NaN for its nodata, and its pixel size; skips where absent."""
    path = DATA.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"real data absent: ../shared/data/{'/'.join(parts)}")
    with rasterio.open(path) as source:
        values = source.read().astype(np.float64)
        if source.nodata is not None:
            values[values == source.nodata] = np.nan
        return values, *source.res


def gdaldem(tmp_path: pathlib.Path, z: NDArray[Any], x_size: float, y_size: float, *args: str) -> NDArray[Any]:
    """What gdaldem makes of z (no NaN in it)."""
    place, made = tmp_path / "z.tif", tmp_path / "made.tif"
    profile = {"driver": "GTiff", "height": z.shape[0], "width": z.shape[1], "count": 1, "dtype": "float32"}
    transform = Affine(x_size, 0, 500000, 0, -y_size, 4000000)
    with rasterio.open(place, "w", crs="EPSG:32633", transform=transform, **profile) as target:
        target.write(z.astype(np.float32), 1)
    subprocess.run(["gdaldem", args[0], place, made, "-q", *args[1:]], check=True, timeout=60)
    with rasterio.open(made) as source:
        return source.read(1)


def angle_between(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    return np.abs((a - b + 180) % 360 - 180)


# Closed forms


@settings(max_examples=60)
@given(
    steep=st.floats(0.5, 85),
    towards=st.floats(0, 359.9),
    x_size=st.floats(1, 90),
    y_size=st.floats(1, 90),
    edges=st.sampled_from(["undefined", "one-sided"]),
)
def test_plane(steep: float, towards: float, x_size: float, y_size: float, edges: terrain.Edges) -> None:
    x, y = xy(5, 6, x_size, y_size)
    east, north = math.sin(math.radians(towards)), math.cos(math.radians(towards))
    z = -math.tan(math.radians(steep)) * (x * east + y * north)
    here = (slice(None), slice(None)) if edges == "one-sided" else INNER

    def of(factor: Callable[..., NDArray[np.float32]]) -> NDArray[np.float32]:
        return factor(z, x_size, y_size, edges=edges)[(..., *here)]

    np.testing.assert_allclose(of(terrain.slope), steep, rtol=1e-5)
    assert angle_between(of(terrain.aspect), np.array(towards)).max() < 1e-3
    sin, cos = of(terrain.aspect_sin_cos)
    np.testing.assert_allclose(sin, east, atol=1e-6)
    np.testing.assert_allclose(cos, north, atol=1e-6)
    assert np.abs(of(terrain.curvature)).max() < 1e-7
    light = math.cos(math.radians(towards - 315)) * math.sin(math.radians(steep)) + math.cos(math.radians(steep))
    np.testing.assert_allclose(of(terrain.hillshade), max(0, light / math.sqrt(2)), atol=1e-6)


@settings(max_examples=60)
@given(
    k=st.tuples(*[st.integers(-100, 100).map(lambda n: n / 1e4)] * 3, *[st.floats(-1, 1)] * 2),
    x_size=st.floats(5, 60),
    y_size=st.floats(5, 60),
)
def test_quadratic_surface(k: tuple[float, ...], x_size: float, y_size: float) -> None:
    """z = a x2 + b y2 + c xy + d x + e y has z_xx = 2 a, z_yy = 2 b, z_xy = c everywhere."""
    a, b, c, d, e = k
    x, y = xy(5, 5, x_size, y_size)
    z = a * x**2 + b * y**2 + c * x * y + d * x + e * y
    x, y = x[INNER], y[INNER]
    got = terrain.curvature(z, x_size, y_size)[INNER]
    np.testing.assert_allclose(got, -200 * (a + b), rtol=1e-5, atol=1e-6)
    z_x, z_y = 2 * a * x + c * y + d, 2 * b * y + c * x + e
    steepness = np.hypot(z_x, z_y)
    # The contour turns by the second derivative along itself, the slope line by that along itself.
    along = np.array([z_x, z_y]) / np.where(steepness > 1e-3, steepness, np.nan)
    second = np.array([[2 * a, c], [c, 2 * b]])
    profile = -np.einsum("irc,ij,jrc->rc", along, second, along) / (1 + steepness**2) ** 1.5
    across = np.array([-along[1], along[0]])
    plan = -np.einsum("irc,ij,jrc->rc", across, second, across) / steepness
    seen = np.isfinite(plan)
    got = terrain.profile_curvature(z, x_size, y_size)[INNER]
    np.testing.assert_allclose(got[seen], profile[seen], rtol=1e-4, atol=1e-6)
    got = terrain.plan_curvature(z, x_size, y_size)[INNER]
    np.testing.assert_allclose(got[seen], plan[seen], rtol=1e-4, atol=1e-6)


def test_dome() -> None:
    """On z = -r2 / 2R contours are circles of radius r, and the slope line is a parabola; both convex."""
    radius = 500.0
    x, y = xy(9, 9, 20, 35)
    r = np.hypot(x, y)
    z = -(r**2) / (2 * radius)
    plan, profile = terrain.plan_curvature(z, 20, 35), terrain.profile_curvature(z, 20, 35)
    away = np.zeros(z.shape, bool)
    away[INNER] = r[INNER] > 0
    np.testing.assert_allclose(plan[away], 1 / r[away], rtol=1e-5)
    np.testing.assert_allclose(profile[away], 1 / radius / (1 + (r[away] / radius) ** 2) ** 1.5, rtol=1e-5)
    np.testing.assert_allclose(terrain.curvature(z, 20, 35)[INNER], 100 * 2 / radius, rtol=1e-5)
    assert plan[4, 4] == 0 and profile[4, 4] == 0  # the flat top


def test_flat_ground() -> None:
    """Flat ground is no hole, except in degrees of aspect."""
    z = np.full((4, 5), 1234.5)
    for factor in FACTORS:
        got = factor(z, 30, 30)[(..., *INNER)]
        if factor is terrain.aspect:
            assert np.isnan(got).all()
        elif factor is terrain.hillshade:
            np.testing.assert_allclose(got, math.sin(math.pi / 4), rtol=1e-6)
        else:
            assert (got == 0).all(), factor.__name__


@pytest.mark.parametrize(("azimuth", "altitude"), [(315, 45), (90, 30), (200, 90)])
def test_hillshade_is_brightest_facing_the_light(azimuth: float, altitude: float) -> None:
    x, y = xy(3, 3, 10, 10)
    tilt, turn = math.tan(math.radians(90 - altitude)), math.radians(azimuth)
    z = -tilt * (x * math.sin(turn) + y * math.cos(turn))
    assert terrain.hillshade(z, 10, 10, azimuth=azimuth, altitude=altitude)[1, 1] == pytest.approx(1, abs=1e-6)
    away = terrain.hillshade(-3 * z, 10, 10, azimuth=azimuth, altitude=altitude)[1, 1]
    assert away == pytest.approx(1 if altitude == 90 else 0, abs=1e-6)


def test_aspect_from() -> None:
    degrees = np.array([0, 45, 90, 135, 180, 225, 270, 315])
    sin, cos = np.sin(np.radians(degrees)), np.cos(np.radians(degrees))
    np.testing.assert_allclose(terrain.aspect_from(0.3 * sin, 0.3 * cos), degrees, atol=1e-5)
    assert np.isnan(terrain.aspect_from([0.0, np.nan], [0.0, 1.0])).all()
    # Just west of north is 359.99999999, which is 360 in float32, which is 0.
    assert terrain.aspect_from([-1e-9], [1.0])[0] == 0


def test_aspect_and_its_sine_and_cosine_agree() -> None:
    z = surface()
    degrees = terrain.aspect(z, 30, 20)[INNER]
    sin, cos = terrain.aspect_sin_cos(z, 30, 20)[(..., *INNER)]
    assert angle_between(terrain.aspect_from(sin, cos), degrees).max() < 1e-4
    np.testing.assert_allclose(sin**2 + cos**2, 1, rtol=1e-6)


def test_aspect_due_north_is_zero_not_360() -> None:
    x, y = xy(3, 3, 1, 1)
    assert terrain.aspect(-y + 1e-9 * x, 1, 1)[1, 1] == 0


# Undefined pixels and edges


@pytest.mark.parametrize("factor", FACTORS)
def test_undefined_reaches_exactly_the_neighbours(factor: Callable[..., NDArray[np.float32]]) -> None:
    z = np.random.default_rng(1).normal(500, 20, (9, 10))
    z[3, 4] = np.nan
    z[6, 8] = np.inf
    expected = np.ones(z.shape, bool)
    expected[INNER] = False
    expected[2:5, 3:6] = expected[5:8, 7:10] = True
    with np.errstate(all="raise"):  # nor does it grumble
        got = np.isnan(factor(z, 30, 20))
    np.testing.assert_array_equal(got, np.broadcast_to(expected, got.shape))


@pytest.mark.parametrize("factor", FACTORS)
def test_one_sided_leaves_only_the_holes(factor: Callable[..., NDArray[np.float32]]) -> None:
    z = np.random.default_rng(2).normal(500, 20, (9, 10))
    z[3, 4] = z[0, 0] = z[5, 9] = np.nan
    got = np.isnan(factor(z, 30, 20, edges="one-sided"))
    np.testing.assert_array_equal(got, np.broadcast_to(np.isnan(z), got.shape))
    inside = factor(z, 30, 20)
    defined = ~np.isnan(inside)
    np.testing.assert_array_equal(factor(z, 30, 20, edges="one-sided")[defined], inside[defined])


@settings(max_examples=40)
@given(st.data())
def test_one_sided_is_exact_on_planes_with_holes(data: st.DataObject) -> None:
    """Wherever a pixel still has a neighbour on either axis, the plane's slope comes out."""
    x, y = xy(6, 6, 30, 20)
    z = 0.3 * x - 0.8 * y + 100
    holes = data.draw(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=6))
    for hole in holes:
        z[hole] = np.nan
    there = np.pad(np.isfinite(z), 1)
    both_axes = (there[1:-1, :-2] | there[1:-1, 2:]) & (there[:-2, 1:-1] | there[2:, 1:-1]) & there[1:-1, 1:-1]
    got = terrain.slope(z, 30, 20, edges="one-sided")
    np.testing.assert_allclose(got[both_axes], math.degrees(math.atan(math.hypot(0.3, 0.8))), rtol=1e-5)
    curved = terrain.curvature(z, 30, 20, edges="one-sided")
    np.testing.assert_allclose(curved[np.isfinite(z)], 0, atol=1e-8)


def test_one_sided_with_nothing_around() -> None:
    """A lone pixel takes its own elevation on all sides: flat."""
    lone = np.full((3, 3), np.nan)
    lone[1, 1] = 7
    assert terrain.slope(lone, 30, 30, edges="one-sided")[1, 1] == 0
    assert terrain.slope(np.array([[7.0]]), 30, 30, edges="one-sided")[0, 0] == 0
    assert np.isnan(terrain.slope(np.array([[7.0]]), 30, 30)).all()


# Strips, types, symmetry, refusals


@settings(max_examples=25)
@given(
    rows=st.integers(3, 14),
    columns=st.integers(3, 40),
    cut=st.integers(1, 12),
    seed=st.integers(0, 999),
    edges=st.sampled_from(["undefined", "one-sided"]),
)
def test_same_bytes_in_any_window(rows: int, columns: int, cut: int, seed: int, edges: terrain.Edges) -> None:
    """A part with one pixel more on each side gives the bytes of the whole, at any width of the vector units."""
    random = np.random.default_rng(seed)
    z = random.normal(1000, 200, (rows, columns)).astype(np.float32)
    z[random.random(z.shape) < 0.05] = np.nan
    top, left = min(cut, rows - 2), min(cut, columns - 2)
    for factor in FACTORS:
        whole = factor(z, 31.5, 28.25, edges=edges)[..., top:, left:]
        part = factor(z[top - 1 :, left - 1 :], 31.5, 28.25, edges=edges)[..., 1:, 1:]
        assert part.tobytes() == whole.tobytes(), factor.__name__


def test_all_at_once_are_the_bytes_of_each() -> None:
    z = surface()
    names = ["curvature", "slope", "aspect_cos", "profile_curvature"]
    got = terrain.surfaces(z, 30, 20, names, edges="one-sided")
    alone = [terrain.surfaces(z, 30, 20, [name], edges="one-sided")[0] for name in names]
    assert got.tobytes() == np.stack(alone).tobytes()


def test_angles_are_those_of_numpy() -> None:
    """The polynomial arctangent against numpy's in float64, on all slopes and all directions."""
    random = np.random.default_rng(5)
    z = random.normal(0, 1, (300, 300)) * np.geomspace(1e-3, 3e3, 300)
    p = np.pad(z, 1)  # the rim is not looked at
    k = {(i, j): p[1 + i : 301 + i, 1 + j : 301 + j] for i in (-1, 0, 1) for j in (-1, 0, 1)}
    z_x = ((k[-1, 1] + 2 * k[0, 1] + k[1, 1]) - (k[-1, -1] + 2 * k[0, -1] + k[1, -1])) / (8 * 30)
    z_y = ((k[-1, -1] + 2 * k[-1, 0] + k[-1, 1]) - (k[1, -1] + 2 * k[1, 0] + k[1, 1])) / (8 * 20)
    expected = np.degrees(np.arctan(np.hypot(z_x, z_y)))[INNER]
    got = terrain.slope(z, 30, 20)[INNER]
    assert got.min() < 0.01 and got.max() > 89
    np.testing.assert_allclose(got, expected, rtol=2e-7, atol=0)
    facing = np.degrees(np.arctan2(-z_x, -z_y))[INNER]
    assert angle_between(terrain.aspect(z, 30, 20)[INNER].astype(float), facing).max() < 2e-5


def test_returns_float32_of_the_shape_and_leaves_its_input_alone() -> None:
    z = np.random.default_rng(3).integers(0, 900, (6, 7), dtype=np.int16)
    before = z.copy()
    for factor in FACTORS:
        got = factor(z, 30, 30)
        assert got.dtype == np.float32
        assert got.shape == ((2, 6, 7) if factor is terrain.aspect_sin_cos else (6, 7))
        np.testing.assert_array_equal(got, factor(z.astype(np.float64), 30, 30))
    np.testing.assert_array_equal(z, before)


def test_a_quarter_turn_turns_aspect_by_90_and_nothing_else() -> None:
    z = surface()
    turned = np.rot90(z, -1)  # clockwise: north becomes east
    for factor in FACTORS:
        before = np.rot90(factor(z, 30, 20), -1, axes=(-2, -1))
        after = factor(turned, 20, 30)
        if factor is terrain.aspect:
            before = (before + 90) % 360
        elif factor is terrain.aspect_sin_cos:
            before = np.stack([before[1], -before[0]])
        elif factor is terrain.hillshade:
            after = terrain.hillshade(turned, 20, 30, azimuth=315 + 90)
        np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-6, err_msg=factor.__name__)


@pytest.mark.parametrize("factor", FACTORS)
def test_refuses(factor: Callable[..., NDArray[np.float32]]) -> None:
    z = surface()
    with pytest.raises(GridError, match=r"shape \(1, 7, 6\)"):
        factor(z[None], 30, 20)
    for sizes in [(30, -20), (0, 20), (math.nan, 20)]:
        with pytest.raises(GridError, match=f"{sizes[0]} x {sizes[1]}"):
            factor(z, *sizes)
    with pytest.raises(GridError, match="'none'"):
        factor(z, 30, 20, edges="none")


# gdaldem


def test_kept_gdaldem_values_on_a_made_up_surface() -> None:
    """GDAL 3.6.2 on surface(), written as float32 GeoTIFF in EPSG:32633 with pixels of 30 x 20 m:

    gdaldem slope surface.tif slope.tif
    gdaldem aspect surface.tif aspect.tif
    gdaldem hillshade surface.tif shade.tif     (1 + 254 x shade, rounded)

    Its aspect leaves the pixel size out, so it is right on square pixels only: aspect is compared on those.
    """
    # fmt: off
    slope = [
        [15.68083, 19.36852, 25.89017, 23.66858], [20.26772, 25.58196, 29.82380, 26.22154],
        [18.98866, 25.62141, 28.40464, 23.06035], [12.04311, 21.10804, 22.23449, 13.82237],
        [5.96868, 16.99542, 15.37955, 2.06019],
    ]
    aspect = [
        [220.98651, 149.36575, 130.11116, 134.62053], [199.08154, 148.25260, 136.04855, 145.87796],
        [185.47495, 140.85391, 134.12631, 150.15639], [164.03505, 125.07159, 123.42741, 147.76892],
        [101.11517, 101.52184, 101.49833, 99.94250],
    ]
    shade = [
        [161, 116, 85, 95], [137, 91, 70, 88], [132, 88, 75, 102], [146, 104, 99, 136], [163, 126, 132, 175],
    ]
    # fmt: on
    z = surface()
    np.testing.assert_allclose(terrain.slope(z, 30, 20)[INNER], slope, atol=1e-4)
    np.testing.assert_allclose(terrain.aspect(z, 20, 20)[INNER], aspect, atol=5e-4)
    np.testing.assert_allclose(1 + 254 * terrain.hillshade(z, 30, 20)[INNER], shade, atol=0.51)


# gdaldem slope AW3D30.tif slope.tif; gdaldem aspect AW3D30.tif aspect.tif (GDAL 3.6.2); pixels at random
MUZAFFARABAD = {
    (23, 108): (28.62296, 277.05298),
    (54, 538): (52.09146, 84.14779),
    (274, 619): (40.80148, 169.87036),
    (282, 824): (39.61972, 211.47284),
    (378, 194): (33.69281, 291.91397),
    (462, 1): (40.27496, 242.61064),
    (508, 41): (36.65953, 30.84281),
    (621, 123): (33.85795, 300.43921),
    (661, 471): (40.78912, 251.22223),
    (793, 337): (7.89753, 266.10803),
    (796, 38): (16.20129, 272.01013),
    (965, 158): (34.98828, 111.99620),
}


def test_kept_gdaldem_values_at_muzaffarabad() -> None:
    """gdaldem adds elevations in float32, which costs it up to 6e-4 degrees of slope at 4,000 m."""
    (z,), x_size, y_size = read("muzaffarabad", "AW3D30.tif")
    slope, aspect = terrain.slope(z, x_size, y_size), terrain.aspect(z, x_size, y_size)
    for pixel, (degrees, facing) in MUZAFFARABAD.items():
        assert slope[pixel] == pytest.approx(degrees, abs=1e-3), pixel
        assert aspect[pixel] == pytest.approx(facing, abs=5e-3), pixel


@needs_gdaldem
def test_gdaldem_at_muzaffarabad(tmp_path: pathlib.Path) -> None:
    (z,), x_size, y_size = read("muzaffarabad", "AW3D30.tif")
    z = z[:400, :400]
    slope, aspect = terrain.slope(z, x_size, y_size), terrain.aspect(z, x_size, y_size)
    theirs = gdaldem(tmp_path, z, x_size, y_size, "slope")
    np.testing.assert_array_equal(np.isnan(slope), theirs == -9999)
    np.testing.assert_allclose(slope[INNER], theirs[INNER], atol=1e-3)
    facing = gdaldem(tmp_path, z, x_size, y_size, "aspect")
    np.testing.assert_array_equal(np.isnan(aspect), facing == -9999)
    # Rounding turns gentle slopes further: compare the horizontal part of the ground's normal.
    part = np.radians(angle_between(aspect, facing)) * np.tan(np.radians(slope))
    assert np.nanmax(part) < 5e-5
    shade = 1 + 254 * terrain.hillshade(z, x_size, y_size)[INNER].astype(float)
    assert np.abs(shade - gdaldem(tmp_path, z, x_size, y_size, "hillshade")[INNER]).max() < 0.51


@needs_gdaldem
def test_one_sided_is_gdaldem_compute_edges_but_for_the_corners(tmp_path: pathlib.Path) -> None:
    z = np.random.default_rng(4).normal(500, 20, (20, 30)).astype(np.float32)
    got = terrain.slope(z, 30, 20, edges="one-sided")
    theirs = gdaldem(tmp_path, z, 30, 20, "slope", "-compute_edges")
    for corner in [(0, 0), (0, -1), (-1, 0), (-1, -1)]:
        got[corner] = theirs[corner] = 0
    np.testing.assert_allclose(got, theirs, atol=1e-4)


# Other people's rasters


def test_saga_values_of_southern_ecuador() -> None:
    """SAGA, Zevenbergen & Thorne: plan and profile curvature in 1/m, convex positive."""
    (_, plan, profile, z, _), x_size, y_size = read("southern_ecuador", "ta.tif")
    for factor, theirs in (
        (terrain.profile_curvature, profile),
        (terrain.plan_curvature, plan),
    ):
        got = factor(z, x_size, y_size)
        seen = ~np.isnan(got) & ~np.isnan(theirs)
        assert seen.sum() > 156_000
        # float32's own precision: they were the same bits when this was written
        np.testing.assert_allclose(got[seen], theirs[seen], rtol=1e-6, atol=1e-9, err_msg=factor.__name__)


def test_curvatures_and_sagas_conventions() -> None:
    """SAGA's plan and profile curvature are those of the lines themselves, convex positive; the others follow.

    With s = tan(slope): Zevenbergen & Thorne's own PLANC is -s plan and their PROFC (1 + s2)^1.5 profile, with their
    sign (concave positive) turned for the latter; standard curvature, -100 (z_xx + z_yy), is 100 times the sum of the
    second differences along the contour and along the slope: 100 (s plan + (1 + s2)^1.5 profile).
    """
    (slope, plan, profile, z, _), x_size, y_size = read("southern_ecuador", "ta.tif")
    steep = np.tan(np.radians(slope))
    theirs = 100 * (steep * plan + (1 + steep**2) ** 1.5 * profile)
    got = terrain.curvature(z, x_size, y_size)
    seen = ~np.isnan(got) & ~np.isnan(theirs) & (slope > 0)
    assert seen.sum() > 156_000
    np.testing.assert_allclose(got[seen], theirs[seen], rtol=2e-5, atol=2e-4)
    # both signs occur in both, and half of the ground would fail with either sign turned
    for factor, other in ((terrain.plan_curvature, plan), (terrain.profile_curvature, profile)):
        mine = factor(z, x_size, y_size)
        clear = seen & (np.abs(other) > 1e-4)
        assert (np.sign(mine[clear]) == np.sign(other[clear])).all()
        assert 0.3 < (other[clear] > 0).mean() < 0.7


def test_slope_of_jiuzhaigou() -> None:
    """Made by others by Horn's formula with the true pixel size, 29.997 x 30.0016 m, 0 taken as an elevation.

    So the rim of its footprint shows cliffs. Masking 0 takes the outer ones; others stay, where resampling
    had mixed real elevations with 0 up to two pixels inwards.
    """
    (z,), x_size, y_size = read("jiuzhaigou", "DEM_030.tif")
    (theirs,), _, _ = read("jiuzhaigou", "DEM_030_SLOPE.tif")
    got = terrain.slope(z, x_size, y_size)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(theirs))
    np.testing.assert_allclose(got[INNER], theirs[INNER], atol=1e-5)
    assert np.nanmax(np.abs(terrain.slope(z, 30, 30) - theirs)) > 2e-3  # not 30 m by 30 m


def test_slope_of_valles_marineris() -> None:
    """Made by others by Horn's formula on 232 m pixels; the rim of the tiles was computed before the cut."""
    (z,), x_size, y_size = read("valles_marineris", "elevation.tif")
    (theirs,), _, _ = read("valles_marineris", "slope.tif")
    part = (slice(2048, 2816), slice(5632, 7168))
    got = terrain.slope(z[part], x_size, y_size)
    theirs = theirs[part]
    seen = ~np.isnan(got)
    assert seen.sum() > 500_000
    np.testing.assert_allclose(got[seen], theirs[seen], atol=2e-5)
    rim = np.isnan(got) & ~np.isnan(theirs)
    rim[[0, -1]] = rim[:, [0, -1]] = False
    assert 0 < rim.sum() < 0.02 * seen.sum()
