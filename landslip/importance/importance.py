"""`landslip importance`: which factors tell landslides from other ground (the paper's Fig. 9), with intervals.

Four measures, each a ranking of the factors (channels of one factor together):

- Gini importance: the mean decrease of impurity in a random forest (Breiman 2001), summed over a factor's channels; all
  factors sum to 1.
- Information gain ratio (Quinlan 1993) of the classes that `landslip intervals` makes, over every pixel.
- Permutation importance of a trained network on ground held out from its training: the drop of kappa and F1 where a
  factor's channels are those of another window (Breiman 2001, Fisher et al. 2019). Whole windows are swapped, so that
  what a factor looks like stays and only its place is lost.
- Ablation, where a budget for it is given: the same drop where the network is trained anew without the factor.

impurity.py holds the first two, permutation.py and ablation.py the others. Pixels beside each other say the same, so
intervals come from spatial blocks drawn anew with replacement, not pixels.

A factor is said to have an effect where it beats itself with its link to the landslides cut: its blocks carried to
other blocks (after Altmann et al. 2010). That is the fair null for a smooth factor, which tells places apart by chance.
Factors that show none rank last.
Bands are left out of the first two, as in the paper; the network loses all of them at once as a yardstick, unranked.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from landslip.dataset.channels import StackInfo
from landslip.dataset.label import LANDSLIDE, OTHER
from landslip.errors import LabelError, RunError
from landslip.geo.grid import tiles
from landslip.importance.ablation import Budget, ablation_importance, plan_ablation
from landslip.importance.factor_classes import make_classes
from landslip.importance.frequency_ratio import Counts, count_classes
from landslip.importance.impurity import (
    CORRELATED,
    TREES,
    correlated_groups,
    correlation,
    forest_importance,
    gain_ratios,
)
from landslip.importance.permutation import held_out, permutation_importance
from landslip.importance.plots import draw_ranking
from landslip.importance.ranking import FEWEST_BLOCKS, MEASURES, Score, ranked
from landslip.importance.sampling import (
    FACTOR_SAMPLE,
    SAMPLING_SIDE,
    Sample,
    choose_factors,
    draw_sample,
    open_prepared,
    read_prepared_info,
)
from landslip.metrics.bootstrap import add_block_sums, block_shape
from landslip.runtime.atomic import refuse_existing, refuse_input
from landslip.runtime.disk import file_hash
from landslip.runtime.progress import plural
from landslip.runtime.provenance import software
from landslip.runtime.text import csv_table, screen_table, write_json, write_text
from landslip.training.checkpoint import load_model

RANKING_FILES = ("importance.csv", "importance.json", "importance.png")
NATURAL_CLASSES = 5  # natural breaks of a continuous factor


@dataclass(frozen=True)
class Importance:
    """All rankings, Spearman's rho of pairs of factors (largest over their channels), and what a reader must know."""

    scores: list[Score]
    correlated: list[tuple[str, ...]]
    correlation: dict[str, dict[str, float]]
    forest_auc: float
    notes: list[str]


def importance(
    prepared: Path,
    out: Path,
    model: Path | None = None,
    *,
    repeats: int = 20,
    block: int = 128,
    sample: int = FACTOR_SAMPLE,
    seed: int = 0,
    overwrite: bool = False,
    budget: Budget | None = None,
) -> Importance:
    """Rank the factors of a prepared site and write importance.csv, .json and .png into `out`.

    `model` adds the permutation importance of a network on the test part of its split.tif, or the validation part
    where there is no test part. `repeats` forests are fitted, and as often the network's factors are permuted; `block`
    is the side of the spatial blocks in pixels; a forest sees `sample` pixels, half of them landslide. `budget` adds
    the network trained anew without each factor, in `out`/ablation, where the same call goes on when it was stopped.
    Raises LabelError where too few blocks hold landslides or other ground, ChannelError where the stack has no factor,
    RunError for impossible numbers.
    """
    for name in RANKING_FILES:
        refuse_existing(out / name, overwrite)
    if repeats < 2 or block < 8 or sample < 100:
        raise RunError(
            f"{repeats} repeats, blocks of {block} pixels, {sample} pixels: give at least 2 (--repeats), 8 (--block) "
            "and 100 (--sample)."
        )
    stack = read_prepared_info(prepared)
    factors = choose_factors(stack, ())
    refuse_input(out, [stack.path, prepared / "label.tif", prepared / "valid.tif"])
    if budget is not None and model is None:
        raise RunError("what is trained anew without a factor is a model's network: give --model too.")
    loaded = None if model is None else load_model(model)
    planned = None if loaded is None or budget is None else plan_ablation(loaded, prepared, budget)
    # What cannot be permuted is refused before any long work.
    ground = None if loaded is None else held_out(loaded, stack, block, seed)
    _require_blocks(stack, block)
    site = _measure_site(stack, factors, repeats=repeats, block=block, sample=sample, seed=seed)
    scores, notes = site.scores, site.notes
    if loaded is not None and ground is not None:
        scores += permutation_importance(loaded, ground, site.together, repeats, seed)
        notes += ground.notes
    if planned is not None:
        drops, more = ablation_importance(planned, out / "ablation", block, seed, overwrite)
        scores, notes = scores + drops, notes + more
    rankings = Importance(ranked(scores), site.together, site.rho, site.auc, notes)
    facts = {"seed": seed, "repeats": repeats, "block": block, "sample": sample}
    _write(rankings, out, stack, facts | ({} if budget is None else {"budget": asdict(budget)}), overwrite)
    return rankings


def importance_table(rankings: Importance) -> str:
    """The rankings as text, with the notes."""
    lines: list[str] = []
    for measure, title in MEASURES.items():
        scores = [score for score in rankings.scores if score.measure == measure]
        if not scores:
            continue
        rows = []
        for score in scores:
            marks = [
                *(["unstable place"] if score.unstable else []),
                *(["no effect shown"] if score.effect is False else []),
                *([score.note] if score.note else []),
            ]
            rank = "-" if score.rank is None else str(score.rank)
            interval = f"{_figure(score.low)} to {_figure(score.high)}"
            rows.append([rank, score.factor, _figure(score.estimate), interval, ", ".join(marks)])
        heads = ["rank", "factor", "estimate", "95 % interval", ""]
        lines += ["", title, screen_table(heads, rows, text_columns=2)]
    return "\n".join([*lines[1:], "", *(f"Note: {note}." for note in rankings.notes)])


@dataclass(frozen=True, kw_only=True)
class _SiteMeasures:
    """What the site alone says, without a network.

    `rho` is Spearman's of every pair of factors, `together` the factors that are correlated, `auc` the mean area under
    the ROC curve of the forests, NaN where there was no ground to test one on.
    """

    scores: list[Score]
    notes: list[str]
    together: list[tuple[str, ...]]
    rho: dict[str, dict[str, float]]
    auc: float


def _measure_site(
    stack: StackInfo, factors: Sequence[str], *, repeats: int, block: int, sample: int, seed: int
) -> _SiteMeasures:
    """Gini importance and gain ratio of the factors, and which of them are correlated."""
    site_sample = draw_sample(stack, FACTOR_SAMPLE, seed)
    counts = count_classes(stack, [make_classes(stack, name, site_sample, NATURAL_CLASSES) for name in factors], block)
    rho = correlation(stack, site_sample)
    together = correlated_groups(rho, factors)
    gains = gain_ratios(counts, site_sample, stack.grid, block, seed)
    forest, auc, skipped = forest_importance(
        stack,
        draw_sample(stack, sample, seed, balanced=True),
        factors,
        together=together,
        repeats=repeats,
        block=block,
        seed=seed,
    )
    notes = [
        *_notes_on_pixels(site_sample, counts, repeats=repeats - skipped, block=block, auc=auc),
        *_notes_on_correlation(stack, factors, together, rho),
    ]
    if skipped:
        notes.append(f"Gini: {skipped} of {repeats} repeats were skipped, whose blocks held one class alone")
    return _SiteMeasures(scores=forest + gains, notes=notes, together=together, rho=rho, auc=auc)


def _require_blocks(stack: StackInfo, block: int) -> None:
    """Raise LabelError where too few spatial blocks hold a class, counted on the label whatever the factors are."""
    blocks = block_shape(stack.grid.shape, block)
    sums = {code: np.zeros(blocks, np.int64) for code in (LANDSLIDE, OTHER)}
    with open_prepared(stack) as rasters:
        for window in tiles(stack.grid.shape, SAMPLING_SIDE):
            known, label = rasters.known(window)
            for code, total in sums.items():
                add_block_sums(total, known & (label == code), window.row, window.column, block)
    landslides, other = (int(np.count_nonzero(sums[code])) for code in (LANDSLIDE, OTHER))
    if min(landslides, other) < FEWEST_BLOCKS:
        raise LabelError(
            f"{stack.path.with_name('label.tif')}: on valid ground, landslides lie in {landslides} and other ground in "
            f"{plural(other, 'spatial block')} of {block} pixels a side, and intervals need {FEWEST_BLOCKS} of each. "
            "Give a smaller --block, or map more ground."
        )


def _notes_on_pixels(sample: Sample, counts: Sequence[Counts], *, repeats: int, block: int, auc: float) -> list[str]:
    """What the rankings of the site stand on, and how they are to be read."""
    return [
        f"Gini and gain ratio: all {sample.pixels:,} valid pixels of known label, {sample.landslides:,} landslide, in "
        f"{len(counts[0].table)} spatial blocks of {block} pixels; bands left out",
        f"Gini: {repeats} forests of {TREES} trees on blocks drawn with replacement, as many landslide as other "
        + (
            "pixels; no block was left to test a forest on"
            if math.isnan(auc)
            else f"pixels; mean AUC {auc:.3f} on the blocks that a forest did not see (0.5: it knows nothing)"
        ),
        f"gain ratio: continuous factors in {NATURAL_CLASSES} natural breaks of {len(sample.label):,} pixels, "
        "aspect in eight directions and flat",
        "a factor shows an effect where it beats itself carried from other blocks (one-sided, 5 %; the network: where "
        "at most 5 % of the draws do not drop); those that show none rank last",
        "a place is unstable where a factor's interval overlaps that of any other factor that shows an effect as it "
        "does, or none as it does",
    ]


def _notes_on_correlation(
    stack: StackInfo,
    factors: Sequence[str],
    together: Sequence[tuple[str, ...]],
    rho: Mapping[str, Mapping[str, float]],
) -> list[str]:
    """Which factors say the same as each other, or as a band."""
    notes = [
        f"{' + '.join(group)} are correlated (|Spearman| above {CORRELATED}): what one says the other says too, so "
        "their own places mean little and they are also taken together"
        for group in together
    ]
    bands = list(dict.fromkeys(channel.factor for channel in stack.channels if channel.group == "band"))
    for name in factors:
        near = [f"{band} {rho[name][band]:+.2f}" for band in bands if abs(rho[name][band]) > CORRELATED]
        if near:
            notes.append(f"{name} is correlated with bands ({', '.join(near)}), which a network may use instead")
    return notes


def _write(rankings: Importance, out: Path, stack: StackInfo, facts: Mapping[str, object], overwrite: bool) -> None:
    """Write importance.csv, .png and .json, which also holds the `facts` that the rankings follow from."""
    write_text(
        out / "importance.csv",
        csv_table([field.name for field in fields(Score)], map(asdict, rankings.scores)),
        overwrite,
    )
    draw_ranking(rankings.scores, out / "importance.png", overwrite)
    origin = {"stack_sha256": file_hash(stack.path), "software": software()}
    write_json(out / "importance.json", {**asdict(rankings), **facts, **origin}, overwrite)


def _figure(value: float) -> str:
    """A number of the table; "undefined" where it is NaN."""
    return "undefined" if math.isnan(value) else f"{value:.5f}"
