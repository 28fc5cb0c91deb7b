"""Order of factors, its doubts, and what draws are made of."""

import math
from typing import Any

import numpy as np
import pytest

from landslip.importance.ranking import Score, derangement, ranked

NAN = math.nan


def score(name: str, estimate: float, low: float, high: float, **more: Any) -> Score:
    return Score(
        measure="gini", factor=name, kind=more.pop("kind", "factor"), estimate=estimate, low=low, high=high, **more
    )


def test_places_whose_intervals_overlap_are_unstable() -> None:
    given = [
        score("c", 0.2, 0.15, 0.25), score("a", 0.9, 0.8, 1.0), score("d", 0.18, 0.1, 0.22),
        score("nan", NAN, NAN, NAN), score("b", 0.5, 0.4, 0.6), score("c + d", 0.38, 0.3, 0.4, kind="together"),
    ]  # fmt: skip
    out = ranked(given)
    assert [(s.factor, s.rank, s.unstable) for s in out] == [
        ("a", 1, False), ("b", 2, False), ("c", 3, True), ("d", 4, True), ("nan", None, False), ("c + d", None, False),
    ]  # fmt: skip


def test_a_place_is_unstable_by_any_other_factor_not_only_its_neighbours() -> None:
    # a (0.3 to 1) holds c (0.35 to 0.45), two places below it; b (0.49 to 0.51) lies in a too, c in no other but a
    given = [
        score("a", 0.6, 0.3, 1.0, effect=True), score("b", 0.5, 0.49, 0.51, effect=True),
        score("c", 0.4, 0.35, 0.45, effect=True), score("d", 0.2, 0.1, 0.25, effect=True),
        score("idle", 0.9, 0.15, 0.95, effect=False),  # beyond the line of effect: nobody's rival
    ]  # fmt: skip
    assert [(s.factor, s.unstable) for s in ranked(given)] == [
        ("a", True), ("b", True), ("c", True), ("d", False), ("idle", False)
    ]  # fmt: skip


def test_factors_without_an_effect_come_last_whatever_their_number() -> None:
    given = [score("noise", 0.5, 0.4, 0.6, effect=False), score("class", 0.45, 0.4, 0.5, effect=True)]
    assert [(s.factor, s.rank, s.unstable) for s in ranked(given)] == [("class", 1, False), ("noise", 2, False)]


@pytest.mark.parametrize("n", [2, 3, 17])
def test_no_window_is_its_own_donor(n: int) -> None:
    for seed in range(20):
        donor = derangement(np.random.default_rng(seed), n)
        assert sorted(donor) == list(range(n)) and not (donor == np.arange(n)).any()
