"""Blocks varied by chance: what each choice does to the numbers, and that it leaves alone what it must."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import TinySite

from landslip.config.run import AugmentationChoice, read_run
from landslip.dataset.blocks import Blocks
from landslip.dataset.channels import Channel
from landslip.dataset.training_data import build_training_data
from landslip.dataset.zscore import ZScore, fit
from landslip.geo.raster import open_raster
from landslip.training.augmentation import Augmentation, augmentation
from landslip.training.site_blocks import SiteBlocks

CHANNELS = [
    Channel("red", "red", "band", "reflectance"),
    Channel("nir", "nir", "band", "reflectance"),
    Channel("elevation", "elevation", "factor", "m"),
    Channel("slope", "slope", "factor", "degree"),
    Channel("aspect_sin", "aspect", "factor", kind="sine"),
    Channel("aspect_cos", "aspect", "factor", kind="cosine"),
    Channel("distance_to_river", "distance_to_river", "factor", "m"),
]
ZSCORE = ZScore(np.array([0.1, 0.3, 900, 20, 0, 0, 400.0]), np.array([0.02, 0.05, 250, 10, 1, 1, 300.0]))


def of(**choices: float) -> Augmentation:
    return augmentation(AugmentationChoice(**choices), CHANNELS, ZSCORE)


def block(seed: int = 0) -> np.ndarray:
    x = np.random.default_rng(seed).normal(0, 1, (len(CHANNELS), 8, 8)).astype(np.float32)
    x[:, 3, 4] = 0  # an undefined pixel
    return x


def test_nothing_chosen_changes_nothing() -> None:
    assert not AugmentationChoice().varies and AugmentationChoice(drop=0.1).varies
    np.testing.assert_array_equal(of().vary(block(), np.random.default_rng(1)), block())


def test_undefined_pixels_stay_undefined() -> None:
    varied = of(gamma=0.3, contrast=0.3, brightness=1, offset=200).vary(block(), np.random.default_rng(1))
    assert (varied[:, 3, 4] == 0).all() and np.isfinite(varied).all()


def test_light_falls_on_each_band_alone() -> None:
    x = block()
    varied = of(contrast=0.3, brightness=0.5).vary(x, np.random.default_rng(2))
    np.testing.assert_array_equal(varied[2:], x[2:])
    inside = x[0] != 0
    for position in (0, 1):  # a line: contrast its slope, brightness its height
        slope, height = np.polyfit(x[position][inside], varied[position][inside], 1)
        np.testing.assert_allclose(varied[position][inside], slope * x[position][inside] + height, atol=1e-5)
        assert slope > 0 and slope != pytest.approx(1) and height != pytest.approx(0)
    assert not np.allclose(varied[0] - x[0], varied[1] - x[1])


def test_gamma_keeps_the_mean_and_the_order_of_a_band() -> None:
    x = block()
    x[0, 0, 0] = 1e-7  # the band's own mean
    varied = of(gamma=0.5).vary(x, np.random.default_rng(3))
    assert varied[0, 0, 0] == pytest.approx(0, abs=1e-5)
    stored = 0.02 * x[0] + 0.1
    gamma = np.log((0.02 * varied[0, 1, 1] + 0.1) / 0.1) / np.log(stored[1, 1] / 0.1)
    expected = (0.1 * (stored / 0.1) ** gamma - 0.1) / 0.02
    inside = x[0] != 0
    np.testing.assert_allclose(varied[0][inside], expected[inside], atol=1e-4)


def test_gamma_is_as_often_above_1_as_below() -> None:
    rng, x = np.random.default_rng(8), np.full((7, 1, 1), 1.0, np.float32)
    stored = [0.02 * of(gamma=0.5).vary(x, rng)[0, 0, 0] + 0.1 for _ in range(2000)]
    logarithms = np.log(np.log(np.array(stored) / 0.1) / np.log(0.12 / 0.1))
    assert logarithms.mean() == pytest.approx(0, abs=0.04) and logarithms.std() == pytest.approx(0.5, rel=0.1)


def test_a_training_varies_its_blocks_as_the_run_says(made: TinySite) -> None:
    run = read_run(made.run, {"training.augment": False, "augmentation.offset": 200})
    ground = build_training_data(run, made.folder / "prepared")
    with open_raster(ground.stack.path) as dataset:
        zscore = fit(dataset, ground.positions, ground.channels, ground.windows, ground.valid)
        blocks = SiteBlocks(ground, Blocks(dataset, ground.positions, zscore, ground.valid, ground.label), run)
        as_cut = np.stack([blocks.cut.cut(ground.windows[i])[0] for i in (0, 1)])
        varied, _ = blocks.training(np.array([0, 1]), np.random.default_rng(0))
    moved = {channel.name for i, channel in enumerate(ground.channels) if (varied[:, i] != as_cut[:, i]).any()}
    assert moved == {"elevation", "distance_to_river", "distance_to_fault"}


def test_elevation_and_distances_move_by_one_number_of_metres() -> None:
    x, rng = block(), np.random.default_rng(4)
    moved = [of(offset=200).vary(x, rng) - x for _ in range(200)]
    metres = np.array([[one[2, 0, 0] * 250, one[6, 0, 0] * 300] for one in moved])
    np.testing.assert_allclose(metres[:, 0], metres[:, 1], atol=1e-2)
    assert 190 < np.abs(metres).max() <= 200.01 and abs(metres.mean()) < 40
    assert all((one[[0, 1, 3, 4, 5]] == 0).all() for one in moved)


def test_bands_and_factors_are_dropped_whole_and_never_all() -> None:
    rng, x = np.random.default_rng(5), block()
    x[x == 0] = 0.5
    gone = np.array([(of(drop=0.4).vary(x, rng) == 0).all((1, 2)) for _ in range(400)])
    assert np.array_equal(gone[:, 0], gone[:, 1]) and np.array_equal(gone[:, 4], gone[:, 5])
    assert 0.3 < gone[:, 0].mean() < 0.5 and 0.3 < gone[:, 3].mean() < 0.5
    assert not gone.all(1).any()


def test_a_block_is_left_as_it_was() -> None:
    x = block()
    of(gamma=0.3, offset=100, drop=0.5).vary(x, np.random.default_rng(6))
    np.testing.assert_array_equal(x, block())
