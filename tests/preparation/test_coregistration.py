"""Known shifts come back; layers that have nothing in common give no number."""

import re
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from affine import Affine
from click.testing import CliRunner
from conftest import CRS_UTM, GRID, frame
from numpy.typing import NDArray
from rasterio.rio.main import main_group
from real_data import DATA, ROOT
from scipy import ndimage
from shapely import box

from landslip.config.site import Site, read_site
from landslip.demo.synthetic_site import generate, write_site
from landslip.geo.geopackage import write_vector
from landslip.geo.geotiff import write_raster
from landslip.geo.grid import Grid, Window
from landslip.geo.raster import read, read_info
from landslip.geo.rasterize import burn
from landslip.geo.vector import read_vector
from landslip.geo.warp import covering_window
from landslip.preparation import coregistration as co
from landslip.preparation.check import check_site
from landslip.preparation.check_vectors import rank_finding, shift_finding
from landslip.preparation.site_grid import read_outline, site_grid
from landslip.preparation.site_inputs import open_site

MOVED = (2.3, -1.6)  # pixels of the site's grid: columns to the right, rows downwards


@pytest.fixture(scope="module")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The made-up site: its light comes from its DEM, its bands from its landslides, with nothing shifted."""
    folder = tmp_path_factory.mktemp("made_up")
    return write_site(generate(5, (256, 384)), folder)


def at(values: NDArray[Any]) -> Callable[[Window], NDArray[Any]]:
    return lambda window: values[window.slices]


def shifts(path: Path) -> tuple[co.Shift | None, co.Shift | None]:
    site = read_site(path)
    assert site.dem is not None and site.landslides is not None and site.outline is not None
    grid = site_grid(open_site(site))
    inside = burn(read_outline(site.outline, grid.crs).geometry, grid)
    slides = read_vector(site.landslides.path, None, grid.crs)
    label = burn(slides.geometry, grid).astype(np.uint8)
    return co.relief_shift(open_site(site).images, site.dem, grid, at(inside)), co.landslide_shift(
        open_site(site).images, slides, at(label), grid, at(inside)
    )


def with_changes(path: Path, folder: Path, **files: Path) -> Path:
    """A site file of the made-up site with some of its files replaced."""
    text = path.read_text()
    for name in ("image_15m", "image_30m", "dem", "outline", "rivers", "faults", "lithology", "landslides"):
        for suffix in (".tif", ".gpkg"):
            text = text.replace(f'"{name}{suffix}"', f'"{files.get(name, path.parent / (name + suffix))}"')
    (folder / "site.toml").write_text(text)
    return folder / "site.toml"


def moved_dem(path: Path, out: Path, columns: float, rows: float, turned: bool = False) -> Path:
    info, z = read_info(path), read(path)
    transform = Affine.translation(columns * GRID.x_size, -rows * GRID.y_size) @ info.transform
    there = replace(info.grid, transform=transform)
    write_raster(out, z[:, ::-1, ::-1].copy() if turned else z, there, ["elevation"], nodata=-9999.0)
    return out


def test_nothing_is_shifted_where_nothing_was(made_up: Path) -> None:
    relief, slides = shifts(made_up)
    assert relief is not None and slides is not None
    assert relief.pixels < 0.25 and slides.pixels < 0.1
    assert [f.severity for f in check_site(read_site(made_up))] == ["note", "note"]


@pytest.mark.parametrize(("columns", "near"), [(0, True), (20, False)])
def test_a_site_too_small_for_a_shift_is_compared_with_the_places_around(
    made_up: Path, tmp_path: Path, columns: int, near: bool
) -> None:
    moved_dem(made_up.parent / "dem.tif", tmp_path / "dem.tif", columns, 0)
    site = read_site(with_changes(made_up, tmp_path, dem=tmp_path / "dem.tif"))
    assert site.dem is not None
    small = site_grid(open_site(site)).crop(Window(80, 144, 96, 96))
    everywhere = at(np.ones(small.shape, bool))
    rank = co.relief_rank(open_site(site).images, site.dem, small, everywhere)
    assert rank is not None and (rank > 0.99) == near
    said = rank_finding("dem.tif: the DEM", rank)
    assert said.severity == ("note" if near else "warning") and ("was not checked" in said.text) != near
    # a DEM that ends at the site has no places around to compare with
    info = read_info(site.dem.path)
    part = covering_window(info, small, 4)
    z = read(site.dem.path, [1], part)
    write_raster(site.dem.path, z, info.grid.crop(part), ["elevation"], nodata=-9999.0, overwrite=True)
    assert co.relief_rank(open_site(site).images, site.dem, small, everywhere) is None


def test_a_shifted_dem_and_shifted_landslides_are_found(made_up: Path, tmp_path: Path) -> None:
    dem = moved_dem(made_up.parent / "dem.tif", tmp_path / "dem.tif", *MOVED)
    polygons = read_vector(made_up.parent / "landslides.gpkg")
    polygons["geometry"] = polygons.geometry.translate(MOVED[0] * 15, -MOVED[1] * 15)
    write_vector(tmp_path / "landslides.gpkg", polygons)
    changed = with_changes(made_up, tmp_path, dem=dem, landslides=tmp_path / "landslides.gpkg")
    found = shifts(changed)
    for shift in found:
        assert shift is not None
        assert (shift.columns, shift.rows) == pytest.approx(MOVED, abs=0.25)
        assert (shift.east, shift.north) == pytest.approx((15 * shift.columns, -15 * shift.rows))
    warnings = [f.text for f in check_site(read_site(changed)) if f.severity == "warning"]
    assert len(warnings) == 2 and "dem.tif: the DEM lies" in warnings[0] and "landslides lie" in warnings[1]
    assert "m east (2." in warnings[0] and "m north (1." in warnings[0]
    # the command that the warning gives, followed to the letter, puts the DEM right
    words = shlex.split(re.findall(r"`rio (edit-info .*?)`", warnings[0])[0])
    assert CliRunner().invoke(main_group, words).exit_code == 0
    notes = [f.text for f in check_site(read_site(changed)) if f.severity == "note"]
    assert len(notes) == 1 and "dem.tif: the DEM lies" in notes[0] and "within half a pixel" in notes[0]


def test_a_dem_of_another_place_gives_no_number(made_up: Path, tmp_path: Path) -> None:
    dem = moved_dem(made_up.parent / "dem.tif", tmp_path / "dem.tif", 0, 0, turned=True)
    changed = with_changes(made_up, tmp_path, dem=dem)
    assert shifts(changed)[0] is None
    (said,) = [f for f in check_site(read_site(changed)) if "too little in common" in f.text]
    assert "dem.tif" in said.text and said.severity == "warning"


def test_polygons_of_another_place_and_flat_ground_give_no_number(made_up: Path, tmp_path: Path) -> None:
    polygons = read_vector(made_up.parent / "landslides.gpkg")
    left, bottom, right, top = site_grid(open_site(read_site(made_up))).bounds
    polygons["geometry"] = polygons.geometry.affine_transform([-1, 0, 0, -1, left + right, bottom + top])
    write_vector(tmp_path / "landslides.gpkg", polygons)
    info = read_info(made_up.parent / "dem.tif")
    flat = np.full((1, info.height, info.width), 700, np.float32)
    write_raster(tmp_path / "dem.tif", flat, info.grid, ["elevation"], nodata=-9999.0)
    changed = with_changes(made_up, tmp_path, dem=tmp_path / "dem.tif", landslides=tmp_path / "landslides.gpkg")
    assert shifts(changed) == (None, None)


def test_a_mask_is_registered_by_its_own_pixels(made_up: Path, tmp_path: Path) -> None:
    polygons = read_vector(made_up.parent / "landslides.gpkg")
    grid = site_grid(open_site(read_site(made_up)))
    mask = burn(polygons.geometry.translate(4 * grid.x_size, -3 * grid.y_size), grid).astype(np.uint8)
    write_raster(tmp_path / "mask.tif", mask[None], grid, ["mask"])
    changed = with_changes(made_up, tmp_path, landslides=tmp_path / "mask.tif")
    (warning,) = (f.text for f in check_site(read_site(changed)) if f.severity == "warning")
    assert "mask.tif: the landslides lie" in warning and "m east (4.0" in warning and "m south (3.0" in warning
    assert "rio edit-info --transform" in warning


def test_the_same_files_give_the_same_shift(made_up: Path) -> None:
    assert shifts(made_up) == shifts(made_up)


# Arrays


def textures(seed: int, count: int, size: int = 300) -> NDArray[np.float64]:
    random = np.random.default_rng(seed)
    return np.asarray(ndimage.gaussian_filter(random.standard_normal((count, size, size)), (0, 1.5, 1.5), mode="wrap"))


def pieces(image: NDArray[np.float64], layer: NDArray[np.float64]) -> list[co._Covariances]:
    """Nine tiles of an image (B, H, W) and of a layer around them."""
    found = []
    for row in range(30, 240, 70):
        for column in range(30, 240, 70):
            inner, reach = np.s_[:, row : row + 64, column : column + 64], co.SHIFT_REACH
            outer = np.s_[:, row - reach : row + 64 + reach, column - reach : column + 64 + reach]
            core = np.stack([co.local(plane.astype(np.float32), 1.0) for plane in image[inner]])
            rim = [(0, 0), (reach, reach), (reach, reach)]
            around = np.stack([co.local(plane.astype(np.float32), 1.0) for plane in layer[outer]])
            found.append(co._covariances(np.pad(core, rim), around))
    return found


def tiles_around(seed: int) -> list[co._Covariances]:
    return pieces(textures(seed, 2), textures(seed + 100, 1))


@pytest.mark.parametrize("shift", [(0.0, 0.0), (2.3, -1.6), (-7.45, 11.2)])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_shift_by_the_fourier_theorem_comes_back(shift: tuple[float, float], sign: int) -> None:
    """Whatever the sign of the contrast and whichever band shows it; to a twentieth of a pixel."""
    columns, rows = shift
    size = 300
    common, other = textures(1, 2, size)
    moved = np.fft.ifft2(ndimage.fourier_shift(np.fft.fft2(common), (rows, columns))).real
    image = np.stack([other, sign * common + 2 * other])  # neither band shows it alone
    grid = Grid(CRS_UTM, GRID.transform, size, size)
    found = co.shift_of(pieces(image, moved[None]), grid, 1.0)
    assert found is not None
    assert (found.columns, found.rows) == pytest.approx(shift, abs=0.05)


@pytest.mark.parametrize("seed", range(8))
def test_independent_textures_have_no_shift(seed: int) -> None:
    assert co.shift_of(tiles_around(seed), GRID, 1.0) is None


def test_too_few_tiles_and_a_shift_beyond_reach_give_no_number() -> None:
    common = textures(1, 1)
    assert co.shift_of(pieces(common, common), GRID, 1.0) is not None
    assert co.shift_of(pieces(common, common)[:3], GRID, 1.0) is None
    far = np.roll(common, co.SHIFT_REACH + 3, 2)
    assert co.shift_of(pieces(common, far), GRID, 1.0) is None


def test_a_pattern_that_repeats_gives_no_number() -> None:
    """Furrows every 12 pixels both ways fit nearly as well one further: precise, and not to be told."""
    y, x = np.mgrid[0:300, 0:300] * 2 * np.pi / 12
    texture = textures(1, 1)
    pattern = (np.cos(x) + np.cos(y))[None] + 0.5 * texture / texture.std()
    assert co.shift_of(pieces(pattern, pattern), GRID, 1.0) is None


def test_tiles_that_disagree_give_no_number() -> None:
    common = textures(1, 1)
    east, west = (pieces(common, np.roll(common, columns, 2)) for columns in (2, -2))
    assert co.shift_of(east, GRID, 1.0) is not None
    assert co.shift_of(east[:5] + west[5:], GRID, 1.0) is None


def test_local_planes_are_zero_where_undefined_and_know_no_level_or_gain() -> None:
    plane = textures(2, 1)[0].astype(np.float32)
    plane[40:60, 100:130] = np.nan
    found = co.local(plane, 1.0)
    assert (found[np.isnan(plane)] == 0).all() and np.isfinite(found).all()
    np.testing.assert_allclose(co.local(7 * plane + 900, 1.0), found, atol=0.01)
    assert abs(found).max() <= co.MOST_DEVIATIONS
    assert (co.local(np.full((50, 50), np.nan, np.float32), 1.0) == 0).all()


def test_covered_share_of_a_rectangle() -> None:
    left, top = GRID.transform.c, GRID.transform.f
    outline = box(left + 1.25 * 15, top - 3.5 * 15, left + 3.75 * 15, top - 2 * 15)
    share = co.covered_share(frame([outline]), GRID.crop(Window(0, 0, 5, 5)))
    expected = np.zeros((5, 5))
    expected[2:4] = np.outer([1, 0.5], [0, 0.75, 1, 0.75, 0])
    np.testing.assert_array_equal(share, expected)


def test_tiles_are_few_spread_and_inside() -> None:
    inside = np.zeros((5000, 9000), bool)
    inside[:, 4500:] = True
    every = co.candidates(inside.shape, at(inside))
    assert all(window.column >= 4500 - co.LARGEST_TILE and window.height <= co.LARGEST_TILE for window in every)
    some = co.evenly(every, co.MOST_TILES)
    assert len(some) == co.MOST_TILES == len(set(some))
    assert min(w.row for w in some) < 500 and max(w.row for w in some) > 4000
    assert len(co.candidates((128, 128), at(np.ones((128, 128), bool)))) >= 9  # a small site has tiles enough


def test_what_check_says_of_a_shift() -> None:
    shift = co.Shift(east=-6.0, north=3.0, columns=-0.4, rows=-0.2, error=0.05)
    note = shift_finding("dem.tif: the DEM", "its relief", shift, "Move it.")
    assert note.severity == "note" and "Move it" not in note.text
    assert "6.0 m west (0.40 pixels) and 3.0 m north (0.20 pixels)" in note.text
    # 0.4 and 0.4 pixels: 0.57 in all
    warning = shift_finding("x.gpkg: the landslides", "them", replace(shift, rows=0.4, north=-6.0), "Move them.")
    assert warning.severity == "warning" and "6.0 m south" in warning.text and warning.text.endswith("Move them.")


# Real data


def real(name: str, text: str, folder: Path) -> tuple[Site, Grid, NDArray[np.bool_]]:
    if not (DATA / name).exists():
        pytest.skip(f"needs the real data of ../shared/data/{name}, which is not in the repository")
    (folder / "site.toml").write_text(text)
    site = read_site(folder / "site.toml", DATA / name)
    grid = site_grid(open_site(site))
    return site, grid, np.ones(grid.shape, bool)


def test_jiuzhaigous_hillshade_lies_on_its_dem(tmp_path: Path) -> None:
    """A hillshade that others made of the same DEM takes the image's place, on pixels that are not quite square."""
    text = (
        'name = "j"\n[[image]]\npath = "DEM_030_HILLSHADE.tif"\nbands = { pan = 1 }\nnodata = 0\n'
        '[dem]\npath = "DEM_030.tif"\nnodata = 0\n'
    )
    site, grid, inside = real("jiuzhaigou", text, tmp_path)
    assert site.dem is not None
    found = co.relief_shift(open_site(site).images, site.dem, grid, at(inside))
    assert found is not None and found.pixels < 0.1 and found.error < 0.1
    info, z = read_info(site.dem.path), read(site.dem.path, nodata=(0,))
    there = replace(
        info.grid, transform=Affine.translation(MOVED[0] * grid.x_size, -MOVED[1] * grid.y_size) @ info.transform
    )
    write_raster(tmp_path / "moved.tif", z, there, ["elevation"], nodata=-9999.0)
    moved = site.dem.model_copy(update={"path": tmp_path / "moved.tif"})
    found = co.relief_shift(open_site(site).images, moved, grid, at(inside))
    assert found is not None and (found.columns, found.rows) == pytest.approx(MOVED, abs=0.15)


def test_emilias_landslides_lie_on_its_image_and_its_dem_cannot_be_told(tmp_path: Path) -> None:
    """128 x 128 pixels and a 30 m model in whole metres: too little for relief, enough for thirty landslides."""
    text = (ROOT / "sites" / "emilia_romagna.toml").read_text()
    site, _, _ = real("emilia_romagna", text, tmp_path)
    notes = [finding for finding in check_site(site) if "the image" in finding.text]
    assert [note.severity for note in notes] == ["note", "note"]
    assert "too little in common" in notes[0].text and "within half a pixel" in notes[1].text
