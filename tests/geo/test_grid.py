"""Window and grid arithmetic: laws that hold for every size, and closed forms."""

import numpy as np
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS

from landslip.errors import GridError
from landslip.geo.grid import (
    Grid,
    Window,
    crs_name,
    is_local_metric,
    lattice,
    metric_fault,
    require_metric,
    require_same_grid,
    same_grid,
    starts,
    tiles,
)

UTM = CRS.from_epsg(32649)
side = st.integers(1, 90)
shapes = st.tuples(side, side)
windows = st.builds(Window, st.integers(-40, 90), st.integers(-40, 90), st.integers(0, 60), st.integers(0, 60))


def grid_of(height: int, width: int, size: float = 15.0) -> Grid:
    return Grid(UTM, Affine(size, 0, 500000.0, 0, -size, 3400000.0), height, width)


@given(shape=shapes, size=st.integers(1, 40), step=st.integers(1, 40))
def test_lattice_covers_every_pixel(shape: tuple[int, int], size: int, step: int) -> None:
    if step > size:
        with pytest.raises(GridError, match="leave gaps"):
            list(lattice(shape, size, step))
        return
    seen = np.zeros(shape, int)
    for window in lattice(shape, size, step):
        assert (window.height, window.width) == (size, size)
        # a window reaches beyond an axis only where the axis is shorter than it
        for start, length in ((window.row, shape[0]), (window.column, shape[1])):
            assert start == 0 or start + size <= length
        seen[window.clip(shape).slices] += 1
    assert seen.min() >= 1


@given(length=st.integers(1, 300), size=st.integers(1, 64), step=st.integers(1, 64))
def test_starts_lie_on_the_step_except_the_last(length: int, size: int, step: int) -> None:
    step = min(step, size)
    found = starts(length, size, step)
    assert found == sorted(set(found))
    assert all(start % step == 0 for start in found[:-1])
    assert found[-1] == max(length - size, 0)


def test_paper_lattice_of_site_1() -> None:
    # 616 x 976 pixels, 64 at step 32: (616 - 64) / 32 = 17.25, so 18 starts and one at the edge; (976 - 64) / 32 = 28.5
    found = list(lattice((616, 976), 64, 32))
    assert len(found) == 19 * 30
    assert found[0] == Window(0, 0, 64, 64) and found[-1] == Window(552, 912, 64, 64)
    assert found[1].row == 0 and found[1].column == 32


@given(shape=shapes, size=st.integers(1, 40))
def test_tiles_tile_exactly_once(shape: tuple[int, int], size: int) -> None:
    seen = np.zeros(shape, int)
    for window in tiles(shape, size):
        assert 0 < window.height <= size and 0 < window.width <= size
        assert window.row + window.height <= shape[0] and window.column + window.width <= shape[1]
        seen[window.slices] += 1
    assert (seen == 1).all()


@given(window=windows, shape=shapes)
def test_clip_keeps_what_lies_inside(window: Window, shape: tuple[int, int]) -> None:
    inside = window.clip(shape)
    rows = [r for r in range(window.row, window.row + window.height) if 0 <= r < shape[0]]
    columns = [c for c in range(window.column, window.column + window.width) if 0 <= c < shape[1]]
    assert (inside.height, inside.width) == (len(rows), len(columns))
    if rows and columns:
        assert (inside.row, inside.column) == (rows[0], columns[0])
        assert inside.clip(shape) == inside


@given(window=windows, shape=shapes)
def test_within_finds_the_same_pixels(window: Window, shape: tuple[int, int]) -> None:
    whole = np.arange(shape[0] * shape[1]).reshape(shape)
    inside = window.clip(shape)
    if not (inside.height and inside.width):
        return
    cut = np.full((window.height, window.width), -1)
    rows, columns = inside.within(window)
    cut[rows, columns] = whole[inside.slices]
    for r, c in ((inside.row, inside.column), (inside.row + inside.height - 1, inside.column + inside.width - 1)):
        assert cut[r - window.row, c - window.column] == whole[r, c]
    assert np.count_nonzero(cut >= 0) == inside.height * inside.width


@given(shape=shapes, pixels=st.integers(0, 50), size=st.sampled_from([15.0, 30.0, 28.55, 29.997]))
def test_pad_grows_and_crop_takes_back(shape: tuple[int, int], pixels: int, size: float) -> None:
    grid = grid_of(*shape, size)
    padded = grid.pad(pixels)
    assert padded.shape == (shape[0] + 2 * pixels, shape[1] + 2 * pixels)
    left, bottom, right, top = grid.bounds
    reach = pixels * size
    assert padded.bounds == pytest.approx((left - reach, bottom - reach, right + reach, top + reach))
    assert same_grid(padded.crop(Window(pixels, pixels, *shape)), grid)


@given(outer=windows, inner=windows)
def test_crop_of_crop_is_one_crop(outer: Window, inner: Window) -> None:
    grid = grid_of(80, 80)
    twice = grid.crop(outer).crop(inner)
    once = grid.crop(Window(outer.row + inner.row, outer.column + inner.column, inner.height, inner.width))
    assert twice == once  # exact: 15 m and whole metres have no rounding
    # the corner, by hand: 15 m east for every column and south for every row
    corner = (500000.0 + 15 * (outer.column + inner.column), 3400000.0 - 15 * (outer.row + inner.row))
    assert (twice.transform.c, twice.transform.f) == corner


def test_pixels_that_are_not_square() -> None:
    grid = Grid(CRS.from_epsg(32648), Affine(29.997, 0, 0, 0, -30.0016, 0), 10, 20)
    assert grid.pixel_area == pytest.approx(899.958, abs=1e-3)
    assert grid.bounds == pytest.approx((0, -300.016, 599.94, 0))


@settings(max_examples=40)
@given(shift=st.floats(-0.02, 0.02))
def test_same_grid_within_a_thousandth_of_a_pixel(shift: float) -> None:
    grid = grid_of(50, 70)
    moved = Grid(UTM, Affine(15, 0, 500000.0 + shift * 15, 0, -15, 3400000.0), 50, 70)
    if abs(abs(shift) - 1e-3) > 1e-6:
        assert same_grid(grid, moved) == same_grid(moved, grid) == (abs(shift) <= 1e-3)


def test_different_grids_are_told_apart_and_named() -> None:
    grid = grid_of(50, 70)
    for other in (
        grid_of(50, 71),
        grid_of(50, 70, 15.01),  # the far corner is 0.7 m off
        Grid(CRS.from_epsg(32648), grid.transform, 50, 70),
    ):
        assert not same_grid(grid, other)
        with pytest.raises(GridError, match=r"dem\.tif and label\.tif do not lie on one grid") as error:
            require_same_grid(grid, "dem.tif", other, "label.tif")
        assert grid.describe() in str(error.value) and other.describe() in str(error.value)
    require_same_grid(grid, "a", grid_of(50, 70), "b")


def test_one_crs_in_two_spellings_is_one_grid() -> None:
    grid = grid_of(5, 5)
    assert same_grid(grid, Grid(CRS.from_wkt(UTM.to_wkt()), grid.transform, 5, 5))


@pytest.mark.parametrize(
    ("crs", "fault"),
    [
        (None, "no CRS"),
        (CRS.from_epsg(4326), "geographic"),
        (CRS.from_epsg(2263), "not metres"),  # New York in US survey feet
        (CRS.from_epsg(4978), "not projected"),  # geocentric
        (UTM, None),
        (CRS.from_proj4("+proj=eqc +R=3396190 +units=m"), None),  # Mars has metres too
    ],
)
def test_metric_fault(crs: CRS | None, fault: str | None) -> None:
    found = metric_fault(crs)
    assert (found is None) if fault is None else (found is not None and fault in found)
    if crs is not None and fault:
        with pytest.raises(GridError, match=r"p\.tif"):
            require_metric(Grid(crs, Affine(1, 0, 0, 0, -1, 0), 2, 2), "p.tif")


def test_a_local_crs_in_metres_has_areas_but_is_no_crs_for_a_site() -> None:
    for unit, good in (('"metre",1', True), ('"foot",0.3048', False)):
        crs = CRS.from_wkt(f'LOCAL_CS["nowhere",UNIT[{unit}]]')
        assert "not projected" in str(metric_fault(crs)) and is_local_metric(crs) == good
        grid = Grid(crs, Affine(1, 0, 0, 0, -1, 0), 2, 2)
        if good:
            require_metric(grid, "p.tif")
        else:
            with pytest.raises(GridError, match=r"p\.tif"):
                require_metric(grid, "p.tif")


def test_crs_names() -> None:
    assert crs_name(None) == "no CRS"
    assert crs_name(UTM) == "EPSG:32649"
    mars = CRS.from_proj4("+proj=eqc +R=3396190 +units=m").to_wkt().replace('PROJCS["unknown"', 'PROJCS["Mars"', 1)
    assert crs_name(CRS.from_wkt(mars)) == "Mars"
