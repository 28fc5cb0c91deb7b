"""Rankings of factors: what a measure says of each, drawn intervals, and the order with its doubts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from landslip.dataset.split import leakage_note, leaky_of
from landslip.metrics.confusion import Confusion
from landslip.runtime.progress import plural

FEWEST_BLOCKS = 5  # spatial blocks that an interval stands on at least
RANKING_DRAWS = 1000  # bootstrap draws where they are made of tables of blocks, which costs nothing
MEASURES = {
    "gini": "Gini importance, random forest",
    "gain_ratio": "information gain ratio",
    "permutation_kappa": "permutation, network: drop of kappa",
    "permutation_f1": "permutation, network: drop of F1",
    "ablation_kappa": "trained anew without it: drop of kappa",
    "ablation_f1": "trained anew without it: drop of F1",
}
Float = NDArray[np.float64]
Kind = Literal["factor", "together", "bands", "seed"]


@dataclass(frozen=True, kw_only=True)
class Score:
    """What one measure says of a factor.

    `kind` is a single factor, correlated factors taken together (names joined by " + "), all bands, or another training
    seed and nothing else. `low` and `high` bound 95 % of the bootstrap. `rank` counts single factors from 1; it is None
    for others and where the estimate is NaN. A factor is `unstable` where its interval overlaps that of any other
    single factor that shows an effect as it does, or none as it does. It has an `effect` where it beats itself with its
    link to the landslides cut (one-sided, 5 %); None where that was not tested. `note` explains NaN.
    """

    measure: str
    factor: str
    kind: Kind
    estimate: float
    low: float
    high: float
    rank: int | None = None
    unstable: bool = False
    effect: bool | None = None
    note: str = ""


def bootstrapped(
    measure: str, factor: str, kind: Kind, *, estimate: float, draws: Float, effect: bool | None = None, note: str = ""
) -> Score:
    """A score with the interval that holds the middle 95 % of its (N,) draws."""
    low, high = percentiles(draws)
    return Score(
        measure=measure, factor=factor, kind=kind, estimate=estimate, low=low, high=high, effect=effect, note=note
    )


def ranked(scores: Sequence[Score]) -> list[Score]:
    """Scores by measure, single factors first and in falling order with their rank; those without one come after.

    Factors that show no effect come after all that do, whatever their number: Gini gives noise in many values more than
    a real effect in two classes (Strobl et al. 2007). Factors on one side of that line whose intervals overlap are
    unstable, beside each other or not. Of equals the first in the stack comes first.
    """
    in_order: list[Score] = []
    for measure in MEASURES:
        of_measure = [score for score in scores if score.measure == measure]
        single = [score for score in of_measure if score.kind == "factor"]
        order = sorted(
            (s for s in single if not math.isnan(s.estimate)), key=lambda s: (s.effect is False, -s.estimate)
        )
        for i, score in enumerate(order):
            others = [s for s in order if s is not score and (s.effect is False) == (score.effect is False)]
            unstable = any(score.low <= other.high and other.low <= score.high for other in others)
            in_order.append(replace(score, rank=i + 1, unstable=unstable))
        in_order += [score for score in single if math.isnan(score.estimate)]
        in_order += [score for score in of_measure if score.kind != "factor"]
    return in_order


def bootstrap_weights(rng: np.random.Generator, blocks: int, draws: int) -> Float:
    """(draws, blocks): how often each block is drawn, with replacement."""
    return rng.multinomial(blocks, np.full(blocks, 1 / blocks), draws).astype(np.float64)


def held_out_notes(tags: Mapping[str, str], part: str, blocks: int, measure: str) -> list[str]:
    """What makes held-out ground less than that: a leaky split, validation ground, few spatial blocks.

    `tags` are those of the split, `part` is the part that was scored, in so many `blocks`.
    """
    notes = []
    if leakage := leakage_note(tags, part):
        notes.append(leakage)
    if part == "validation" and not leaky_of(tags):
        notes.append(f"{measure}: the split has no test part; validation ground chose the epoch and the threshold")
    if blocks < FEWEST_BLOCKS:
        notes.append(
            f"{measure}: intervals stand on {plural(blocks, 'spatial block')} only and are too narrow; give a smaller "
            "--block"
        )
    return notes


def derangement(rng: np.random.Generator, n: int) -> NDArray[np.intp]:
    """(n,) a random donor for each of n, never itself."""
    order = rng.permutation(n)
    donor = np.empty(n, np.intp)
    donor[order] = np.roll(order, 1)
    return donor


def percentiles(values: Float) -> tuple[float, float]:
    """The middle 95 %; NaN where fewer than two values are defined."""
    defined = values[~np.isnan(values)]
    if defined.size < 2:
        return math.nan, math.nan
    low, high = np.percentile(defined, (2.5, 97.5))
    return float(low), float(high)


def kappa_f1(table: NDArray[Any]) -> Float:
    """Kappa and F1, (2,), of (4,) pixels: TP, FP, FN, TN."""
    confusion = Confusion(*(int(pixels) for pixels in table))
    return np.array([confusion.kappa, confusion.f1])
