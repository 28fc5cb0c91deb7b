"""Gain ratio and correlation, by published examples; on sites of known effects: test_importance.py."""

import math
from pathlib import Path

import numpy as np
import pytest
from made_up import factor, write_prepared

import landslip.importance.impurity
from landslip.errors import LabelError
from landslip.importance.factor_classes import make_classes
from landslip.importance.frequency_ratio import count_classes
from landslip.importance.impurity import correlated_groups, forest_importance, gain_ratio, gain_ratios
from landslip.importance.sampling import draw_sample, read_prepared_info

NAN = math.nan


def test_gain_ratio_of_quinlans_weather() -> None:
    # 14 days of Quinlan (1986; 1993, ch. 2), play or not. Gains of 0.247, 0.029, 0.152 and 0.048 bits and ratios of
    # 0.157, 0.019, 0.152 and 0.049 are the textbook's (Witten and Frank, 2005, p. 102), from gains rounded to 3 digits
    tables = {
        "outlook": ([[3, 2], [0, 4], [2, 3]], 0.247, 0.157),
        "temperature": ([[2, 2], [2, 4], [1, 3]], 0.029, 0.019),
        "humidity": ([[4, 3], [1, 6]], 0.152, 0.152),
        "windy": ([[2, 6], [3, 3]], 0.048, 0.049),
    }
    for counts, gain, ratio in tables.values():
        assert [float(v) for v in gain_ratio(np.array(counts))] == pytest.approx([gain, ratio], abs=1e-3)


def test_gain_ratio_of_extremes() -> None:
    assert [float(v) for v in gain_ratio(np.array([[8, 0], [0, 8]]))] == [1.0, 1.0]  # decides alone: one bit of one
    assert [float(v) for v in gain_ratio(np.array([[6, 2], [3, 1]]))] == pytest.approx([0.0, 0.0], abs=1e-12)
    gain, ratio = gain_ratio(np.array([[6, 2], [0, 0]]))
    assert gain == pytest.approx(0.0) and math.isnan(ratio)  # one class holds all


def test_a_smooth_factor_that_only_tells_places_apart_shows_no_effect(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(landslip.importance.impurity, "CUTS", 60)
    # landslides and `smooth` each follow their own waves; in the mean over sites one says nothing of the other
    y, x = np.mgrid[0:160, 0:160] / 160
    effects = []
    for seed in range(12):
        rng = np.random.default_rng(seed)

        def wave(rng: np.random.Generator = rng) -> np.ndarray:
            phase = rng.uniform(0, 2 * np.pi, 4)
            return sum(np.sin(2 * np.pi * (rng.uniform(-2, 2) * x + rng.uniform(-2, 2) * y) + p) for p in phase)

        own = wave()
        planes = {factor("smooth"): wave(), factor("other"): rng.random(x.shape)}
        prepared = write_prepared(tmp_path / str(seed) / "p", planes, own > np.quantile(own, 0.8))
        drawn = draw_sample(read_prepared_info(prepared), 2000, 0)
        stack = read_prepared_info(prepared)
        counted = count_classes(stack, [make_classes(stack, "smooth", drawn, 5)], 20)
        effects.append(gain_ratios(counted, drawn, stack.grid, 20, 0)[0].effect)
    assert sum(map(bool, effects)) <= 8  # a test of pixels would call every one of them an effect


def test_correlation_links_over_others() -> None:
    rho = {
        "a": {"b": 0.8, "c": 0.1, "d": 0.0},
        "b": {"a": 0.8, "c": -0.9, "d": 0.7},
        "c": {"a": 0.1, "b": -0.9, "d": NAN},
    }
    rho["d"] = {"a": 0.0, "b": 0.7, "c": NAN}
    assert correlated_groups(rho, ["a", "b", "c", "d"]) == [("a", "b", "c")]  # 0.7 is not above 0.7


def test_draws_of_one_class_are_skipped_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # four blocks of 16 pixels, other ground in the first alone
    monkeypatch.setattr(landslip.importance.impurity, "TREES", 2)
    label = np.ones((32, 32))
    label[:16, :16] = 0
    stack = read_prepared_info(write_prepared(tmp_path / "p", {factor("slope"): 1 - label}, label))
    drawn = draw_sample(stack, 1000, 0)
    draws = iter([[0, 4, 0, 0], [1, 1, 1, 1], [0, 1, 2, 1]])
    monkeypatch.setattr(landslip.importance.impurity, "bootstrap_weights", lambda *_: np.array([next(draws)], float))
    scores, _, skipped = forest_importance(stack, drawn, ["slope"], together=[], repeats=3, block=16, seed=0)
    assert skipped == 2 and scores[0].estimate == 1
    monkeypatch.setattr(landslip.importance.impurity, "bootstrap_weights", lambda *_: np.array([[0.0, 4, 0, 0]]))
    with pytest.raises(LabelError, match=r"label\.tif: none of 3 draws of 4 spatial blocks.*smaller --block"):
        forest_importance(stack, drawn, ["slope"], together=[], repeats=3, block=16, seed=0)
