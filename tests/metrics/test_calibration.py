"""Calibration against closed forms, and the promise of a threshold against a simulation."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import expit, logit

from landslip.errors import LabelError, RunError
from landslip.metrics.calibration import (
    add_class_sums,
    conformal_threshold,
    expected_calibration_error,
    fit_platt,
    log_loss,
    missed_shares,
    observed_intervals,
    regions_needed,
    reliability,
)
from landslip.metrics.confusion import Histogram


def counted(probability: NDArray[np.float64], landslide: NDArray[np.bool_]) -> Histogram:
    return Histogram.from_arrays(
        probability.astype(np.float32), landslide.astype(np.uint8), np.ones(probability.shape, bool)
    )


def test_a_table_by_hand() -> None:
    found = reliability(counted(np.array([0.0, 0.1, 0.15, 0.95, 1.0]), np.array([0, 0, 1, 1, 1], bool)))
    assert [row.pixels for row in found] == [1, 2, 0, 0, 0, 0, 0, 0, 0, 2]
    assert (found[1].low, found[1].high, found[1].observed) == (0.1, 0.2, 0.5)
    # bin centres: 0.1005 and 0.1505; 0.9505 and, for 1, 1
    assert found[1].probability == pytest.approx(0.1255) and found[9].probability == pytest.approx(0.97525)
    assert math.isnan(found[2].probability) and math.isnan(found[2].observed) and math.isnan(found[2].observed_low)
    # |0.0005 - 0|, 2 |0.1255 - 0.5| and 2 |0.97525 - 1| over five pixels
    assert expected_calibration_error(found) == pytest.approx((0.0005 + 2 * 0.3745 + 2 * 0.02475) / 5)
    assert math.isnan(expected_calibration_error(reliability(Histogram.empty())))
    with pytest.raises(RunError, match="1000 bins do not fall into 7 classes"):
        reliability(Histogram.empty(), classes=7)


def test_a_calibrated_predictor_has_no_error_but_chance() -> None:
    rng = np.random.default_rng(1)
    n = 200_000
    p = rng.random(n)
    found = expected_calibration_error(reliability(counted(p, rng.random(n) < p)))
    # each class's share errs by at most half a normal deviate of 1 / sqrt(n / 10) on average, and half a bin
    assert 0 < found < 0.5 / math.sqrt(n / 10) + 0.0005


def test_a_shifted_predictor_has_the_error_of_its_shift() -> None:
    rng = np.random.default_rng(2)
    n = 200_000
    p = rng.random(n) * 0.8
    found = expected_calibration_error(reliability(counted(p, rng.random(n) < p + 0.2)))
    assert found == pytest.approx(0.2, abs=0.004)
    # said of half the pixels one in ten, and it is one in two: 0.5 (0.5 - 0.1005)
    p = np.repeat([0.1, 0.9], 1000)
    landslide = np.concatenate([np.arange(1000) % 2 == 0, np.arange(1000) % 10 != 0])
    assert expected_calibration_error(reliability(counted(p, landslide))) == pytest.approx(
        0.5 * 0.3995 + 0.5 * 0.0005, abs=1e-6
    )


@pytest.mark.parametrize(("scale", "shift"), [(0.5, 0.0), (1.0, 0.0), (2.0, 3.0), (1.0, -1.5), (15.0, 8.0)])
def test_scaled_and_shifted_logits_are_brought_back(scale: float, shift: float) -> None:
    # shares k / 20 with k landslides of 20 pixels: calibrated exactly, so that the loss is least unscaled
    shares = np.arange(1, 20) / 20
    logits = np.repeat(logit(shares), 20)
    landslide = np.concatenate([np.arange(20) < k for k in range(1, 20)])
    scaled = (scale * logits + shift).astype(np.float32)
    temperature, bias = fit_platt(scaled, landslide)
    assert (temperature, bias) == pytest.approx((scale, -shift / scale), rel=1e-6, abs=1e-6)
    best = log_loss(scaled, landslide, temperature, bias)
    assert best < min(log_loss(scaled, landslide, temperature * by, bias) for by in (0.99, 1.01))
    assert best < min(log_loss(scaled, landslide, temperature, bias + by) for by in (-0.01, 0.01))
    # entropy of the shares: the loss of a calibrated predictor
    assert best == pytest.approx(-(shares * np.log(shares) + (1 - shares) * np.log1p(-shares)).mean(), rel=1e-6)


def test_pixels_are_summed_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    logits = rng.normal(0, 2, 1000).astype(np.float32)
    landslide = rng.random(1000) < expit(logits / 1.5)
    whole = *fit_platt(logits, landslide), log_loss(logits, landslide)
    monkeypatch.setattr("landslip.metrics.calibration.CHUNK", 77)
    assert (*fit_platt(logits, landslide), log_loss(logits, landslide)) == pytest.approx(whole, rel=1e-9)
    assert log_loss(np.array([800, -800], np.float32), np.array([False, True])) == 800  # no overflow


def test_platt_is_logistic_regression_on_the_logits() -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    rng = np.random.default_rng(4)
    logits = rng.normal(1, 3, 5000).astype(np.float32)
    landslide = rng.random(5000) < expit(logits / 2.5 - 0.8)
    fitted = linear_model.LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000)
    fitted.fit(logits[:, None].astype(float), landslide)
    temperature, bias = fit_platt(logits, landslide)
    assert (1 / temperature, bias) == pytest.approx((fitted.coef_[0, 0], fitted.intercept_[0]), rel=1e-5)


def test_where_no_temperature_fits() -> None:
    logits = np.array([-2, -1, 1, 2], np.float32)
    with pytest.raises(LabelError, match="of 4 pixels 4 are landslide"):
        fit_platt(logits, np.ones(4, bool))
    with pytest.raises(LabelError, match="of 4 pixels 0 are landslide"):
        fit_platt(logits, np.zeros(4, bool))
    with pytest.raises(LabelError, match=r"no temperature down to 0\.05"):
        fit_platt(logits, logits > 0)
    with pytest.raises(LabelError, match="no temperature up to 20"):
        fit_platt(logits, logits < 0)


def test_missed_shares_by_hand() -> None:
    # a region with landslide pixels at 0.25, 0.5 and 0.5, one with a single pixel at 1; thresholds 0, 1/4 ... 1
    landslide = np.array([[0, 1, 2, 0, 0], [0, 0, 0, 0, 1]])
    assert missed_shares(landslide).tolist() == [[0, 0, 1 / 3, 1, 1], [0, 0, 0, 0, 0]]


def test_a_conformal_threshold_by_hand() -> None:
    # nine regions miss 0 at 0, one of them all at 0.5, and every one all at 1: (9 R + 1) / 10 is 0.1, 0.2 and 1
    missed = np.zeros((9, 3))
    missed[0, 1], missed[:, 2] = 1, 1
    assert conformal_threshold(missed, 0.1, "x") == 0
    assert conformal_threshold(missed, 0.19, "x") == 0
    assert conformal_threshold(missed, 0.2, "x") == 0.5
    assert conformal_threshold(missed, 0.999, "x") == 0.5


@pytest.mark.parametrize(
    ("most", "needed"), [(0.1, 9), (0.05, 19), (0.01, 99), (0.25, 3), (0.3, 3), (0.5, 1), (0.9, 1)]
)
def test_too_few_regions_are_refused(most: float, needed: int) -> None:
    assert regions_needed(most) == needed
    assert conformal_threshold(np.zeros((needed, 3)), most, "x") == 1
    with pytest.raises(
        LabelError, match=rf"split\.tif holds {needed - 1} .* to miss at most {100 * most:g} % takes {needed} "
    ):
        conformal_threshold(np.zeros((needed - 1, 3)), most, "split.tif")


def test_a_refusal_names_what_can_be_promised() -> None:
    with pytest.raises(LabelError, match=r"Give --miss 0\.167 or more"):
        conformal_threshold(np.zeros((5, 3)), 0.1, "x")
    assert conformal_threshold(np.zeros((5, 3)), 0.167, "x") == 1
    for most in (0.0, 1.0, math.nan):
        with pytest.raises(RunError, match="--miss between 0 and 1"):
            conformal_threshold(np.zeros((5, 3)), most, "x")


def test_the_promise_holds_in_a_simulation() -> None:
    # Regions whose landslides are found well or badly together: probabilities Beta(m, 2), m drawn for the region.
    # Angelopoulos et al. 2024: the next region's risk is at most x (theorem 1), at least x - 2 / (n + 1) (theorem 2).
    # In the regions themselves at most ((n + 1) x - 1) / n = 0.077 is missed: the next one misses about as much.
    rng = np.random.default_rng(4)
    n, pixels, bins, most, draws = 39, 60, 200, 0.1, 1500
    risk = []
    for _ in range(draws):
        p = rng.beta(rng.uniform(1, 6, (n + 1, 1)), 2, (n + 1, pixels))
        at = np.floor(p * bins).astype(int)
        landslide = np.stack([np.bincount(row, minlength=bins + 1) for row in at])
        threshold = conformal_threshold(missed_shares(landslide[:n]), most, "x")
        risk.append((p[n] < threshold).mean())
    noise = 3 * np.std(risk) / math.sqrt(draws)
    assert most - 2 / (n + 1) - noise <= np.mean(risk) <= most + noise
    assert np.mean(risk) > 0.07 and noise < 0.01


def test_a_temperature_moves_no_promise() -> None:
    rng = np.random.default_rng(5)
    z = rng.normal(1, 2, (20, 500))
    missed = []
    for temperature in (0.5, 1, 2):
        p = expit(z / temperature).astype(np.float32)
        counts = np.stack([counted(row, np.ones(row.shape, bool)).landslide for row in p])
        threshold = conformal_threshold(missed_shares(counts), 0.2, "x")
        missed.append(float((p < np.float32(threshold)).mean()))
    assert missed == pytest.approx([missed[0]] * 3, abs=0.005)  # the thresholds differ, but for steps of 0.001


def test_class_sums_do_not_depend_on_windows() -> None:
    rng = np.random.default_rng(6)
    p = np.round(rng.random((23, 31)), 1).astype(np.float32)  # on class edges
    landslide, scored = rng.random(p.shape) < 0.4, rng.random(p.shape) < 0.8
    p[~scored & (rng.random(p.shape) < 0.5)] = np.nan
    whole = np.zeros((4, 5, 10, 2), np.int64)
    add_class_sums(whole, p, landslide, scored=scored, corner=(0, 0), side=7)
    pieces = np.zeros_like(whole)
    for row in range(0, 23, 5):
        for column in range(0, 31, 8):
            at = slice(row, row + 5), slice(column, column + 8)
            add_class_sums(pieces, p[at], landslide[at], scored=scored[at], corner=(row, column), side=7)
    assert np.array_equal(whole, pieces)
    table = reliability(Histogram.from_arrays(p, landslide.astype(np.uint8), scored))
    assert whole.sum((0, 1))[:, 0].tolist() == [row.pixels for row in table]
    assert whole.sum((0, 1))[:, 1] == pytest.approx([row.observed * row.pixels for row in table])
    by_hand = scored[7:14, 28:31] & (p[7:14, 28:31] >= np.float32(0.3)) & (p[7:14, 28:31] < np.float32(0.4))
    assert whole[1, 4, 3].tolist() == [by_hand.sum(), (by_hand & landslide[7:14, 28:31]).sum()]


def test_intervals_of_shares_are_those_of_blocks() -> None:
    # blocks that are all landslide or none: shares of 25 draws of a fair coin, 95 % within 0.5 +- 1.96 * 0.1
    blocks = np.zeros((25, 2, 2), np.int64)
    blocks[:, 0, 0] = 100
    blocks[:12, 0, 1] = 100
    first, second = observed_intervals(blocks)
    assert (first.low, first.high) == pytest.approx((0.48 - 0.196, 0.48 + 0.196), abs=0.05)
    assert math.isnan(second.low) and second.undefined == 1000
    assert math.isnan(observed_intervals(blocks[:1])[0].low) and math.isnan(observed_intervals(blocks[:0])[0].high)
    table = reliability(Histogram.empty(), blocks, classes=2)
    assert (table[0].observed_low, table[0].observed_high) == (first.low, first.high)
