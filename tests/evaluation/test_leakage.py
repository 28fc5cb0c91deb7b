"""Distances to training ground, held against scipy's transform of the whole raster and against counting by hand."""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio.crs import CRS
from scipy.ndimage import distance_transform_edt

import landslip.evaluation.leakage as module
from landslip.evaluation.leakage import (
    Audit,
    audit,
    count_cells,
    empty_cells,
    pooled,
    training_edge,
    windows_of,
)
from landslip.geo.geotiff import write_raster
from landslip.geo.grid import Grid, Window, tiles


def run(
    folder: Path, parts: NDArray[np.uint8], scored: NDArray[np.bool_], x: float = 15, y: float = 15, window: int = 64,
    side: int = 1024,
) -> tuple[Audit, list[Window]]:  # fmt: skip
    """The audit of a made-up split, and the windows read a second time."""
    grid = Grid(CRS.from_epsg(32649), Affine(x, 0, 500_000, 0, -y, 3_400_000), *parts.shape)
    write_raster(folder / "split.tif", parts[None], grid, ["part"], overwrite=True)
    off, cells, again = scored & (parts != 1), empty_cells(grid), []
    for at in tiles(grid.shape, side):
        count_cells(cells, off[at.slices], at)

    def read(held: NDArray[np.bool_]) -> Iterator[tuple[Window, NDArray[np.bool_]]]:
        for at in windows_of(held, grid, side):
            again.append(at)
            yield at, off[at.slices]

    inside = int((scored & (parts == 1)).sum())
    return audit(folder / "split.tif", grid, inside, cells, read, window), again


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(0, 10**6), st.sampled_from([0.001, 0.02, 0.5]), st.sampled_from([0.05, 1.0]),
    st.sampled_from([15.0, 14.93]), st.sampled_from([15.0, 31.7]), st.integers(1, 40), st.sampled_from([7, 32, 1024]),
)  # fmt: skip
def test_is_that_of_the_whole_raster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, train: float, share: float, x: float, y: float,
    window: int, side: int,
) -> None:  # fmt: skip
    monkeypatch.setattr(module, "CELL", 4)
    monkeypatch.setattr(module, "LARGEST", 60**2)
    rng = np.random.default_rng(seed)
    shape = int(rng.integers(5, 90)), int(rng.integers(5, 90))
    parts = np.where(rng.random(shape) < train, 1, rng.integers(0, 4, shape) // 2 * 2).astype(np.uint8)
    if rng.random() < 0.5:  # training ground in one piece
        parts[: shape[0] // 3, : shape[1] // 2] = 1
    parts[-1, -1] = 1
    scored = rng.random(shape) < share
    scored[0, 0] = True
    found, _ = run(tmp_path, parts, scored, x, y, window, side)
    away = distance_transform_edt(parts != 1, sampling=(y, x))[scored]
    assert found.minimum_m == pytest.approx(away.min())
    assert found.median_m == pytest.approx(np.median(away))
    assert found.share_inside == np.mean(away == 0)
    assert found.share_near == pytest.approx(np.mean(away < window * min(x, y) * (1 - 1e-12)))


def test_a_row_by_hand(tmp_path: Path) -> None:
    # training on columns 0 to 9; scored 20 to 59: 11 to 50 pixels away
    parts = np.zeros((1, 70), np.uint8)
    parts[:, :10] = 1
    scored = np.zeros((1, 70), bool)
    scored[:, 20:60] = True
    found, _ = run(tmp_path, parts, scored, window=21)
    assert (found.minimum_m, found.median_m, found.reach_m) == (165, 15 * 30.5, 315)
    assert (found.share_inside, found.share_near) == (0, 10 / 40)  # 11 to 20 pixels; 21 is a whole window away
    scored[:, :10] = True  # and 10 on training ground: ranks 24 and 25 of 50 are 25 and 26 pixels
    found, _ = run(tmp_path, parts, scored, window=21)
    assert (found.minimum_m, found.median_m, found.share_inside) == (0, 15 * 25.5, 0.2)


def test_nothing_scored_or_nothing_trained(tmp_path: Path) -> None:
    parts = np.full((20, 20), 3, np.uint8)
    found, _ = run(tmp_path, parts, np.ones((20, 20), bool))
    assert math.isnan(found.minimum_m) and math.isnan(found.median_m)
    assert math.isnan(found.share_inside) and math.isnan(found.share_near)  # not 0: no training ground is known
    found, _ = run(tmp_path, np.ones_like(parts), np.zeros((20, 20), bool))
    assert math.isnan(found.median_m) and math.isnan(found.share_inside)
    found, again = run(tmp_path, np.ones_like(parts), np.ones((20, 20), bool))
    assert (found.median_m, found.share_inside, found.share_near, again) == (0, 1, 1, [])


def test_audits_of_parts_pooled_by_hand() -> None:
    nan = math.nan
    one, two, none = (
        Audit(minimum_m=30, median_m=90, share_inside=0, share_near=0.5, window=4, reach_m=60),
        Audit(minimum_m=15, median_m=45, share_inside=0.25, share_near=0.75, window=4, reach_m=60),
        Audit(minimum_m=nan, median_m=nan, share_inside=nan, share_near=nan, window=4, reach_m=60),
    )
    found = pooled([one, two, none], [100, 300, 0])
    assert (found.minimum_m, found.share_inside, found.share_near) == (15, 75 / 400, 275 / 400)
    assert math.isnan(found.median_m) and (found.window, found.reach_m) == (4, 60)
    assert math.isnan(pooled([one, none], [100, 1]).share_near) and math.isnan(pooled([none], [0]).minimum_m)


def test_only_the_edge_is_kept_and_the_rasters_border_is_none(tmp_path: Path) -> None:
    parts = np.zeros((40, 40), np.uint8)
    parts[:10, :12] = 1
    run(tmp_path, parts, parts == 0)
    edge = {tuple(at) for at in training_edge(tmp_path / "split.tif")}
    assert edge == {(9, column) for column in range(12)} | {(row, 11) for row in range(10)}


def test_the_edge_is_gathered_over_many_strips_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("landslip.geo.mapped_array.ROWS", 7)
    train = np.random.default_rng(0).random((90, 50)) < 0.7
    run(tmp_path, train.astype(np.uint8), ~train)
    beside = np.pad(train, 1, constant_values=True)
    inner = beside[:-2, 1:-1] & beside[2:, 1:-1] & beside[1:-1, :-2] & beside[1:-1, 2:]
    assert np.array_equal(training_edge(tmp_path / "split.tif"), np.argwhere(train & ~inner))


def test_only_what_is_undecided_is_read_again(tmp_path: Path) -> None:
    parts = np.zeros((64, 640), np.uint8)
    parts[:, :64] = 1
    # scored at 1 to 576 pixels: the nearest begin at column 64, the middle ones are columns 351 and 352
    found, again = run(tmp_path, parts, parts != 1, window=1, side=64)
    assert found.median_m == 15 * 288.5 and {window.column for window in again} == {64, 320}


@pytest.mark.parametrize("few", [1, 10, 10_000])
def test_the_value_of_a_rank_is_that_of_numpy(few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FEW", few)
    rng = np.random.default_rng(few)
    for values in (rng.normal(size=(20, 30)).astype(np.float32), rng.integers(0, 9, (20, 30)).astype(float)):
        times = rng.integers(0, 4, values.shape)
        values[times == 0] = np.inf
        ordered = np.sort(np.repeat(values.ravel(), times.ravel()))
        for rank in (0, 1, 400, len(ordered) - 1):
            assert module._at_rank(values, times, rank) == ordered[rank]
