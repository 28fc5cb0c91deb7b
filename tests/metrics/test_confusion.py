"""Scores against the paper's Tables VII and VIII, the paper's formulas in exact fractions, and plain thresholding."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from landslip.errors import RasterError, RunError
from landslip.metrics.confusion import SCORES, Confusion, Histogram, require_probabilities, stated_threshold

# Accuracy, precision, recall, F1, kappa and MIoU in per cent: Gao et al. 2021, Tables VII and VIII.
PUBLISHED = {
    "site 1 FCN-8s": (95.83, 82.87, 37.74, 51.86, 50.00, 65.37),
    "site 1 SegNet": (95.52, 79.11, 33.62, 47.19, 45.24, 63.15),
    "site 1 U-Net": (98.82, 95.49, 84.19, 89.48, 88.87, 89.87),
    "site 1 ResU-Net": (98.97, 96.84, 85.45, 90.79, 90.25, 91.02),
    "site 1 FC-DenseNet": (99.08, 92.72, 91.82, 92.27, 91.78, 92.34),
    "site 1 FC-DenseNet + factors": (99.42, 96.34, 93.77, 95.04, 94.72, 94.96),
    "site 2 FCN-8s": (90.99, 76.60, 49.56, 60.18, 55.36, 66.69),
    "site 2 SegNet": (91.65, 75.84, 57.61, 65.48, 60.83, 69.81),
    "site 2 U-Net": (97.45, 96.91, 84.14, 90.07, 88.62, 89.53),
    "site 2 ResU-Net": (98.10, 96.46, 89.49, 92.85, 91.76, 92.24),
    "site 2 FC-DenseNet": (98.11, 93.69, 92.51, 93.09, 92.00, 92.46),
    "site 2 FC-DenseNet + factors": (98.71, 94.91, 95.72, 95.31, 94.56, 94.78),
}
# What the three scores imply. The areas given are 6.82 of 116.29 km2 (5.86 %) and 6.08 of 44.26 km2 (13.74 %).
PREVALENCE = {"site 1": 5.95, "site 2": 13.74}

counts = st.integers(0, 10**12)


def rebuilt(accuracy: float, precision: float, recall: float, n: int) -> Confusion:
    """The matrix of `n` pixels from three scores, rounded to whole pixels.

    The errors FP + FN = (1 - accuracy) n are, for each landslide pixel, recall (1/precision - 1) + (1 - recall); that
    gives the number of landslide pixels.
    """
    landslide = (1 - accuracy) * n / (recall / precision - recall + 1 - recall)
    tp = recall * landslide
    fp, fn = tp / precision - tp, landslide - tp
    return Confusion(round(tp), round(fp), round(fn), round(n - tp - fp - fn))


@pytest.mark.parametrize("row", PUBLISHED)
def test_scores_follow_from_three_published_ones(row: str) -> None:
    published = PUBLISHED[row]
    accuracy, precision, recall = (value / 100 for value in published[:3])
    confusion = rebuilt(accuracy, precision, recall, 10**9)
    for found, expected in zip(confusion.scores().values(), published, strict=True):
        assert 100 * found == pytest.approx(expected, abs=0.05)
    # accuracy is rounded to 0.01 points, which moves the prevalence by up to 0.005 / (100 - accuracy) of itself
    slack = PREVALENCE[row[:6]] * (0.005 / (100 - published[0]) + 0.001)
    prevalence = (confusion.tp + confusion.fn) / confusion.n
    assert 100 * prevalence == pytest.approx(PREVALENCE[row[:6]], abs=slack)


@given(tp=counts, fp=counts, fn=counts, tn=counts)
def test_scores_are_the_papers_formulas(tp: int, fp: int, fn: int, tn: int) -> None:
    # formulas (2) to (8) in exact fractions, in the paper's own form
    scores = Confusion(tp, fp, fn, tn).scores()
    assert tuple(scores) == SCORES
    n = tp + fp + fn + tn

    def same(name: str, top: Fraction | int, bottom: Fraction | int) -> None:
        if bottom:
            assert scores[name] == pytest.approx(float(Fraction(top) / Fraction(bottom)), rel=1e-12, abs=1e-15)
        else:
            assert math.isnan(scores[name])

    same("accuracy", tp + tn, n)
    same("precision", tp, tp + fp)
    same("recall", tp, tp + fn)
    if tp:
        p, r = Fraction(tp, tp + fp), Fraction(tp, tp + fn)
        same("f1", 2 * p * r, p + r)
    if n:
        pe = Fraction((tp + fn) * (tp + fp) + (fp + tn) * (fn + tn), n * n)
        same("kappa", Fraction(tp + tn, n) - pe, 1 - pe)
    if tp + fn + fp and tn + fn + fp:
        same("miou", (Fraction(tp, tp + fn + fp) + Fraction(tn, tn + fn + fp)) / 2, 1)


def test_kappa_past_three_thousand_million_pixels() -> None:
    # the same proportions score the same at any size; in int64, n^2 alone overflows here
    small, large = Confusion(40, 10, 20, 930), Confusion(40 * 10**8, 10 * 10**8, 20 * 10**8, 930 * 10**8)
    assert large.kappa == pytest.approx(small.kappa, rel=1e-12)
    # worked by hand: p0 = 0.97, pe = (60 x 50 + 940 x 950) / 1000^2 = 0.896
    assert small.kappa == pytest.approx((0.97 - 0.896) / (1 - 0.896), rel=1e-12)


def test_undefined_scores() -> None:
    nothing_there = Confusion(0, 0, 0, 100).scores()
    assert {k for k, v in nothing_there.items() if math.isnan(v)} == {"precision", "recall", "f1", "kappa", "miou"}
    all_missed = Confusion(0, 0, 5, 95).scores()
    assert math.isnan(all_missed["precision"]) and all_missed["recall"] == all_missed["f1"] == all_missed["kappa"] == 0
    false_alarms = Confusion(0, 5, 0, 95).scores()
    assert math.isnan(false_alarms["recall"]) and false_alarms["precision"] == false_alarms["f1"] == 0
    assert all(math.isnan(v) for v in Confusion(0, 0, 0, 0).scores().values())


def test_unknown_and_unscored_pixels_never_count() -> None:
    predicted = np.array([[1, 1, 0, 0, 1, 0]], bool)
    label = np.array([[1, 0, 1, 0, 255, 1]], np.uint8)
    scored = np.array([[1, 1, 1, 1, 1, 0]], bool)
    found = Confusion.from_arrays(predicted, label, scored)
    assert found == Confusion(1, 1, 1, 1)
    assert all(type(v) is int for v in (found.tp, found.fp, found.fn, found.tn))
    assert found + Confusion(10, 20, 30, 40) == Confusion(11, 21, 31, 41)


@pytest.mark.parametrize("bins", [22, 50, 1000])
@pytest.mark.parametrize("beside", [-1, 0, 2])
def test_histogram_on_and_beside_every_edge(bins: int, beside: int) -> None:
    # every edge as float32 rounds it, and the next float32 below or above: numpy's own comparison is the other program
    probability = (np.arange(bins + 1) / bins).astype(np.float32)
    if beside:
        probability = np.clip(np.nextafter(probability, np.float32(beside)), 0, 1)
    label, scored = (np.arange(bins + 1) % 2).astype(np.uint8), np.ones(bins + 1, bool)
    found = Histogram.from_arrays(probability, label, scored, bins)
    for edge in range(bins + 1):
        expected = Confusion.from_arrays(probability >= edge / bins, label, scored)
        assert found.confusion(edge / bins) == expected


@settings(max_examples=40)
@given(seed=st.integers(0, 10**6), edge=st.integers(0, 1000), cut=st.integers(0, 900))
def test_histogram_is_thresholding(seed: int, edge: int, cut: int) -> None:
    rng = np.random.default_rng(seed)
    probability = rng.random((30, 30)).astype(np.float32)
    probability[0, :5] = np.nan
    label = rng.choice(np.array([0, 1, 255], np.uint8), (30, 30))
    scored = rng.random((30, 30)) < 0.9
    flat = [a.ravel() for a in (probability, label, scored)]
    found = Histogram.from_arrays(*(a[:cut] for a in flat)) + Histogram.from_arrays(*(a[cut:] for a in flat))
    threshold = edge / 1000
    expected = Confusion.from_arrays(probability >= threshold, label, scored & ~np.isnan(probability))
    assert found.confusion(threshold) == expected


def test_threshold_off_the_edges_is_refused() -> None:
    for threshold in (0.1234, -0.001, 1.001, math.nan):
        with pytest.raises(RunError, match="1/1000"):
            Histogram.empty().confusion(threshold)


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6), by=st.sampled_from(["f1", "kappa"]))
def test_best_threshold_beats_every_other(seed: int, by: str) -> None:
    rng = np.random.default_rng(seed)
    label = (rng.random((20, 20)) < 0.2).astype(np.uint8)
    probability = np.clip(0.3 * label + rng.random((20, 20)) * 0.7, 0, 1).astype(np.float32)
    found = Histogram.from_arrays(probability, label, np.ones((20, 20), bool), bins=50)
    best = getattr(found.confusion(found.best_threshold(by)), by)
    others = [getattr(found.confusion(i / 50), by) for i in range(51)]
    assert best == max(other for other in others if not math.isnan(other))


def test_best_threshold_takes_the_middle_of_equals() -> None:
    # everything between 0.2 and 0.9 separates the two classes: 0.5 is as good as any
    found = Histogram.from_arrays(
        np.array([0.1, 0.9], np.float32), np.array([0, 1], np.uint8), np.ones(2, bool), bins=10
    )
    assert found.best_threshold("kappa") == 0.5
    # equals at 0.7, 0.8 and 0.9
    upper = Histogram.from_arrays(
        np.array([0.65, 0.9], np.float32), np.array([0, 1], np.uint8), np.ones(2, bool), bins=10
    )
    assert upper.best_threshold("f1") == 0.7


def test_no_threshold_from_one_class() -> None:
    probability, scored = np.array([0.2, 0.8], np.float32), np.ones(2, bool)
    for only in (0, 1):
        found = Histogram.from_arrays(probability, np.full(2, only, np.uint8), scored)
        assert math.isnan(found.best_threshold())
    with pytest.raises(RunError, match="accuracy"):
        Histogram.empty().best_threshold("accuracy")


def test_threshold_is_chosen_from_flag_then_tag_then_half() -> None:
    assert stated_threshold(0.3, "0.7", "p.tif") == (0.3, "as given")
    assert stated_threshold(None, "0.7", "p.tif") == (0.7, "tag of p.tif")
    assert stated_threshold(None, None, "p.tif")[0] == 0.5
    for given_value, tag in ((1.5, None), (None, "high"), (None, "nan"), (-0.1, "0.5")):
        with pytest.raises(RunError, match="not between 0 and 1"):
            stated_threshold(given_value, tag, "p.tif")


def test_percentages_are_not_probabilities() -> None:
    require_probabilities(np.array([0, 1, np.nan], np.float32), "p.tif")
    with pytest.raises(RasterError, match=r"p\.tif holds values from 0 to 87"):
        require_probabilities(np.array([0, 87, np.nan], np.float32), "p.tif")
