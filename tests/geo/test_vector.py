"""Vectors: three ways to burn against hand-made cases, tracing and burning back, files that cannot be used."""

import sqlite3
import warnings
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pyogrio
import pytest
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS
from rasterio.features import rasterize
from real_data import DATA
from scipy import ndimage

from landslip.errors import OutputError, VectorError
from landslip.geo.geopackage import fill_styles, open_vector_writer, write_vector
from landslip.geo.grid import Grid, tiles
from landslip.geo.polygonize import trace
from landslip.geo.raster import read_info
from landslip.geo.rasterize import burn, burn_window, shapes_on, unburnt
from landslip.geo.vector import layer_names, read_vector

UTM = CRS.from_epsg(32643)
GRID = Grid(UTM, Affine(10, 0, 500000, 0, -10, 4000000), 6, 8)


def box(left: float, top: float, right: float, bottom: float) -> shapely.Polygon:
    """A box given in pixels of GRID, from its upper left corner."""
    return shapely.box(500000 + 10 * left, 4000000 - 10 * bottom, 500000 + 10 * right, 4000000 - 10 * top)


# (geometry, what it burns to as {(row, column)}: by centre, by majority, touched). Edges that only meet a pixel are
# left out: whether they touch it is GDAL's affair.
CASES = {
    "nearly whole pixels": (box(1.01, 1.01, 2.99, 1.99), {(1, 1), (1, 2)}, {(1, 1), (1, 2)}, {(1, 1), (1, 2)}),
    "past the centre, not to the half of the next": (box(1, 1, 2.4, 2), {(1, 1)}, {(1, 1)}, {(1, 1), (1, 2)}),
    "past the half": (box(1, 1, 2.7, 2), {(1, 1), (1, 2)}, {(1, 1), (1, 2)}, {(1, 1), (1, 2)}),
    "a corner of each of four": (
        box(1.7, 1.7, 2.3, 2.3),
        set(),
        set(),
        {(1, 1), (1, 2), (2, 1), (2, 2)},
    ),
    "a sliver over a centre": (box(1.45, 1, 1.55, 2), {(1, 1)}, set(), {(1, 1)}),
    # 64 % of the pixel lies in two strips that leave the centre free
    "two strips beside the centre": (
        shapely.MultiPolygon([box(1, 1, 1.4, 2), box(1.6, 1, 2, 2)]),
        set(),
        {(1, 1)},
        {(1, 1)},
    ),
    "outside": (box(-5, -5, -1, -1), set(), set(), set()),
    "half outside": (box(-2, 1.01, 0.99, 1.99), {(1, 0)}, {(1, 0)}, {(1, 0)}),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("how", "at"), [("centre", 1), ("majority", 2), ("touched", 3)])
def test_burning_by_hand(name: str, how: str, at: int) -> None:
    geometry, expected = CASES[name][0], CASES[name][at]
    found = burn([geometry], GRID, how)
    assert {(int(r), int(c)) for r, c in np.argwhere(found)} == expected
    assert unburnt([geometry], GRID, how) == ([] if expected else [0])


@settings(max_examples=40)
@given(st.lists(st.tuples(*[st.floats(-1, 9) for _ in range(4)]), min_size=1, max_size=5))
def test_by_centre_is_the_centre_inside(corners: list[tuple[float, float, float, float]]) -> None:
    # shapely's own test of a point in a polygon is the other program; edges on a centre are left out
    boxes = [box(min(a, c), min(b, d), max(a, c), max(b, d)) for a, b, c, d in corners]
    boxes = [b for b in boxes if b.area > 1e-3]
    found = burn(boxes, GRID)
    x = 500000 + 10 * (np.arange(8) + 0.5)
    y = 4000000 - 10 * (np.arange(6) + 0.5)
    union = shapely.union_all(boxes)
    points = shapely.points(*np.meshgrid(x, y))
    clear = shapely.distance(points, shapely.boundary(union)) > 1e-6 if boxes else np.ones((6, 8), bool)
    np.testing.assert_array_equal(found[clear], shapely.contains(union, points)[clear])
    assert not (found & ~burn(boxes, GRID, "touched")).any()


@settings(max_examples=30)
@given(seed=st.integers(0, 10**6), how=st.sampled_from(["centre", "majority", "touched"]))
def test_unburnt_is_burning_each_by_itself(seed: int, how: str) -> None:
    rng = np.random.default_rng(seed)
    left, top = rng.uniform(-1, 8, 30), rng.uniform(-1, 6, 30)
    size = rng.uniform(0.05, 1.2, (2, 30))
    geometries = [box(*b) for b in zip(left, top, left + size[0], top + size[1], strict=True)]
    geometries += [geometries[0], geometries[0]]  # hidden under one another: still burnt
    expected = [i for i, geometry in enumerate(geometries) if not burn([geometry], GRID, how).any()]
    assert unburnt(geometries, GRID, how) == expected


def test_majority_is_the_same_in_strips() -> None:
    tall = Grid(UTM, Affine(10, 0, 500000, 0, -10, 4000000), 1100, 4)  # more rows than one strip of 512
    found = burn([box(0.3, 510.4, 2.7, 1030.6)], tall, "majority")
    # 0.7 of column 0 and of column 2, all of 1; 0.6 of row 510 and of row 1030: corners 0.42
    expected = np.zeros((1100, 4), bool)
    expected[510:1031, :3] = True
    expected[[510, 510, 1030, 1030], [0, 2, 0, 2]] = False
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("how", ["centre", "majority", "touched"])
def test_a_window_is_that_part_of_the_whole(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where geometries are cut to the squares; and by centre the whole is what GDAL burns at once."""
    monkeypatch.setattr("landslip.geo.rasterize.SQUARE", 64)
    grid = Grid(UTM, Affine(29.997, 0, 512345.6, 0, -30.0016, 3812345.6), 150, 170)
    rng = np.random.default_rng(2)
    x, y = 512345.6 + rng.uniform(-300, 5400, 30), 3812345.6 - rng.uniform(-300, 4800, 30)
    round_ones = list(shapely.buffer(shapely.points(x, y), rng.uniform(5, 600, 30), quad_segs=64))
    lines = [shapely.LineString(np.column_stack((x, y)))] if how == "touched" else []
    geometries = [*round_ones[:20], shapely.union_all(round_ones[20:]), *lines]
    whole = burn(geometries, grid, how)
    if how != "majority":
        at_once = rasterize(geometries, grid.shape, transform=grid.transform, all_touched=how == "touched")
        np.testing.assert_array_equal(whole, at_once == 1)
    monkeypatch.setattr("landslip.geo.rasterize.MANY", 100)
    shapes = shapes_on(geometries, grid, how)
    assert shapes.large.any() and whole.any() and not whole.all()
    for step in (13, 64, 100):
        for window in tiles(grid.shape, step):
            np.testing.assert_array_equal(burn_window(shapes, window), whole[window.slices])


def test_nothing_burns_to_nothing() -> None:
    for how in ("centre", "majority", "touched"):
        assert not burn([], GRID, how).any()
        assert not burn([None, shapely.Polygon()], GRID, how).any()
        assert unburnt([None, box(1, 1, 2, 2), shapely.Polygon()], GRID, how) == [0, 2]
        assert unburnt([], GRID, how) == []


def test_an_unknown_way_to_burn_is_refused() -> None:
    for attempt in (burn, unburnt):
        with pytest.raises(VectorError, match=r"'center'.*centre, majority, touched"):
            attempt([box(1, 1, 2, 2)], GRID, "center")


@settings(max_examples=60)
@given(seed=st.integers(0, 10**6), share=st.floats(0.2, 0.8), eight=st.booleans())
def test_traced_polygons_burn_back(seed: int, share: float, eight: bool) -> None:
    mask = np.random.default_rng(seed).random((12, 15)) < share
    grid = Grid(UTM, Affine(28.55, 0, 512345.6, 0, -30.1, 3812345.6), 12, 15)
    ids, count = ndimage.label(mask, np.ones((3, 3)) if eight else None, output=np.int32)
    frame = trace(ids, grid)
    assert list(frame["id"]) == list(range(1, count + 1))
    assert frame.geometry.is_valid.all()
    for number, geometry in zip(frame["id"], frame.geometry, strict=True):
        np.testing.assert_array_equal(burn([geometry], grid), ids == number)
        assert geometry.area == pytest.approx(np.count_nonzero(ids == number) * 28.55 * 30.1, rel=1e-9)


def test_nothing_traced_has_the_columns_of_something(tmp_path: Path) -> None:
    nothing = trace(np.zeros((6, 8), np.int32), GRID)
    one = trace(np.pad(np.ones((1, 1), np.int32), ((0, 5), (0, 7))), GRID)
    assert list(nothing.columns) == list(one.columns)
    assert nothing["id"].dtype == one["id"].dtype == np.int64
    write_vector(tmp_path / "none.gpkg", nothing, "inventory")
    assert len(read_vector(tmp_path / "none.gpkg", "inventory")) == 0


def test_round_trip_through_a_geopackage(tmp_path: Path) -> None:
    frame = gpd.GeoDataFrame({"id": [1, 2]}, geometry=[box(1, 1, 2, 2), box(3, 3, 5, 4)], crs=UTM.to_wkt())
    path = tmp_path / "out" / "a.gpkg"
    write_vector(path, frame, "inventory")
    assert layer_names(path) == ["inventory"] and [p.name for p in path.parent.iterdir()] == ["a.gpkg"]
    back = read_vector(path, "inventory")
    assert back.crs == frame.crs and list(back.geometry) == list(frame.geometry)
    with pytest.raises(OutputError, match="exists already"):
        write_vector(path, frame, "inventory")
    with pytest.raises(VectorError, match=r"no layer 'slides'; its layers are inventory"):
        read_vector(path, "slides")


def test_mars_survives_a_geopackage(tmp_path: Path) -> None:
    mars = CRS.from_proj4("+proj=eqc +R=3396190 +units=m")
    grid = Grid(mars, Affine(232, 0, 0, 0, -232, 0), 5, 6)
    write_vector(tmp_path / "a.gpkg", trace(np.ones((5, 6), np.int32), grid), "inventory")
    back = read_vector(tmp_path / "a.gpkg", crs=mars)
    assert CRS.from_user_input(back.crs) == mars
    assert back.geometry.iloc[0].area == pytest.approx(30 * 232**2)


def test_reading_reprojects_and_limits(tmp_path: Path) -> None:
    frame = gpd.GeoDataFrame(geometry=[box(1, 1, 2, 2), box(5000, 1, 5001, 2)], crs=UTM.to_wkt())
    frame.to_crs("EPSG:4326").to_file(tmp_path / "a.gpkg")
    near = read_vector(tmp_path / "a.gpkg", crs=UTM, bounds=GRID.bounds)
    assert len(near) == 1
    assert near.geometry.iloc[0].hausdorff_distance(frame.geometry.iloc[0]) < 1e-3  # metres, there and back
    assert len(read_vector(tmp_path / "a.gpkg", crs=UTM)) == 2


def test_heights_and_empty_geometries_are_dropped(tmp_path: Path) -> None:
    flat = box(1, 1, 2, 2)
    frame = gpd.GeoDataFrame(geometry=[shapely.force_3d(flat, 5.0), None, shapely.Polygon()], crs=UTM.to_wkt())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        frame.to_file(tmp_path / "a.gpkg")
    back = read_vector(tmp_path / "a.gpkg")
    assert len(back) == 1 and not back.geometry.has_z.any() and back.geometry.iloc[0].equals(flat)


def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gpd.GeoDataFrame({"a": [1]}, geometry=[box(1, 1, 2, 2)]).to_file(tmp_path / "bare.shp")
    with pytest.raises(VectorError, match=r"bare\.shp has no CRS.*\.prj"):
        read_vector(tmp_path / "bare.shp")
    with pytest.raises(VectorError, match=r"none\.gpkg does not exist"):
        read_vector(tmp_path / "none.gpkg")
    (tmp_path / "text.gpkg").write_text("not a vector file")
    with pytest.raises(VectorError, match=r"text\.gpkg cannot be read"):
        read_vector(tmp_path / "text.gpkg")
    (tmp_path / "table.csv").write_text("a,b\n1,2\n")
    with pytest.raises(VectorError, match=r"table\.csv holds a table without geometries"):
        read_vector(tmp_path / "table.csv")
    whole = tmp_path / "whole.gpkg"
    gpd.GeoDataFrame(geometry=[box(i, 1, i + 1, 2) for i in range(3000)], crs=UTM.to_wkt()).to_file(whole)
    (tmp_path / "half.gpkg").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(VectorError, match=r"half\.gpkg cannot be read"):
        read_vector(tmp_path / "half.gpkg")


@pytest.mark.skipif(not DATA.exists(), reason="real data absent (../shared/data)")
def test_muzaffarabad_polygons_that_burn_to_nothing() -> None:
    # 3,819 polygons cover 1.22 % of the pixels by centre and 3.24 % touched (the data's own description). 1,068 hold no
    # pixel's centre, as shapely's points in polygons say too; burnt together, one more is hidden under its neighbours.
    folder = DATA / "muzaffarabad"
    grid = read_info(folder / "Geology.tif").grid
    geometries = list(read_vector(folder / "landslides.shp", crs=grid.crs).geometry)
    assert len(geometries) == 3819
    found = unburnt(geometries, grid)
    assert len(found) == 1068
    x = grid.transform.c + (np.arange(grid.width) + 0.5) * grid.x_size
    y = grid.transform.f - (np.arange(grid.height) + 0.5) * grid.y_size
    centres = shapely.STRtree(shapely.points(*(axis.ravel() for axis in np.meshgrid(x, y))))
    holding = set(centres.query(geometries, predicate="contains")[0].tolist())
    assert found == sorted(set(range(3819)) - holding)
    assert unburnt(geometries, grid, "touched") == []
    assert 100 * burn(geometries, grid).mean() == pytest.approx(1.22, abs=0.005)
    assert 100 * burn(geometries, grid, "touched").mean() == pytest.approx(3.24, abs=0.005)


LOST = (
    "DELETE FROM 'LAYER'",
    "UPDATE gpkg_ogr_contents SET feature_count = 0 WHERE table_name = 'LAYER'",
    "DELETE FROM rtree_LAYER_geom",
    "DELETE FROM gpkg_spatial_ref_sys WHERE srs_id = 32649",
    "UPDATE gpkg_geometry_columns SET srs_id = -1 WHERE table_name = 'LAYER'",
    "UPDATE gpkg_contents SET min_x = NULL WHERE table_name = 'LAYER'",
    "UPDATE gpkg_contents SET max_y = 0 WHERE table_name = 'LAYER'",
)


@pytest.mark.parametrize("lost", LOST)
def test_what_gdal_could_not_store_while_it_closed_a_file_is_missed(
    lost: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a failing write GDAL leaves out features, the index or the extent, and says nothing."""
    path, features = tmp_path / "a.gpkg", gpd.GeoDataFrame(geometry=[shapely.box(0, 0, 1, 1)], crs="EPSG:32649")

    def losing(write: Callable[..., None], at: int, layer: str) -> Callable[..., None]:
        def written(*given: Any, **named: Any) -> None:
            write(*given, **named)
            if isinstance(given[at], Path):
                with closing(sqlite3.connect(given[at])) as file:
                    file.execute(lost.replace("LAYER", layer))
                    file.commit()

        return written

    write_vector(path, features)
    if lost in LOST[:2]:  # the others are of geometries
        with monkeypatch.context() as patch:
            patch.setattr(pyogrio, "write_dataframe", losing(pyogrio.write_dataframe, 1, "layer_styles"))
            with pytest.raises(OutputError, match=r"\.gpkg cannot be written \(the file holds less"):
                fill_styles(path, path, {"a": "<qgis/>"})
    monkeypatch.setattr(gpd.GeoDataFrame, "to_file", losing(gpd.GeoDataFrame.to_file, 1, "b"))
    with pytest.raises(OutputError, match=r"\.gpkg cannot be written \(the file holds less"):
        write_vector(tmp_path / "b.gpkg", features)
    assert not (tmp_path / "b.gpkg").exists()


@pytest.mark.parametrize("version", ["1.0", "1.1", "1.2", "1.3", "1.4", "without counts"])
def test_a_layer_of_a_geopackage_that_another_program_wrote_is_replaced(version: str, tmp_path: Path) -> None:
    base, path = tmp_path / "base.gpkg", tmp_path / "new.gpkg"
    odd = CRS.from_proj4("+proj=tmerc +lon_0=7 +k=0.9 +a=3396190 +b=3376200 +units=m")
    told = {"driver": "GPKG", "engine": "pyogrio", "VERSION": "1.2" if version == "without counts" else version}
    frame = gpd.GeoDataFrame({"id": [1, 2]}, geometry=[shapely.box(i, 0, i + 1, 1) for i in (0, 5)], crs=odd.to_wkt())
    frame.to_file(base, layer="inventory", GEOMETRY_NAME="shape", SPATIAL_INDEX="NO", **told)
    frame.set_crs("EPSG:3857", allow_override=True).to_file(base, layer="fields", mode="a", **told)
    if version == "without counts":
        with closing(sqlite3.connect(base)) as file:
            names = file.execute("SELECT name FROM sqlite_master WHERE name LIKE 'trigger%feature_count%'").fetchall()
            for (name,) in names:
                file.execute(f"DROP TRIGGER {name}")
            file.execute("DROP TABLE gpkg_ogr_contents")
            file.commit()
    with open_vector_writer(path, path, "inventory", base, multi=True) as add:
        add(frame.iloc[:1])
    fill_styles(path, path, {"inventory": "<qgis/>"})
    assert len(read_vector(path, layer="inventory")) == 1 and len(read_vector(path, layer="fields")) == 2


def test_a_folder_is_no_vector_file(tmp_path: Path) -> None:
    folder = tmp_path / "held"
    folder.mkdir()
    with pytest.raises(VectorError, match=r"held is a folder, and a file is wanted\."):
        read_vector(folder)
    (folder / "a.gpkg").write_bytes(b"")
    with pytest.raises(VectorError, match=r"held is a folder: did you mean .*a\.gpkg\?"):
        read_vector(folder)
