"""Confidence intervals from blocks, held against the binomial distribution and counting by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from landslip.geo.grid import tiles
from landslip.metrics.bootstrap import add_block_sums, block_shape, confidence_intervals, empty_sums
from landslip.metrics.confusion import SCORES


@settings(max_examples=40)
@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 12), st.integers(1, 17), st.integers(0, 10**6))
def test_windows_fall_into_blocks_pixel_by_pixel(height: int, width: int, side: int, window: int, seed: int) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < 0.5
    total = np.zeros(block_shape(mask.shape, side), np.int64)
    for at in tiles(mask.shape, window):
        add_block_sums(total, mask[at.slices], at.row, at.column, side)
    expected = np.zeros_like(total)
    for row, column in np.argwhere(mask):  # one by one
        expected[row // side, column // side] += 1
    assert (total == expected).all()


@pytest.mark.parametrize("shape", [(1, 127), (8, 16), (181, 181), (128, 256), (182, 200)])
@pytest.mark.parametrize("side", [11, 12, 181, 182, 10**12])
def test_a_full_block_is_counted_however_narrow_the_sums(shape: tuple[int, int], side: int) -> None:
    total = empty_sums(shape, side)  # 8 bits hold 11 x 11 or 127 pixels, 16 bits 181 x 181, and not 128 x 256
    add_block_sums(total, np.ones(shape, bool), 0, 0, side)
    assert total.sum() == math.prod(shape)
    assert total.max() == min(side, shape[0]) * min(side, shape[1])


def test_blocks_all_right_or_all_wrong_are_a_binomial() -> None:
    # 200 blocks of 4,096 pixels, 160 right and 40 wrong throughout: a draw's accuracy is Binomial(200, 0.8) / 200,
    # and pixels drawn one by one would give an interval 64 times narrower
    right, wrong = [1000, 0, 0, 3096], [0, 3096, 1000, 0]
    found = confidence_intervals(np.array([right] * 160 + [wrong] * 40), draws=4000)["accuracy"]
    assert found.low == pytest.approx(binom.ppf(0.025, 200, 0.8) / 200, abs=0.0051)
    assert found.high == pytest.approx(binom.ppf(0.975, 200, 0.8) / 200, abs=0.0051)
    assert found.undefined == 0


def test_blocks_alike_leave_no_doubt_and_empty_ones_drop_out() -> None:
    blocks = np.array([[5, 2, 3, 90]] * 7 + [[0, 0, 0, 0]] * 50)
    found = confidence_intervals(blocks)
    assert list(found) == list(SCORES)
    for interval in found.values():
        assert interval.low == pytest.approx(interval.high) and interval.undefined == 0
    assert found["precision"].low == pytest.approx(5 / 7)
    assert confidence_intervals(blocks) == found


def test_an_interval_holds_its_score_and_follows_the_seed_alone() -> None:
    rng = np.random.default_rng(4)
    blocks = rng.integers(0, 50, (60, 4))
    found = confidence_intervals(blocks)
    tp, fp, fn, _ = blocks.sum(0)
    assert found["f1"].low < 2 * tp / (2 * tp + fp + fn) < found["f1"].high
    assert confidence_intervals(blocks) == found != confidence_intervals(blocks, seed=1)


def test_undefined_draws_are_left_out_and_counted() -> None:
    # of two blocks, one without landslide: a quarter of the draws are twice that one (250 expected, 14 the s.d.)
    found = confidence_intervals(np.array([[8, 1, 2, 50], [0, 0, 0, 60]]))
    assert 190 < found["recall"].undefined < 310 and found["accuracy"].undefined == 0
    assert found["recall"].low == found["recall"].high == pytest.approx(0.8)


def test_one_block_or_none_has_no_interval() -> None:
    for blocks in (np.array([[8, 1, 2, 50]]), np.zeros((3, 4), np.int64)):
        assert all(
            math.isnan(i.low) and math.isnan(i.high) and not i.undefined for i in confidence_intervals(blocks).values()
        )
    nothing_mapped = confidence_intervals(np.array([[0, 0, 2, 50], [0, 0, 1, 9]]))["precision"]
    assert math.isnan(nothing_mapped.low) and nothing_mapped.undefined == 1000


def test_intervals_of_single_pixels_are_those_of_the_large_sample() -> None:
    """Blocks of one pixel are independent draws, whose errors have closed forms.

    The table is Cohen's example of two raters as it is commonly given, 20, 5, 10, 15 (kappa 0.4), twenty times over.
    Kappa's standard error: Fleiss, Cohen & Everitt 1969, Psychological Bulletin 72(5), 323-327, formula for any kappa.
    """
    counts = 20 * np.array([20, 5, 10, 15])  # tp, fp, fn, tn
    blocks = np.repeat(np.eye(4, dtype=np.int64), counts, axis=0)
    n = counts.sum()
    p = counts.reshape(2, 2) / n  # rows: mapped, columns: true
    row, column, kappa = p.sum(1), p.sum(0), 0.4
    chance = float(row @ column)
    same = sum(p[i, i] * (1 - (row[i] + column[i]) * (1 - kappa)) ** 2 for i in range(2))
    other = (1 - kappa) ** 2 * sum(p[i, 1 - i] * (column[i] + row[1 - i]) ** 2 for i in range(2))
    of_kappa = math.sqrt((same + other - (kappa - chance * (1 - kappa)) ** 2) / n) / (1 - chance)
    found = confidence_intervals(blocks, draws=4000)
    for name, value, error in (
        ("accuracy", 0.7, math.sqrt(0.7 * 0.3 / n)),
        ("precision", 0.8, math.sqrt(0.8 * 0.2 / (n / 2))),
        ("kappa", kappa, of_kappa),
    ):
        assert found[name].low == pytest.approx(value - 1.96 * error, abs=0.15 * error)
        assert found[name].high == pytest.approx(value + 1.96 * error, abs=0.15 * error)
