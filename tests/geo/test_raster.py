"""Rasters on disk: every kind of nodata, windows beyond the edge, warps against closed forms, damage named."""

import shutil
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.warp import reproject, transform
from real_data import DATA
from scipy.ndimage import gaussian_filter

from landslip.errors import GridError, OutputError, RasterError
from landslip.geo.geotiff import create_raster, find_tiles, write_raster, write_window
from landslip.geo.grid import Grid, Window, same_grid, tiles
from landslip.geo.raster import (
    open_raster,
    read,
    read_info,
    read_stored,
    read_stored_window,
    read_window,
    unreadable_blocks,
)
from landslip.geo.warp import (
    _positions,
    covering_window,
    default_grid,
    warp,
    warp_array,
    warp_stored,
)

UTM = CRS.from_epsg(32643)
WGS = CRS.from_epsg(4326)
EAST, NORTH = 500000.0, 4000000.0


def utm(height: int, width: int, size: float = 30.0, east: float = 0.0, south: float = 0.0) -> Grid:
    return Grid(UTM, Affine(size, 0, EAST + east, 0, -size, NORTH - south), height, width)


def plane(grid: Grid, by_x: float = 3.0, by_y: float = -2.0) -> NDArray[np.float64]:
    """Values by_x (x - EAST) + by_y (y - NORTH) at pixel centres, (H, W)."""
    x = grid.transform.c + (np.arange(grid.width) + 0.5) * grid.x_size
    y = grid.transform.f - (np.arange(grid.height) + 0.5) * grid.y_size
    return by_x * (x - EAST) + by_y * (y[:, None] - NORTH)


def store(path: Path, values: NDArray[np.generic], nodata: float | None = None, grid: Grid | None = None) -> Path:
    """A GeoTIFF written by rasterio alone."""
    grid = grid or utm(*values.shape)
    with rasterio.open(
        path, "w", driver="GTiff", height=grid.height, width=grid.width, count=1, dtype=values.dtype, crs=grid.crs,
        transform=grid.transform, nodata=nodata,
    ) as dataset:  # fmt: skip
        dataset.write(values, 1)
    return path


LOWEST32, LOWEST64 = float(np.finfo(np.float32).min), float(np.finfo(np.float64).min)


@pytest.mark.parametrize(
    ("dtype", "hole", "declared", "given"),
    [
        ("int16", -9999, -9999, ()),
        ("uint8", 0, 0, ()),
        ("float32", LOWEST32, LOWEST32, ()),
        ("float32", -3.4e38, -3.4e38, ()),
        ("float64", LOWEST64, LOWEST64, ()),
        ("float32", np.nan, np.nan, ()),
        ("float32", np.nan, None, ()),
        ("float32", np.inf, None, ()),
        ("float32", -np.inf, -9999, ()),
        ("int16", 0, -9999, (0,)),  # Jiuzhaigou: 0 stands for nodata though -9999 is declared
        ("int32", 2147483647, 2147483647, ()),
        ("uint16", 65535, None, (0, 65535)),
        ("uint8", 7, None, (-9999, 7)),  # a value that the type cannot hold is no fault
        ("float32", -9999, None, (1e300, -9999)),
    ],
)
def test_nodata_of_every_kind_is_nan(
    tmp_path: Path, dtype: str, hole: float, declared: float | None, given: tuple[float, ...]
) -> None:
    values = np.arange(1, 13).reshape(3, 4).astype(dtype)
    values[values == 7] = 6
    values[1, 2] = hole
    path = store(tmp_path / "a.tif", values, declared)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = read(path, nodata=given)
    assert found.dtype == np.float32 and found.shape == (1, 3, 4)
    expected = np.arange(1, 13).reshape(3, 4).astype(np.float32)
    expected[expected == 7] = 6
    expected[1, 2] = np.nan
    np.testing.assert_array_equal(found[0], expected)


def test_nodata_is_compared_before_rounding(tmp_path: Path) -> None:
    # 16777217 is the first whole number float32 cannot hold: its neighbour, which rounds to it, is a value
    values = np.array([[16777217, 16777216]], np.int32)
    found = read(store(tmp_path / "a.tif", values, 16777217))
    assert np.isnan(found[0, 0, 0]) and found[0, 0, 1] == 16777216


def test_nodata_outside_the_type_hides_nothing(tmp_path: Path) -> None:
    # GDAL writes such a header through a VRT: Byte pixels, nodata -9999
    store(tmp_path / "a.tif", np.array([[0, 241, 255]], np.uint8))
    (tmp_path / "a.vrt").write_text(
        '<VRTDataset rasterXSize="3" rasterYSize="1"><SRS>EPSG:32643</SRS>'
        "<GeoTransform>500000,30,0,4000000,0,-30</GeoTransform>"
        '<VRTRasterBand dataType="Byte" band="1"><NoDataValue>-9999</NoDataValue><SimpleSource>'
        '<SourceFilename relativeToVRT="1">a.tif</SourceFilename><SourceBand>1</SourceBand>'
        "</SimpleSource></VRTRasterBand></VRTDataset>"
    )
    np.testing.assert_array_equal(read(tmp_path / "a.vrt")[0], [[0, 241, 255]])


def test_each_band_has_its_own_nodata(tmp_path: Path) -> None:
    values = np.array([[[1, 2, 3]], [[1, 2, 3]]], np.float32)
    for band, hole in ((0, 1), (1, 3)):
        store(tmp_path / f"{band}.tif", values[band], hole)
    bands = "".join(
        f'<VRTRasterBand dataType="Float32" band="{b + 1}"><NoDataValue>{hole}</NoDataValue><SimpleSource>'
        f'<SourceFilename relativeToVRT="1">{b}.tif</SourceFilename><SourceBand>1</SourceBand>'
        "</SimpleSource></VRTRasterBand>"
        for b, hole in ((0, 1), (1, 3))
    )
    path = tmp_path / "two.vrt"
    path.write_text(f'<VRTDataset rasterXSize="3" rasterYSize="1">{bands}</VRTDataset>')
    np.testing.assert_array_equal(read(path), [[[np.nan, 2, 3]], [[1, 2, np.nan]]])
    np.testing.assert_array_equal(read(path, [2]), [[[1, 2, np.nan]]])


def test_dataset_mask_is_nan(tmp_path: Path) -> None:
    store(tmp_path / "a.tif", np.full((2, 3), 5, np.uint8))
    with rasterio.open(tmp_path / "a.tif", "r+") as dataset:
        dataset.write_mask(np.array([[True, False, True], [True, True, False]]))
    found = read(tmp_path / "a.tif")
    np.testing.assert_array_equal(np.isnan(found), [[[0, 1, 0], [0, 0, 1]]])
    assert np.nanmin(found) == np.nanmax(found) == 5


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    row=st.integers(-8, 12), column=st.integers(-8, 14), height=st.integers(1, 20), width=st.integers(1, 20)
)  # fmt: skip
def test_a_window_beyond_the_edge_is_nan_there(tmp_path: Path, row: int, column: int, height: int, width: int) -> None:
    values = np.arange(7 * 9, dtype=np.float32).reshape(7, 9)
    path = tmp_path / "a.tif"
    if not path.exists():
        store(path, values)
    found = read(path, window=Window(row, column, height, width))[0]
    padded = np.pad(values, 40, constant_values=np.nan)  # numpy.pad is the other program
    np.testing.assert_array_equal(found, padded[40 + row :, 40 + column :][:height, :width])


def test_stored_values_stay_as_they_are(tmp_path: Path) -> None:
    values = np.array([[0, 1, 255], [3, 4, 5]], np.uint8)
    path = store(tmp_path / "a.tif", values, 255)
    found = read_stored(path)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, values)
    np.testing.assert_array_equal(read_stored(path, 1, Window(1, 1, 1, 2)), [[4, 5]])


def test_a_raster_on_the_grid_is_cut_not_resampled(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    values = rng.random((40, 50)).astype(np.float32)
    values[3, 4] = np.nan
    path = store(tmp_path / "a.tif", values)
    for method in ("nearest", "bilinear", "cubic"):
        np.testing.assert_array_equal(warp(path, utm(40, 50), resampling=method)[0], values)
        inside = warp(path, utm(10, 12, east=30 * 7, south=30 * 5), resampling=method)[0]
        np.testing.assert_array_equal(inside, values[5:15, 7:19])
        beyond = warp(path, utm(44, 54, east=-60, south=-60), resampling=method)[0]
        np.testing.assert_array_equal(beyond, np.pad(values, 2, constant_values=np.nan))
        nearly = warp(path, utm(10, 12, east=30 * 7 + 0.02, south=30 * 5), resampling=method)[0]  # 0.0007 of a pixel
        np.testing.assert_array_equal(nearly, values[5:15, 7:19])


@pytest.mark.parametrize("method", ["bilinear", "cubic"])
@pytest.mark.parametrize(("size", "shift"), [(30.0, 11.0), (15.0, 0.0), (15.0, 4.0), (20.0, 10.0)])
def test_a_plane_stays_a_plane(tmp_path: Path, method: str, size: float, shift: float) -> None:
    source = utm(60, 70)
    path = store(tmp_path / "a.tif", plane(source).astype(np.float32), grid=source)
    # three source pixels inside the edge, so that no kernel meets it
    grid = utm(40, 40, size, east=90 + shift, south=90 + shift)
    np.testing.assert_allclose(warp(path, grid, resampling=method)[0], plane(grid), atol=0.02)


@pytest.mark.parametrize("method", ["bilinear", "cubic"])
def test_a_plane_stays_a_plane_on_much_larger_pixels(tmp_path: Path, method: str) -> None:
    # 1 m to 15 m: the kernel reaches 15 or 30 source pixels past the grid's edge, and those must have been read
    source = utm(300, 300, 1.0)
    path = store(tmp_path / "a.tif", plane(source).astype(np.float32), grid=source)
    grid = utm(8, 8, 15.0, east=75.5, south=75.5)
    np.testing.assert_allclose(warp(path, grid, resampling=method)[0], plane(grid), atol=0.01)


@pytest.mark.parametrize("method", ["bilinear", "cubic"])
def test_a_plane_of_degrees_in_metres(tmp_path: Path, method: str) -> None:
    second = 1 / 3600
    source = Grid(WGS, Affine(second, 0, 74.9, 0, -second, 36.2), 500, 700)
    lon = 74.9 + (np.arange(700) + 0.5) * second
    lat = 36.2 - (np.arange(500)[:, None] + 0.5) * second
    path = store(tmp_path / "a.tif", ((lon - 75) * 36000 + (lat - 36) * 18000).astype(np.float32), grid=source)
    grid = utm(100, 120, 30.0, east=300, south=300)
    x = (grid.transform.c + (np.arange(120) + 0.5) * 30)[None, :].repeat(100, 0)
    y = (grid.transform.f - (np.arange(100) + 0.5) * 30)[:, None].repeat(120, 1)
    lon_there, lat_there = (np.array(v) for v in transform(UTM, WGS, x.ravel(), y.ravel()))
    expected = ((lon_there - 75) * 36000 + (lat_there - 36) * 18000).reshape(100, 120)
    # ten units a source pixel: GDAL's kernels, widened a little where pixels grow a little, stay within 0.15 of one
    np.testing.assert_allclose(warp(path, grid, resampling=method)[0], expected, atol=1.5)


def test_nearest_keeps_classes(tmp_path: Path) -> None:
    classes = np.where(np.add.outer(np.arange(40), np.arange(40)) % 7 < 3, 1, 9).astype(np.uint8)
    path = store(tmp_path / "a.tif", classes, 0)
    found = warp(path, utm(60, 60, 17.0, east=50, south=50), resampling="nearest")[0]
    assert set(np.unique(found)) == {1, 9}
    # the pixel whose square holds the target's centre: floor of (offset + (i + 0.5) size) / 30
    at = ((50 + (np.arange(60) + 0.5) * 17.0) // 30).astype(int)
    np.testing.assert_array_equal(found, classes[np.ix_(at, at)])


def test_a_hole_stays_a_hole_and_does_not_bleed(tmp_path: Path) -> None:
    values = np.full((30, 30), 100, np.float32)
    values[10:20, 10:20] = -9999
    path = store(tmp_path / "a.tif", values, -9999)
    found = warp(path, utm(40, 40, 20.0, east=30, south=30), resampling="bilinear")[0]
    assert np.isnan(found).any() and np.nanmin(found) == np.nanmax(found) == 100
    # the hole is 300 m across: 15 target pixels, less or more one at its rim
    assert 13**2 <= np.isnan(found).sum() <= 17**2


def test_a_raster_elsewhere_is_nan(tmp_path: Path) -> None:
    path = store(tmp_path / "a.tif", np.ones((9, 9), np.float32))
    for grid in (utm(5, 5, east=90000), utm(5, 5, 11.0, east=-90000), Grid(WGS, Affine(1, 0, 0, 0, -1, 0), 5, 5)):
        assert np.isnan(warp(path, grid)).all() and warp(path, grid).shape == (1, 5, 5)
    assert np.isnan(warp_array(np.zeros((2, 0, 0), np.float32), utm(0, 0), utm(3, 4))).all()


def test_a_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    write_raster(path, np.ones((1, 3, 3), np.float32), utm(3, 3), ["elevation"], None, tags={})
    path.write_bytes(path.read_bytes().replace(b"elevation", b"elev\xe5tion"))
    with pytest.raises(RasterError, match=r"a\.tif cannot be read"):
        read_info(path)


def test_tiles_that_found_no_place_are_missed(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    profile = {"driver": "GTiff", "width": 300, "height": 300, "count": 1, "dtype": "float32", "tiled": True}
    with rasterio.open(path, "w", **profile, blockxsize=256, blockysize=256, sparse_ok=True, nodata=np.nan):
        pass  # as GDAL leaves a file whose directory could not be written: tiles without a place
    with pytest.raises(OutputError, match=r"a\.tif cannot be written"):
        find_tiles(path)


def test_covering_window_holds_the_grid_and_its_margin(tmp_path: Path) -> None:
    source, grid = read_info(store(tmp_path / "a.tif", np.ones((100, 100)))), utm(20, 30, 15.0, east=900, south=600)
    # 900 / 30 = 30 columns and 600 / 30 = 20 rows in, 15 x 10 source pixels, 4 around
    assert covering_window(source, grid) == Window(16, 26, 10 + 8, 15 + 8)
    assert covering_window(source, utm(5, 5)) == Window(0, 0, 9, 9)


@pytest.mark.parametrize("crs", ["+proj=longlat +R=1737400 +no_defs", 'LOCAL_CS["a site",UNIT["metre",1]]'])
def test_a_crs_to_which_no_way_leads_is_refused_by_name(tmp_path: Path, crs: str) -> None:
    path = store(tmp_path / "a.tif", np.ones((10, 10)), grid=replace(utm(10, 10), crs=CRS.from_user_input(crs)))
    for bring in (
        lambda: covering_window(read_info(path), utm(5, 5)),
        lambda: default_grid(read_info(path), UTM, None),
        lambda: warp(path, utm(5, 5)),
        lambda: warp_stored(path, utm(5, 5)),
    ):
        with pytest.raises(GridError, match=r"a\.tif is in .*PROJ cannot convert"):
            bring()


def test_default_grid_has_the_resolution_asked_for(tmp_path: Path) -> None:
    second = 1 / 3600
    grid = Grid(WGS, Affine(second, 0, 74.9, 0, -second, 36.2), 50, 60)
    path = store(tmp_path / "a.tif", np.ones((50, 60), np.float32), grid=grid)
    found = default_grid(read_info(path), UTM, 30.0)
    assert (found.x_size, found.y_size, found.crs) == (30.0, 30.0, UTM)
    # 60 seconds of longitude at 36.19 N are 60 x 30.92 m x cos(36.19) x 1.0017 or so: 1500 m; 50 of latitude, 1541 m
    assert abs(found.width - 50) <= 2 and abs(found.height - 51) <= 2


def test_round_trip_with_names_tags_and_grid(tmp_path: Path) -> None:
    grid = utm(300, 270)
    values = np.random.default_rng(1).random((2, 300, 270)).astype(np.float32)
    values[0, 5, 5] = np.nan
    path = tmp_path / "out" / "stack.tif"
    for compress in (True, False):
        write_raster(
            path,
            values,
            grid,
            ["slope", "aspect_sin"],
            np.nan,
            tags={"threshold": "0.5"},
            compress=compress,
            overwrite=not compress,
        )
        info = read_info(path)
        assert same_grid(info.grid, grid) and info.names == ("slope", "aspect_sin")
        assert info.tags["threshold"] == "0.5" and info.dtypes == ("float32", "float32")
        np.testing.assert_array_equal(read(path), values)
        with rasterio.open(path) as dataset:
            assert dataset.block_shapes == [(256, 256)] * 2
    assert [p.name for p in path.parent.iterdir()] == ["stack.tif"]


def test_mars_keeps_its_crs(tmp_path: Path) -> None:
    mars = CRS.from_proj4("+proj=eqc +R=3396190 +units=m")
    grid = Grid(mars, Affine(232, 0, 0, 0, -232, 0), 5, 6)
    write_raster(tmp_path / "a.tif", np.ones((1, 5, 6), np.uint8), grid, ["label"])
    assert same_grid(read_info(tmp_path / "a.tif").grid, grid)


@pytest.mark.parametrize("interruption", [KeyboardInterrupt(), ValueError("bad")], ids=["ctrl-c", "error"])
def test_an_interrupted_raster_leaves_the_earlier_one(tmp_path: Path, interruption: BaseException) -> None:
    path, grid = tmp_path / "map.tif", utm(20, 20)
    write_raster(path, np.ones((1, 20, 20), np.uint8), grid, ["landslide"])
    before = path.read_bytes()
    again = create_raster(path, grid, "uint8", ["landslide"], 255, overwrite=True)
    with pytest.raises(type(interruption)), again as dataset:
        write_window(dataset, np.zeros((1, 20, 20), np.uint8), Window(0, 0, 20, 20))
        raise interruption
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["map.tif"]


def test_values_that_do_not_fit_the_grid_are_refused(tmp_path: Path) -> None:
    with pytest.raises(GridError, match=r"a\.tif: values of shape \(1, 5, 6\).*1 bands of 6 x 5"):
        write_raster(tmp_path / "a.tif", np.ones((1, 5, 6), np.uint8), utm(6, 5), ["label"])
    assert not list(tmp_path.iterdir())


def truncated(path: Path) -> Path:
    grid = utm(600, 600)
    write_raster(path, np.random.default_rng(0).random((1, 600, 600)).astype(np.float32), grid, ["p"])
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    return path


def test_damaged_files_are_named(tmp_path: Path) -> None:
    path = truncated(tmp_path / "half.tif")
    for attempt in (read, read_stored, lambda p: warp(p, utm(600, 600))):
        with pytest.raises(RasterError, match=r"half\.tif cannot be read.*truncated"):
            attempt(path)
    bad = unreadable_blocks(path)
    assert bad and all(window.height <= 256 for window in bad)
    (tmp_path / "text.tif").write_text("not a raster")
    with pytest.raises(RasterError, match=r"text\.tif cannot be read"):
        read_info(tmp_path / "text.tif")
    with pytest.raises(RasterError, match=r"none\.tif does not exist"):
        read(tmp_path / "none.tif")


def test_of_several_open_files_the_damaged_one_is_named(tmp_path: Path) -> None:
    path = truncated(tmp_path / "half.tif")
    whole = store(tmp_path / "whole.tif", np.ones((600, 600), np.float32))
    last = Window(599, 599, 1, 1)
    with open_raster(path) as damaged, open_raster(whole) as other:
        read_window(other, last)
        with pytest.raises(RasterError, match=r"half\.tif cannot be read"):
            read_window(damaged, last)
    with (
        pytest.raises(RasterError, match=r"half\.tif cannot be read"),
        open_raster(path) as damaged,
        open_raster(whole),
    ):
        read_stored_window(damaged, last)
    # and a fault of an input is not blamed on the output
    out = create_raster(tmp_path / "out.tif", utm(5, 5), "uint8", ["label"], 255)
    with pytest.raises(RasterError, match=r"half\.tif cannot be read"), open_raster(path) as damaged, out:
        read_window(damaged, last)


def test_grids_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    values = np.ones((1, 4, 4), np.uint8)
    for name, crs, affine, fault in (
        ("bare.tif", None, Affine(30, 0, 0, 0, -30, 0), "has no CRS"),
        ("turned.tif", UTM, Affine(30, 5, EAST, 5, -30, NORTH), "rotated or south-up"),
        ("upside.tif", UTM, Affine(30, 0, EAST, 0, 30, NORTH), "rotated or south-up"),
    ):
        with rasterio.open(
            tmp_path / name, "w", driver="GTiff", height=4, width=4, count=1, dtype="uint8", crs=crs, transform=affine
        ) as dataset:
            dataset.write(values)
        with pytest.raises(GridError, match=f"{name[:-4]}.tif.*{fault}"):
            _ = read_info(tmp_path / name).grid


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file where a folder is wanted")
    with pytest.raises(OutputError, match=r"map\.tif cannot be written"):
        write_raster(tmp_path / "run" / "map.tif", np.ones((1, 4, 4), np.uint8), utm(4, 4), ["label"])


# ---- resampling ----


@pytest.mark.parametrize("method", ["nearest", "bilinear", "cubic"])
@pytest.mark.parametrize("size", [13.0, 30.0, 47.0])
def test_resampling_is_gdals(method: str, size: float) -> None:
    """GDAL's warper, its transform exact, is the other program: same holes, values but for its own rounding."""
    random = np.random.default_rng(4)
    source, grid = utm(90, 80), utm(60, 60, size, east=41.7, south=-21.9)
    values = random.normal(100, 20, (1, 90, 80)).astype(np.float32)
    if size > 40:  # GDAL takes the scale of its widened kernels from whole windows: smooth values, and no holes
        values = gaussian_filter(values, (0, 3, 3))
    else:
        values[0][random.random((90, 80)) < 0.03] = np.nan
    expected = np.full(grid.shape, np.nan, np.float32)
    reproject(
        values[0], expected, src_transform=source.transform, src_crs=UTM, src_nodata=np.nan,
        dst_transform=grid.transform, dst_crs=UTM, dst_nodata=np.nan, resampling=Resampling[method], tolerance=0,
    )  # fmt: skip
    found = warp_array(values, source, grid, method)[0]
    assert np.isnan(found).any() and not np.isnan(found).all()
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    np.testing.assert_allclose(found, expected, rtol=1e-5 if size < 40 else 0.01)


@pytest.mark.parametrize("method", ["nearest", "bilinear", "cubic"])
@pytest.mark.parametrize("degrees", [False, True])
def test_a_window_is_resampled_as_the_whole(tmp_path: Path, method: str, degrees: bool) -> None:
    second = 1 / 3600
    source = Grid(WGS, Affine(second, 0, 74.99, 0, -second, 36.2), 200, 220) if degrees else utm(200, 220, 29.997)
    values = np.random.default_rng(1).random((200, 220)).astype(np.float32)
    values[50:60, 80:90] = np.nan
    path = store(tmp_path / "a.tif", values, grid=source)
    size = 20.003
    grid = Grid(UTM, Affine(size, 0, 499_500.1, 0, -size, 4_005_500.3 if degrees else 4_000_300.3), 220, 210)
    whole = warp(path, grid, resampling=method)
    assert 0.1 < np.isfinite(whole).mean() < 1
    for step in (1, 17, 100):
        for window in list(tiles(grid.shape, step))[:: 997 if step == 1 else 1]:
            part = warp(path, grid.crop(window), resampling=method)
            assert part.tobytes() == np.ascontiguousarray(whole[:, window.slices[0], window.slices[1]]).tobytes()
    # cropped in two steps
    twice = grid.crop(Window(7, 9, 100, 100)).crop(Window(20, 30, 50, 40))
    assert (
        warp(path, twice, resampling=method).tobytes()
        == warp(path, grid.crop(Window(27, 39, 50, 40)), None, method).tobytes()
    )


def test_positions_between_two_crss_are_projs() -> None:
    """PROJ at every pixel is the other program; 61 degrees north, 4 degrees from the zone's meridian."""
    second = 1 / 3600
    source = Grid(WGS, Affine(second, 0, 70.5, 0, -second, 61.2), 2000, 3000)
    grid = Grid(UTM, Affine(30.0, 0, 280_000, 0, -30.0, 6_760_000), 300, 310)
    rows, columns = _positions(source, grid)
    x = grid.transform.c + (np.arange(310) + 0.5) * 30
    y = grid.transform.f - (np.arange(300) + 0.5) * 30
    lon, lat = (np.array(v) for v in transform(UTM, WGS, *(axis.ravel() for axis in np.meshgrid(x, y))))
    assert np.abs((61.2 - lat) / second - rows.ravel()).max() < 1e-3
    assert np.abs((lon - 70.5) / second - columns.ravel()).max() < 1e-3


@pytest.mark.skipif(shutil.which("gdalwarp") is None, reason="gdalwarp is not on PATH")
def test_iburi_is_warped_as_gdalwarp_does_without_its_approximation(tmp_path: Path) -> None:
    """gdalwarp -et 0. By default GDAL is up to an eighth of a pixel off, half a metre of elevation on average here."""
    path = DATA / "iburi" / "dsm.tif"
    if not path.exists():
        pytest.skip("real data absent: ../shared/data/iburi")
    grid = default_grid(read_info(path), CRS.from_epsg(32654), None)
    for name, method in (("near", "nearest"), ("bilinear", "bilinear"), ("cubic", "cubic")):
        left, bottom, right, top = map(repr, grid.bounds)
        command = ["gdalwarp", "-q", "-overwrite", "-et", "0", "-r", name, "-t_srs", "EPSG:32654"]
        command += ["-te", left, bottom, right, top, "-ts", str(grid.width), str(grid.height)]
        command += ["-ot", "Float32", "-dstnodata", "nan", str(path), str(tmp_path / "theirs.tif")]
        subprocess.run(command, check=True, timeout=60)
        theirs, found = read(tmp_path / "theirs.tif")[0], warp(path, grid, [1], method)[0]
        np.testing.assert_array_equal(np.isnan(found), np.isnan(theirs))
        apart = np.abs(found - theirs)[~np.isnan(found)]
        assert np.sqrt((apart**2).mean()) < {"nearest": 0.1, "bilinear": 0.05, "cubic": 0.15}[method]


UNPLACED = """
import sys, warnings
from pathlib import Path
import rasterio
from landslip.geo.preview import read_picture
other, open_raster = warnings.catch_warnings(), rasterio.open
def open_late(*arguments, **options):  # while another thread that had begun to catch warnings leaves off
    other.__exit__(None, None, None)
    return open_raster(*arguments, **options)
rasterio.open = open_late
other.__enter__()
read_picture(Path(sys.argv[1]))
"""


def test_rasterio_is_silent_whatever_other_threads_do_about_warnings(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with rasterio.open(path, "w", driver="PNG", width=8, height=8, count=1, dtype="uint8") as file:
            file.write(np.zeros((1, 8, 8), np.uint8))
    run = subprocess.run([sys.executable, "-c", UNPLACED, path], capture_output=True, text=True, check=True)
    assert run.stderr == ""
    with pytest.raises(GridError, match="has no CRS"):  # which we say ourselves
        _ = read_info(path).grid
