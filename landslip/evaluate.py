"""Score a probability raster against a label, over a stated part of a site, window by window.

Only pixels with a probability (valid) and a known label (1 or 0) are scored; how much landslide area that leaves out is
part of every result, and so is whether training ground was scored.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landslip.errors import LabelError, SplitError
from landslip.grid import Grid, require_metric, require_same_grid, tiles
from landslip.label import LANDSLIDE, OTHER, UNKNOWN
from landslip.metrics import SCORES, Confusion, choose_threshold, require_probabilities
from landslip.output import write_json
from landslip.raster import TILE, cut, cut_stored, opening, read_info, require_one_band
from landslip.split import NONE, PARTS

SIDE = 4 * TILE  # pixels per side of what is held at a time


@dataclass(frozen=True)
class Evaluation:
    """What a landslide map scores, over which ground, and what a reader must know before believing it.

    `leaky` is True where training ground was scored or reached the scored windows, None where that is not known.
    `landslide_share_not_scored` is that area over all landslide area of the part; NaN where the part has none.
    """

    confusion: Confusion
    scores: dict[str, float]
    split: str
    part: str
    threshold: float
    threshold_source: str
    pixels: int
    area_m2: float
    landslide_area_not_scored_m2: float
    landslide_share_not_scored: float
    leaky: bool | None
    notes: list[str]


@dataclass(frozen=True)
class _Split:
    name: str
    part: str
    leaky: bool | None
    notes: tuple[str, ...]


def evaluate(
    probability: Path,
    label: Path,
    split: Path | None = None,
    part: str | None = None,
    threshold: float | None = None,
) -> Evaluation:
    """Score `probability` (float raster, NaN outside valid) against `label` (1, 0, 255 unknown) on one grid.

    `split` is the split.tif that training wrote; `part` is "train", "validation", "test" or "all", by default "test"
    with a split and "all" without. `threshold` is the raster's tag, or 0.5, where not given. Raises GridError where
    the rasters do not lie on one metric grid, RasterError for values outside [0, 1], LabelError for labels and
    SplitError for parts that do not exist, RunError for an impossible threshold.
    """
    chosen = _read_split(split, part)
    info = read_info(probability)
    grid = info.grid
    require_metric(grid, str(probability))
    require_one_band(info, "probability")
    for other, what in ((label, "label"), (split, "split")):
        if other is not None:
            require_one_band(read_info(other), what)
            require_same_grid(grid, str(probability), read_info(other).grid, str(other))
    at, source = choose_threshold(threshold, info.tags.get("threshold"), probability.name)

    total = Confusion(0, 0, 0, 0)
    landslide = missed = no_part = train = 0
    for values, truth, parts in _windows(probability, label, split, grid):
        inside = np.ones(truth.shape, bool) if chosen.part == "all" else parts == PARTS[chosen.part]
        defined = np.isfinite(values)
        total += Confusion.from_arrays(values >= at, truth, inside & defined)
        drawn = inside & (truth == LANDSLIDE)
        landslide += int(np.count_nonzero(drawn))
        missed += int(np.count_nonzero(drawn & ~defined))
        no_part += int(np.count_nonzero((truth == LANDSLIDE) & (parts == NONE)))
        train += int(np.count_nonzero(inside & defined & (truth != UNKNOWN) & (parts == PARTS["train"])))

    leaky, notes = chosen.leaky, list(chosen.notes)
    if split is not None and train:
        leaky = True
        notes.append(f"includes training ground: {100 * train / total.n:.1f} % of the pixels scored")
    if split is not None and chosen.part != "all" and no_part:
        notes.append(f"{_area(no_part * grid.pixel_area)} of landslide lies in no part (guard) and is never scored")
    if missed:
        notes.append(
            f"{_area(missed * grid.pixel_area)} of landslide ({100 * missed / landslide:.1f} % of this part's) lies "
            "where nothing was mapped and is not scored"
        )
    notes += _undefined(total)
    return Evaluation(
        total,
        total.scores(),
        chosen.name,
        chosen.part,
        at,
        source,
        total.n,
        total.n * grid.pixel_area,
        missed * grid.pixel_area,
        missed / landslide if landslide else math.nan,
        leaky,
        notes,
    )


def _read_split(split: Path | None, part: str | None) -> _Split:
    part = part or ("all" if split is None else "test")
    if part != "all" and part not in PARTS:
        raise SplitError(f"there is no part {part!r}; the parts are {', '.join(PARTS)} and all.")
    if split is None:
        if part != "all":
            raise SplitError(
                f"the {part} part cannot be told without a split. Give the split.tif that training wrote beside the "
                "model (--split), or score everything (--part all)."
            )
        return _Split("unknown", part, None, ("split unknown: the score may include training ground",))
    tags = read_info(split).tags
    name, stated = tags.get("split", "unknown"), tags.get("leaky")
    if name == "paper" and part == "test":
        raise SplitError(
            f"{split}: a paper split has no test part, only train and validation. Score the whole site as the paper "
            "does (--part all, labelled leaky), or train with the split `apart`."
        )
    leaky = True if name == "paper" else {"yes": True, "no": False}.get(stated or "")
    notes = []
    if leaky:
        notes.append(f"leaky: windows of the {name} split share pixels between training and the rest")
    if leaky is None:
        notes.append(f"{split.name} does not say whether its split is leaky")
    if part == "validation" and not leaky:
        notes.append("validation ground chose the epoch and the threshold: the test part is the unbiased one")
    return _Split(name, part, leaky, tuple(notes))


def _windows(
    probability: Path, label: Path, split: Path | None, grid: Grid
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.uint8]]]:
    """(h, w) probabilities, labels and parts of one window after another; parts are 255 where there is no split."""
    with ExitStack() as open_files:
        mapped = open_files.enter_context(opening(probability))
        drawn = open_files.enter_context(opening(label))
        divided = None if split is None else open_files.enter_context(opening(split))
        for window in tiles(grid.shape, SIDE):
            values = cut(mapped, window, [1])[0]
            truth = _codes(cut_stored(drawn, window), (OTHER, LANDSLIDE, UNKNOWN), label, LabelError)
            parts = np.full(truth.shape, UNKNOWN, np.uint8)
            if split is not None:
                parts = _codes(cut_stored(divided, window), (NONE, *PARTS.values()), split, SplitError)
            require_probabilities(values, str(probability))
            yield values, truth, parts


def _codes(
    stored: NDArray[Any], known: tuple[int, ...], path: Path, error: type[LabelError] | type[SplitError]
) -> NDArray[np.uint8]:
    strange = ~np.isin(stored, known)
    if strange.any():
        raise error(
            f"{path} holds {stored[strange][0]}, and only {', '.join(map(str, known))} have a meaning there. "
            "Prepare it again with landslip, or recode it."
        )
    return stored.astype(np.uint8)


def _undefined(confusion: Confusion) -> list[str]:
    """Why scores are NaN, in words."""
    unscored = [name for name in SCORES if math.isnan(getattr(confusion, name))]
    if not unscored:
        return []
    if confusion.n == 0:
        why = "no pixel of this part has both a probability and a known label"
    elif confusion.tp + confusion.fn == 0:
        why = "the scored ground holds no landslide pixel"
    elif confusion.fp + confusion.tn == 0:
        why = "the scored ground holds nothing but landslide"
    else:
        why = "nothing was mapped as landslide"
    return [f"{why}: {', '.join(unscored)} undefined"]


def _area(square_metres: float) -> str:
    return f"{square_metres / 1e6:.2f} km2" if square_metres >= 1e5 else f"{square_metres:,.0f} m2"


def table(evaluation: Evaluation) -> str:
    """The scores in per cent and the confusion matrix laid out as the paper's Table VI, with the ground they cover."""
    names = {
        "accuracy": "Accuracy",
        "precision": "Precision",
        "recall": "Recall",
        "f1": "F1-score",
        "kappa": "Kappa",
        "miou": "MIoU",
    }
    ground = "all mapped ground" if evaluation.part == "all" else f"the {evaluation.part} part"
    leaky = {True: ", leaky", False: "", None: ", leaky or not: unknown"}[evaluation.leaky]
    counts = evaluation.confusion
    width = max(15, *(len(f"{count:,}") + 2 for count in (counts.tp, counts.fp, counts.fn, counts.tn)))
    lines = [
        f"Taken over {ground}: {_area(evaluation.area_m2)}, {evaluation.pixels:,} pixels "
        f"(split {evaluation.split}{leaky})",
        f"Threshold {evaluation.threshold:g} ({evaluation.threshold_source})",
        "",
        *(f"{names[key]:<10}{_percent(value):>12}" for key, value in evaluation.scores.items()),
        "",
        f"{'Mapped / true':<15}{'Landslide':>{width}}{'Non-landslide':>{width}}",
        f"{'Landslide':<15}{counts.tp:>{width},}{counts.fp:>{width},}",
        f"{'Non-landslide':<15}{counts.fn:>{width},}{counts.tn:>{width},}",
    ]
    if evaluation.notes:
        lines += ["", *(f"Note: {note}." for note in evaluation.notes)]
    return "\n".join(lines)


def _percent(score: float) -> str:
    return "undefined" if math.isnan(score) else f"{100 * score:.2f} %"


def write_scores(path: Path, evaluation: Evaluation, overwrite: bool = False) -> None:
    """Write an evaluation as JSON: scores are fractions, null where undefined; areas in square metres.

    Raises OutputError where `path` exists (unless `overwrite`) or cannot be written.
    """
    confusion = evaluation.confusion
    content = {
        **evaluation.scores,
        "split": evaluation.split,
        "part": evaluation.part,
        "threshold": evaluation.threshold,
        "leaky": evaluation.leaky,
        "confusion": {"tp": confusion.tp, "fp": confusion.fp, "fn": confusion.fn, "tn": confusion.tn},
        "pixels": evaluation.pixels,
        "landslide_area_not_scored_m2": evaluation.landslide_area_not_scored_m2,
        "landslide_share_not_scored": evaluation.landslide_share_not_scored,
        "notes": evaluation.notes,
    }
    write_json(path, content, overwrite)
