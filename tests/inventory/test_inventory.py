"""The map and the polygons of an inventory agree with one another, with the probabilities, and across every border."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from xml.etree import ElementTree

import geopandas as gpd
import numpy as np
import pyarrow.parquet
import pyogrio
import pytest
import rasterio
import shapely
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio.crs import CRS
from scipy import ndimage

import landslip.inventory.inventory
from landslip.dataset.channels import Channel
from landslip.errors import GridError, OutputError, RasterError, RunError, VectorError
from landslip.geo.geopackage import write_vector
from landslip.geo.geotiff import create_raster, write_raster, write_window
from landslip.geo.grid import Grid, Window, same_grid
from landslip.geo.raster import read_info, read_stored
from landslip.geo.rasterize import burn
from landslip.geo.vector import layer_names, read_vector
from landslip.inventory.inventory import begin_inventory, make_inventory, stack_of
from landslip.plots.qgis_style import MAP_COLOURS

SCALE = 0.9996**2  # of areas on the central meridian of UTM (easting 500,000)
FIRST = ["id", "review", "area_m2", "area_low_m2", "area_high_m2", "perimeter_m", "length_m", "width_m"]
BESIDE = ["i.csv", "i.gpkg", "i.parquet"]


def grid_of(height: int, width: int) -> Grid:
    return Grid(CRS.from_epsg(32648), Affine(29.997, 0, 500000, 0, -30.0016, 3400000), height, width)


def store(folder: Path, probability: NDArray[np.float32], tags: dict[str, str] | None = None) -> Path:
    path = folder / "probability.tif"
    write_raster(
        path, probability[None], grid_of(*probability.shape), ["probability"], np.nan, tags=tags, overwrite=True
    )
    return path


def pieces(mask: NDArray[np.bool_]) -> list[set[tuple[int, int]]]:
    """8-connected pieces by flood fill, one pixel after another: the other program."""
    left = {(int(r), int(c)) for r, c in np.argwhere(mask)}
    found = []
    while left:
        piece, edge = set(), [left.pop()]
        while edge:
            r, c = edge.pop()
            piece.add((r, c))
            near = {(r + i, c + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} & left
            left -= near
            edge += near
        found.append(piece)
    return sorted(found, key=min)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**6), share=st.floats(0.1, 0.7), least=st.integers(0, 6), side=st.sampled_from([5, 1024]))
def test_polygons_and_map_are_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, share: float, least: int, side: int
) -> None:
    monkeypatch.setattr("landslip.inventory.measure.MEASURED_SIDE", side)
    rng = np.random.default_rng(seed)
    grid = grid_of(14, 17)
    probability = rng.random(grid.shape).astype(np.float32)
    probability[rng.random(grid.shape) < 0.1] = np.nan
    threshold = round(1 - share, 3)
    summary = make_inventory(
        store(tmp_path, probability), tmp_path / "i.gpkg", threshold, least * grid.pixel_area, overwrite=True
    )
    frame, classes = read_vector(tmp_path / "i.gpkg", "inventory"), read_stored(tmp_path / "i.tif")

    expected = [piece for piece in pieces(probability >= threshold) if len(piece) >= least]
    assert list(frame.columns)[:8] == FIRST and frame.geometry.is_valid.all()
    assert len(frame) == len(expected) == summary.count
    assert sorted(frame["pixels"]) == sorted(map(len, expected))
    for _, row in frame.iterrows():
        burnt = burn([row.geometry], grid)
        assert {(int(r), int(c)) for r, c in np.argwhere(burnt)} in expected
        inside = probability[burnt].astype(np.float64)
        assert row["pixels"] == burnt.sum()
        assert row.geometry.area == pytest.approx(burnt.sum() * 29.997 * 30.0016)
        assert row["area_m2"] == pytest.approx(burnt.sum() * 29.997 * 30.0016 / SCALE, rel=1e-6)
        assert row["probability_mean"] == pytest.approx(inside.mean(), rel=1e-12)
        assert (row["probability_min"], row["probability_max"]) == (inside.min(), inside.max())
        # sides of pixels that border on another class, counted
        edged = np.pad(burnt, 1)
        across, down = np.diff(edged, axis=1).sum(), np.diff(edged, axis=0).sum()
        assert row["perimeter_m"] == pytest.approx((across * 30.0016 + down * 29.997) / 0.9996, rel=1e-6)

    np.testing.assert_array_equal(burn(frame.geometry, grid), classes == 1)
    np.testing.assert_array_equal(classes == 255, np.isnan(probability))
    assert set(np.unique(classes)) <= {0, 1, 255}
    assert summary.area_m2 == pytest.approx(frame["area_m2"].sum(), rel=1e-12)
    assert summary.area_m2 == pytest.approx((classes == 1).sum() * grid.pixel_area / SCALE, rel=1e-6)
    assert summary.valid_area_m2 == pytest.approx((classes != 255).sum() * grid.pixel_area / SCALE, rel=1e-6)
    assert summary.share == pytest.approx((classes == 1).sum() / (classes != 255).sum())
    small = [len(piece) for piece in pieces(probability >= threshold) if len(piece) < least]
    assert (summary.removed, summary.removed_area_m2) == (len(small), pytest.approx(sum(small) * grid.pixel_area))


def test_no_border_cuts_a_long_landslide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # a diagonal of single pixels, held together by corners only, over every border of the 256-pixel tiles
    monkeypatch.setattr("landslip.inventory.measure.MEASURED_SIDE", 256)
    probability = np.full((800, 800), 0.1, np.float32)
    np.fill_diagonal(probability, 0.8)
    probability[0, 799] = 0.9  # a speck
    summary = make_inventory(store(tmp_path, probability), tmp_path / "i.gpkg")
    frame = read_vector(tmp_path / "i.gpkg")
    assert len(frame) == summary.count == 1 and frame["pixels"].iloc[0] == 800
    assert frame["probability_mean"].iloc[0] == pytest.approx(np.float32(0.8), rel=1e-12)
    assert summary.removed == 1
    assert read_stored(tmp_path / "i.tif")[0, 799] == 0


def test_the_map_says_what_it_is(tmp_path: Path) -> None:
    probability = np.full((9, 9), 0.65, np.float32)
    probability[0, 0] = np.nan
    path = store(tmp_path, probability, {"threshold": "0.6", "model": "abc"})
    summary = make_inventory(path, tmp_path / "out" / "i.gpkg", map_path=tmp_path / "map" / "map.tif")
    assert (summary.threshold, summary.min_area) == (0.6, pytest.approx(4 * 29.997 * 30.0016))
    assert summary.threshold_source == "tag of probability.tif"
    info = read_info(tmp_path / "map" / "map.tif")
    assert same_grid(info.grid, read_info(path).grid)
    assert (info.dtypes, info.nodata, info.names) == (("uint8",), (255.0,), ("landslide",))
    assert (info.tags["threshold"], info.tags["model"]) == ("0.6", "abc")
    assert float(info.tags["min_area"]) == pytest.approx(summary.min_area, rel=1e-5)
    with rasterio.open(info.path) as dataset:
        colours = dataset.colormap(1)
    assert all(colours[value][:3] == colour[:3] for value, colour in MAP_COLOURS.items())
    assert layer_names(tmp_path / "out" / "i.gpkg") == ["inventory", "layer_styles"]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == BESIDE
    assert sorted(p.name for p in (tmp_path / "map").iterdir()) == ["map.qml", "map.tif"]


def test_the_threshold_itself_is_landslide(tmp_path: Path) -> None:
    # 0.7 as float32 is 0.69999999, and a map of 0.7 at threshold 0.7 is all landslide
    path = store(tmp_path, np.full((3, 3), 0.7, np.float32))
    assert make_inventory(path, tmp_path / "i.gpkg", 0.7).count == 1
    assert make_inventory(path, tmp_path / "j.gpkg", 0.701).count == 0


def kinds_of(path: Path) -> dict[str, str]:
    info = pyogrio.read_info(path, layer="inventory")
    return dict(zip(info["fields"], info["dtypes"], strict=True))


def test_nothing_found_is_an_inventory_too(tmp_path: Path) -> None:
    summary = make_inventory(store(tmp_path, np.zeros((6, 6), np.float32)), tmp_path / "i.gpkg")
    assert (summary.count, summary.area_m2, summary.share) == (0, 0, 0)
    kinds = kinds_of(tmp_path / "i.gpkg")
    summary = make_inventory(store(tmp_path, np.ones((6, 6), np.float32)), tmp_path / "j.gpkg")
    assert (summary.count, summary.share) == (1, 1)
    assert kinds == kinds_of(tmp_path / "j.gpkg")
    summary = make_inventory(store(tmp_path, np.full((6, 6), np.nan, np.float32)), tmp_path / "k.gpkg")
    assert summary.count == 0 and np.isnan(summary.share)


def test_what_cannot_be_done_is_refused(tmp_path: Path) -> None:
    path = store(tmp_path, np.full((5, 5), 0.9, np.float32))
    for threshold, min_area in ((1.2, None), (None, -1.0), (None, float("nan"))):
        with pytest.raises(RunError):
            make_inventory(path, tmp_path / "i.gpkg", threshold, min_area)
    with pytest.raises(RasterError, match="from 90 to 90"):
        make_inventory(store(tmp_path, np.full((5, 5), 90, np.float32)), tmp_path / "i.gpkg")
    degrees = Grid(CRS.from_epsg(4326), Affine(0.1, 0, 110, 0, -0.1, 31), 5, 5)
    write_raster(tmp_path / "d.tif", np.ones((1, 5, 5), np.float32), degrees, ["probability"])
    with pytest.raises(GridError, match=r"d\.tif.*degrees"):
        make_inventory(tmp_path / "d.tif", tmp_path / "i.gpkg")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["d.tif", "probability.tif"]


def test_the_input_is_never_written_over(tmp_path: Path) -> None:
    path = store(tmp_path, np.full((5, 5), 0.9, np.float32))
    before = path.read_bytes()
    with pytest.raises(OutputError, match="must be three files"):
        make_inventory(path, tmp_path / "probability.gpkg", overwrite=True)
    assert path.read_bytes() == before


def test_both_outputs_or_neither(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = store(tmp_path, np.full((5, 5), 0.9, np.float32))
    (tmp_path / "i.tif").write_text("earlier")
    with pytest.raises(OutputError, match=r"i\.tif exists already"):
        make_inventory(path, tmp_path / "i.gpkg")
    assert not (tmp_path / "i.gpkg").exists()

    def full(*_: object, **__: object) -> None:
        raise OutputError("the disk is full")

    monkeypatch.setattr(landslip.inventory.inventory, "open_vector_writer", full)
    with pytest.raises(OutputError, match="disk is full"):
        make_inventory(path, tmp_path / "i.gpkg", overwrite=True)
    assert (tmp_path / "i.tif").read_text() == "earlier"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["i.tif", "probability.tif"]


def prepared(folder: Path, shape: tuple[int, int], encoding: str = "planes") -> Path:
    """A run folder's stack with terrain, distances and two classes of rock; returns the probability's place in it."""
    rows, columns = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    soft = (columns < shape[1] / 2).astype(np.float32)
    channels = {
        "elevation": ("elevation", "m", "continuous", 10 * rows),
        "slope": ("slope", "degree", "continuous", columns),
        "distance_to_river": ("distance_to_river", "m", "continuous", 100 + rows + columns),
    }
    if encoding == "planes":
        channels["lithology_soft_rock"] = ("lithology", "", "class", soft)
        channels["lithology_hard"] = ("lithology", "", "class", 1 - soft)
    else:
        channels["lithology"] = ("lithology", "class", "continuous", 2 - soft)
    path = folder / "prepared" / "stack.tif"
    values = np.stack([layer for *_, layer in channels.values()])
    with create_raster(path, grid_of(*shape), "float32", list(channels), float("nan"), overwrite=True) as dataset:
        for band, (name, (factor, unit, kind, _)) in enumerate(channels.items(), start=1):
            dataset.update_tags(band, **Channel(name, factor, "factor", unit, kind).tags())  # type: ignore[arg-type]
        write_window(dataset, values, Window(0, 0, *shape))
    images = [{"path": "a.tif", "scene": "LC08_1", "date": "2015-07-01"}, {"path": "b.tif", "scene": "LC08_1"}]
    (path.parent / "manifest.json").write_text(json.dumps({"site": {"image": images}}))
    (folder / "map").mkdir(exist_ok=True)
    return folder / "map" / "probability.tif"


@pytest.mark.parametrize("encoding", ["planes", "paper"])
@pytest.mark.parametrize("side", [8, 1024])
def test_the_ground_of_a_landslide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str, side: int) -> None:
    monkeypatch.setattr("landslip.inventory.measure.MEASURED_SIDE", side)
    probability = np.full((20, 40), 0.01, np.float32)
    probability[2:12, 10:26] = 0.7  # 10 x 16 pixels, ten columns of them on soft rock, six on hard
    probability[4, 12] = 0.97
    probability[1, 10:26] = 0.2  # below the threshold, above 0.05
    probability[16:18, 30:33] = 0.96
    path = prepared(tmp_path, probability.shape, encoding)
    write_raster(
        path,
        probability[None],
        grid_of(*probability.shape),
        ["landslide probability"],
        np.nan,
        tags={"model_sha256": "ab"},
    )
    assert stack_of(path) == tmp_path / "prepared" / "stack.tif"
    made = make_inventory(path, tmp_path / "i.gpkg", 0.5, stack_path=stack_of(path))
    assert made.count == 2
    frame = read_vector(tmp_path / "i.gpkg", "inventory")
    first, second = frame.iloc[0], frame.iloc[1]
    pixel = grid_of(1, 1).pixel_area / SCALE
    assert (first["elevation_min"], first["elevation_max"], first["height_drop_m"]) == (20, 110, 90)
    assert (first["slope_mean"], first["slope_max"]) == (17.5, 25)
    assert first["distance_to_river_m"] == 112 and np.isnan(first["distance_to_fault_m"])
    names = ("soft rock", "hard") if encoding == "planes" else ("class 1", "class 2")
    assert (first["lithology"], second["lithology"]) == names
    # u = 0.95 holds one pixel; u = 0.05 the outline and the row above it, all nearer to the first landslide
    assert first["area_low_m2"] == pytest.approx(pixel, rel=1e-6)
    assert first["area_high_m2"] == pytest.approx((160 + 16) * pixel, rel=1e-6)
    assert second["area_low_m2"] == second["area_m2"] == second["area_high_m2"] == pytest.approx(6 * pixel, rel=1e-6)
    assert first["length_m"] == pytest.approx(16 * 29.997 / 0.9996, rel=1e-6)
    assert first["width_m"] == pytest.approx(10 * 30.0016 / 0.9996, rel=1e-6)
    assert (first["scene"], first["date"], first["model_sha256"]) == ("LC08_1", "2015-07-01", "ab")
    assert list(frame["review"]) == ["open", "open"]
    table = (tmp_path / "i.csv").read_text().splitlines()
    figures = dict(zip(table[0].split(","), table[1].split(","), strict=True))
    assert (figures["landslides"], float(figures["share_percent"])) == ("2", pytest.approx(100 * 166 / 800))
    parquet = gpd.read_parquet(tmp_path / "i.parquet")
    assert parquet.crs == frame.crs and list(parquet["id"]) == [1, 2]
    assert parquet.geometry.geom_equals(gpd.GeoSeries(frame.geometry.to_numpy(), crs=frame.crs)).all()


def test_a_stack_of_another_grid_is_refused(tmp_path: Path) -> None:
    path = prepared(tmp_path, (20, 40))
    write_raster(path, np.ones((1, 20, 41), np.float32), grid_of(20, 41), ["landslide probability"], np.nan)
    with pytest.raises(GridError, match="do not lie on one grid"):
        make_inventory(path, tmp_path / "i.gpkg", stack_path=stack_of(path))


def test_ids_and_reviews_stay_where_outlines_overlap(tmp_path: Path) -> None:
    probability = np.zeros((30, 30), np.float32)
    for row in (2, 10, 20):
        probability[row : row + 4, 5:15] = 0.9
    out = tmp_path / "i.gpkg"
    make_inventory(store(tmp_path, probability), out)
    frame = read_vector(out, "inventory")
    assert list(frame["id"]) == [1, 2, 3]
    frame.loc[frame["id"] == 2, "review"] = "rejected"
    write_vector(out, frame, "inventory", overwrite=True)
    reviews = gpd.GeoDataFrame({"landslide": [9, 2]}, geometry=[frame.geometry.iloc[0]] * 2, crs=frame.crs)
    pyogrio.write_dataframe(reviews, out, layer="review", driver="GPKG")

    probability[2:6] = 0  # the first is gone, the others have moved, a new one lies between them
    probability[:, 6:16] = probability[:, 5:15]
    probability[0:2, 20:29] = 0.8
    made = make_inventory(store(tmp_path, probability), out, overwrite=True)
    frame = read_vector(out, "inventory")
    assert made.kept == 2
    assert list(frame["id"]) == [10, 2, 3]  # 9 was reviewed once and is not given again
    assert list(frame["review"]) == ["open", "rejected", "open"]
    assert set(layer_names(out)) == {"inventory", "review", "layer_styles"}
    assert list(read_vector(out, "review")["landslide"]) == [9, 2]

    other = tmp_path / "other.gpkg"
    make_inventory(tmp_path / "probability.tif", other)
    assert list(read_vector(other, "inventory")["id"]) == [1, 2, 3]
    make_inventory(tmp_path / "probability.tif", other, overwrite=True, previous=out)
    assert list(read_vector(other, "inventory")["id"]) == [10, 2, 3]
    assert list(read_vector(other, "inventory")["review"]) == ["open", "rejected", "open"]


@pytest.mark.parametrize("odd", [np.nan, -5.0, 2.5, 1e19])
def test_ids_that_no_inventory_gives_are_not_kept(tmp_path: Path, odd: float) -> None:
    probability = np.zeros((20, 30), np.float32)
    probability[2:6, 5:15] = probability[10:14, 5:15] = 0.9
    out = tmp_path / "i.gpkg"
    make_inventory(store(tmp_path, probability), out)
    frame = read_vector(out, "inventory")
    write_vector(out, frame.assign(id=[odd, 7.0]), "inventory", overwrite=True)
    make_inventory(tmp_path / "probability.tif", out, overwrite=True)
    assert list(read_vector(out, "inventory")["id"]) == [8, 7]


def test_other_layers_of_the_file_that_is_replaced_stay(tmp_path: Path) -> None:
    path, out = store(tmp_path, np.full((9, 9), 0.9, np.float32)), tmp_path / "i.gpkg"
    make_inventory(path, out)
    notes = gpd.GeoDataFrame({"text": ["look here"]}, geometry=[shapely.Point(500_050, 3_399_950)], crs="EPSG:32648")
    pyogrio.write_dataframe(notes, out, layer="notes", driver="GPKG")
    make_inventory(path, out, 0.95, overwrite=True)
    assert list(read_vector(out, "notes")["text"]) == ["look here"] and read_vector(out, "inventory").empty
    make_inventory(path, tmp_path / "other.gpkg", previous=out)
    assert "notes" not in layer_names(tmp_path / "other.gpkg")


def test_a_file_with_reviews_and_no_inventory_is_not_replaced(tmp_path: Path) -> None:
    path, out = store(tmp_path, np.full((9, 9), 0.9, np.float32)), tmp_path / "i.gpkg"
    reviews = gpd.GeoDataFrame({"landslide": [1]}, geometry=[shapely.box(0, 0, 1, 1)], crs="EPSG:32648")
    pyogrio.write_dataframe(reviews, out, layer="review", driver="GPKG")
    before = out.read_bytes()
    with pytest.raises(OutputError, match=r"i\.gpkg is to be replaced, and cannot be read to keep its ids"):
        make_inventory(path, out, overwrite=True)
    assert out.read_bytes() == before


def test_what_is_not_an_inventory_keeps_no_ids(tmp_path: Path) -> None:
    path = store(tmp_path, np.full((9, 9), 0.9, np.float32))
    with pytest.raises(VectorError, match=r"none\.gpkg does not exist"):
        make_inventory(path, tmp_path / "i.gpkg", previous=tmp_path / "none.gpkg")
    (tmp_path / "i.gpkg").write_bytes(b"not a GeoPackage")
    with pytest.raises(OutputError, match=r"i\.gpkg is to be replaced, and cannot be read"):
        make_inventory(path, tmp_path / "i.gpkg", overwrite=True)


def test_simplified_neighbours_stay_apart_and_keep_their_area(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    rough = ndimage.gaussian_filter(rng.random((120, 120)), 3)
    probability = ((rough - rough.min()) / np.ptp(rough)).astype(np.float32)
    path = store(tmp_path, probability)
    make_inventory(path, tmp_path / "a.gpkg", 0.5)
    made = make_inventory(path, tmp_path / "b.gpkg", 0.5, simplify=60)
    whole, simple = (read_vector(tmp_path / name, "inventory") for name in ("a.gpkg", "b.gpkg"))
    assert len(simple) == made.count == len(whole) > 5 and simple.geometry.is_valid.all()
    assert shapely.get_num_coordinates(simple.geometry).sum() < 0.5 * shapely.get_num_coordinates(whole.geometry).sum()
    assert simple.geometry.area.sum() == pytest.approx(whole.geometry.area.sum(), rel=0.02)
    assert shapely.union_all(simple.geometry.to_numpy()).area == pytest.approx(simple.geometry.area.sum(), rel=1e-9)
    np.testing.assert_array_equal(whole["area_m2"], simple["area_m2"])  # of the mapped pixels
    with pytest.raises(RunError, match="--simplify -1"):
        make_inventory(path, tmp_path / "c.gpkg", 0.5, simplify=-1)


def test_the_rasters_are_cloud_optimized(tmp_path: Path) -> None:
    cogeo = pytest.importorskip("rio_cogeo", reason="rio-cogeo checks that a GeoTIFF is cloud-optimized")
    probability = np.random.default_rng(0).random((1300, 700)).astype(np.float32)
    make_inventory(store(tmp_path, probability), tmp_path / "i.gpkg", 0.999)
    valid, errors, warnings = cogeo.cog_validate(str(tmp_path / "i.tif"), strict=True)
    assert (valid, errors, warnings) == (True, [], [])
    with rasterio.open(tmp_path / "i.tif") as dataset:
        assert dataset.overviews(1) == [2, 4]
        assert set(np.unique(dataset.read(1, out_shape=(325, 175)))) <= {0, 1, 255}


def test_qgis_finds_the_style_in_the_geopackage(tmp_path: Path) -> None:
    make_inventory(store(tmp_path, np.full((9, 9), 0.9, np.float32)), tmp_path / "i.gpkg")
    with closing(sqlite3.connect(tmp_path / "i.gpkg")) as file:
        rows = file.execute(
            "SELECT f_table_name, f_geometry_column, useAsDefault, styleQML FROM layer_styles"
        ).fetchall()
        # the columns that QGIS 3 asks for (QgsOgrProviderUtils); it finds no style where one lacks
        file.execute("SELECT id, f_table_schema, styleSLD, ui FROM layer_styles ORDER BY update_time DESC").fetchone()
        geometry = file.execute("SELECT column_name FROM gpkg_geometry_columns").fetchone()[0]
    (row,) = rows
    assert row[:3] == ("inventory", geometry, 1)
    categories = ElementTree.fromstring(row[3].partition("\n")[2]).findall(".//category")
    assert [c.get("value") for c in categories] == ["open", "accepted", "redrawn", "rejected"]
    entries = ElementTree.parse(tmp_path / "i.qml").findall(".//paletteEntry")
    assert [e.get("value") for e in entries] == ["0", "1"]


@pytest.mark.parametrize("many", [1, 7])
def test_landslides_written_a_few_at_a_time_are_those_written_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, many: int
) -> None:
    """Blobs of all sizes, in tiles that cut them; ids, columns and order do not depend on how many are held."""
    noise = ndimage.gaussian_filter(np.random.default_rng(4).normal(size=(260, 170)), 4)
    probability = (1 / (1 + np.exp(3 - 40 * noise))).astype(np.float32)
    probability[10:250, 3:6] = 0.97  # one that goes on through every row of tiles
    path = prepared(tmp_path, probability.shape)
    write_raster(
        path, probability[None], grid_of(*probability.shape), ["landslide probability"], np.nan, overwrite=True
    )
    monkeypatch.setattr("landslip.inventory.measure.MEASURED_SIDE", 32)
    found = {}
    for name, at_once in (("all", 10**9), ("few", many)):
        monkeypatch.setattr(landslip.inventory.inventory, "MANY", at_once)
        made = make_inventory(path, tmp_path / f"{name}.gpkg", 0.5, stack_path=stack_of(path))
        found[name] = read_vector(tmp_path / f"{name}.gpkg", "inventory"), made
        parquet = gpd.read_parquet(tmp_path / f"{name}.parquet")
        assert list(parquet["id"]) == list(found[name][0]["id"]) == list(range(1, made.count + 1))
        assert parquet["lithology"].isin(["soft rock", "hard"]).all() and parquet.crs == found[name][0].crs
        geo = json.loads(pyarrow.parquet.read_schema(tmp_path / f"{name}.parquet").metadata[b"geo"])
        assert geo["columns"]["geometry"]["bbox"] == pytest.approx(parquet.total_bounds.tolist())
        assert set(geo["columns"]["geometry"]["geometry_types"]) == set(parquet.geom_type)
    assert made.count == found["all"][1].count > 20
    assert made.area_m2 == pytest.approx(found["all"][1].area_m2, rel=1e-12)
    for column in found["all"][0].columns:  # to the last bit, where geopandas takes what is near
        assert list(found["all"][0][column].astype(str)) == list(found["few"][0][column].astype(str))
    groups = pyarrow.parquet.ParquetFile(tmp_path / "few.parquet").num_row_groups
    assert groups == -(-made.count // many)
    assert pyogrio.read_info(tmp_path / "few.gpkg", layer="inventory")["capabilities"]["fast_spatial_filter"]


def test_an_inventory_that_is_begun_is_one_of_no_landslide(tmp_path: Path) -> None:
    """As pyogrio sees it: the layer, columns, types and style of one that was mapped."""
    probability = np.zeros((40, 40), np.float32)
    probability[10:16, 10:16] = 0.9
    path = store(tmp_path, probability)
    make_inventory(path, tmp_path / "mapped.gpkg")
    begin_inventory(tmp_path / "begun.gpkg", path)
    mapped, begun = (pyogrio.read_info(tmp_path / name, layer="inventory") for name in ("mapped.gpkg", "begun.gpkg"))
    assert begun["features"] == 0
    for key in ("crs", "geometry_type", "geometry_name", "fid_column"):
        assert begun[key] == mapped[key], key
    types = [dict(zip(one["fields"], one["ogr_types"], strict=True)) for one in (begun, mapped)]
    assert types[0] == types[1] and len(types[0]) > 20
    styles = [
        pyogrio.read_dataframe(tmp_path / name, layer="layer_styles", read_geometry=False).styleQML.tolist()
        for name in ("mapped.gpkg", "begun.gpkg")
    ]
    assert styles[0] == styles[1]
    with pytest.raises(OutputError, match="exists already"):
        begin_inventory(tmp_path / "begun.gpkg", path)
