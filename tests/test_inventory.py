"""The map and the polygons of an inventory agree with one another, with the probabilities, and across every border."""

from pathlib import Path

import numpy as np
import pyogrio
import pytest
import rasterio
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio.crs import CRS

import landslip.inventory
from landslip.errors import GridError, OutputError, RasterError, RunError
from landslip.grid import Grid, same_grid
from landslip.inventory import COLOURS, make_inventory
from landslip.raster import read_info, read_stored, write_raster
from landslip.vector import burn, layers, read_vector

COLUMNS = ["id", "area_m2", "pixels", "probability_mean", "probability_min", "probability_max", "perimeter_m"]


def grid_of(height: int, width: int) -> Grid:
    return Grid(CRS.from_epsg(32648), Affine(29.997, 0, 500000, 0, -30.0016, 3400000), height, width)


def store(folder: Path, probability: NDArray[np.float32], tags: dict[str, str] | None = None) -> Path:
    path = folder / "probability.tif"
    write_raster(path, probability[None], grid_of(*probability.shape), ["probability"], np.nan, tags, overwrite=True)
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


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**6), share=st.floats(0.1, 0.7), least=st.integers(0, 6), side=st.sampled_from([5, 1024]))
def test_polygons_and_map_are_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, share: float, least: int, side: int
) -> None:
    monkeypatch.setattr(landslip.inventory, "SIDE", side)
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
    assert list(frame.columns) == [*COLUMNS, "geometry"] and frame.geometry.is_valid.all()
    assert len(frame) == len(expected) == summary.count
    assert sorted(frame["pixels"]) == sorted(map(len, expected))
    for _, row in frame.iterrows():
        burnt = burn([row.geometry], grid)
        assert {(int(r), int(c)) for r, c in np.argwhere(burnt)} in expected
        inside = probability[burnt].astype(np.float64)
        assert row["pixels"] == burnt.sum()
        assert row["area_m2"] == pytest.approx(row.geometry.area) == pytest.approx(burnt.sum() * 29.997 * 30.0016)
        assert row["probability_mean"] == pytest.approx(inside.mean(), rel=1e-12)
        assert (row["probability_min"], row["probability_max"]) == (inside.min(), inside.max())
        # sides of pixels that border on another class, counted
        edged = np.pad(burnt, 1)
        across, down = np.diff(edged, axis=1).sum(), np.diff(edged, axis=0).sum()
        assert row["perimeter_m"] == pytest.approx(across * 30.0016 + down * 29.997)

    np.testing.assert_array_equal(burn(frame.geometry, grid), classes == 1)
    np.testing.assert_array_equal(classes == 255, np.isnan(probability))
    assert set(np.unique(classes)) <= {0, 1, 255}
    assert (
        summary.area_m2
        == pytest.approx(frame["area_m2"].sum())
        == pytest.approx((classes == 1).sum() * grid.pixel_area)
    )
    assert summary.share == pytest.approx((classes == 1).sum() / (classes != 255).sum())
    small = [len(piece) for piece in pieces(probability >= threshold) if len(piece) < least]
    assert (summary.removed, summary.removed_area_m2) == (len(small), pytest.approx(sum(small) * grid.pixel_area))


def test_no_border_cuts_a_long_landslide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # a diagonal of single pixels, held together by corners only, over every border of the 256-pixel tiles
    monkeypatch.setattr(landslip.inventory, "SIDE", 256)
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
    assert all(colours[value][:3] == colour[:3] for value, colour in COLOURS.items())
    assert layers(tmp_path / "out" / "i.gpkg") == ["inventory"]
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["i.gpkg"]


def test_the_threshold_itself_is_landslide(tmp_path: Path) -> None:
    # 0.7 as float32 is 0.69999999, and a map of 0.7 at threshold 0.7 is all landslide
    path = store(tmp_path, np.full((3, 3), 0.7, np.float32))
    assert make_inventory(path, tmp_path / "i.gpkg", 0.7).count == 1
    assert make_inventory(path, tmp_path / "j.gpkg", 0.701).count == 0


def test_nothing_found_is_an_inventory_too(tmp_path: Path) -> None:
    summary = make_inventory(store(tmp_path, np.zeros((6, 6), np.float32)), tmp_path / "i.gpkg")
    assert (summary.count, summary.area_m2, summary.share) == (0, 0, 0)
    kinds = dict(zip(*(pyogrio.read_info(tmp_path / "i.gpkg")[key] for key in ("fields", "dtypes")), strict=True))
    summary = make_inventory(store(tmp_path, np.ones((6, 6), np.float32)), tmp_path / "j.gpkg")
    assert (summary.count, summary.share) == (1, 1)
    assert kinds == dict(
        zip(*(pyogrio.read_info(tmp_path / "j.gpkg")[key] for key in ("fields", "dtypes")), strict=True)
    )
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

    def full(*_: object) -> None:
        raise OutputError("the disk is full")

    monkeypatch.setattr(landslip.inventory, "fill_vector", full)
    with pytest.raises(OutputError, match="disk is full"):
        make_inventory(path, tmp_path / "i.gpkg", overwrite=True)
    assert (tmp_path / "i.tif").read_text() == "earlier"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["i.tif", "probability.tif"]
