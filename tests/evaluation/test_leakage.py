"""Distances to training ground, held against scipy's transform of the whole raster and against counting by hand."""

import math
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
from landslip.evaluation.leakage import Audit, TrainingDistances, pooled, training_edge
from landslip.geo.geotiff import write_raster
from landslip.geo.grid import Grid, tiles


def run(
    folder: Path, parts: NDArray[np.uint8], scored: NDArray[np.bool_], x: float = 15, y: float = 15, window: int = 64,
    side: int = 1024,
) -> Audit:  # fmt: skip
    """The audit of a made-up split, counted in windows of `side` pixels."""
    grid = Grid(CRS.from_epsg(32649), Affine(x, 0, 500_000, 0, -y, 3_400_000), *parts.shape)
    write_raster(folder / "split.tif", parts[None], grid, ["part"], overwrite=True)
    distances = TrainingDistances(folder / "split.tif", grid, window)
    for at in tiles(grid.shape, side):
        distances.add(at, scored[at.slices], parts[at.slices] == 1)
    return distances.audit()


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(0, 10**6), st.sampled_from([0.001, 0.02, 0.5]), st.sampled_from([0.05, 1.0]),
    st.sampled_from([15.0, 14.93]), st.sampled_from([15.0, 31.7]), st.integers(1, 40), st.sampled_from([7, 32, 1024]),
)  # fmt: skip
def test_is_that_of_the_whole_raster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, train: float, share: float, x: float, y: float,
    window: int, side: int,
) -> None:  # fmt: skip
    monkeypatch.setattr(module, "AUDIT_CELL", 4)
    rng = np.random.default_rng(seed)
    shape = int(rng.integers(5, 90)), int(rng.integers(5, 90))
    parts = np.where(rng.random(shape) < train, 1, rng.integers(0, 4, shape) // 2 * 2).astype(np.uint8)
    if rng.random() < 0.5:  # training ground in one piece
        parts[: shape[0] // 3, : shape[1] // 2] = 1
    parts[-1, -1] = 1
    scored = rng.random(shape) < share
    scored[0, 0] = True
    found = run(tmp_path, parts, scored, x, y, window, side)
    away = distance_transform_edt(parts != 1, sampling=(y, x))[scored]
    assert found.minimum_m == pytest.approx(away.min())
    # The middle of a cell of 4 pixels lies at most 2.2 of them from its pixels; a bin is half a pixel wide either way.
    assert found.median_m == pytest.approx(np.median(away), abs=1.5 * math.hypot(x, y) + min(x, y) / 2)
    assert found.share_inside == np.mean(away == 0)
    assert found.share_near == pytest.approx(np.mean(away < window * min(x, y) * (1 - 1e-12)))


def test_a_row_by_hand(tmp_path: Path) -> None:
    # training on columns 0 to 9; scored 20 to 59: 11 to 50 pixels away
    parts = np.zeros((1, 70), np.uint8)
    parts[:, :10] = 1
    scored = np.zeros((1, 70), bool)
    scored[:, 20:60] = True
    found = run(tmp_path, parts, scored, window=21)
    assert (found.minimum_m, found.median_m, found.reach_m) == (165, 15 * 30.5, 315)
    assert (found.share_inside, found.share_near) == (0, 10 / 40)  # 11 to 20 pixels; 21 is a whole window away
    scored[:, :10] = True  # and 10 on training ground: ranks 24 and 25 of 50 are 25 and 26 pixels
    found = run(tmp_path, parts, scored, window=21)
    assert (found.minimum_m, found.median_m, found.share_inside) == (0, 15 * 25.5, 0.2)


def test_nothing_scored_or_nothing_trained(tmp_path: Path) -> None:
    parts = np.full((20, 20), 3, np.uint8)
    found = run(tmp_path, parts, np.ones((20, 20), bool))
    assert math.isnan(found.minimum_m) and math.isnan(found.median_m)
    assert math.isnan(found.share_inside) and math.isnan(found.share_near)  # not 0: no training ground is known
    found = run(tmp_path, np.ones_like(parts), np.zeros((20, 20), bool))
    assert math.isnan(found.median_m) and math.isnan(found.share_inside)
    found = run(tmp_path, np.ones_like(parts), np.ones((20, 20), bool))
    assert (found.median_m, found.share_inside, found.share_near) == (0, 1, 1)


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


def test_the_median_far_from_training_ground_is_good_to_a_pixel(tmp_path: Path) -> None:
    parts = np.zeros((300, 900), np.uint8)
    parts[40:90, :64] = 1
    scored = np.zeros(parts.shape, bool)
    scored[50:, 300:] = True  # No scored pixel is within a window of training ground.
    found = run(tmp_path, parts, scored, window=16, side=128)
    away = distance_transform_edt(parts != 1, sampling=15)[scored]
    assert found.median_m == pytest.approx(np.median(away), abs=15)
    assert (found.minimum_m, found.share_near) == (away.min(), 0)


def test_near_training_ground_the_median_is_rounded_to_a_pixel(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    parts = (rng.random((200, 300)) < 0.001).astype(np.uint8)
    scored = parts == 0
    found = run(tmp_path, parts, scored, window=200, side=128)  # All is nearer than a window, and measured.
    away = distance_transform_edt(scored, sampling=15)[scored]
    assert found.median_m == 15 * np.rint(np.median(away) / 15)
