"""Score a probability raster against a label, over a stated part of a site, window by window.

Only pixels with a probability (valid) and a known label (1 or 0) are scored; how much landslide area that leaves out is
part of every result, and so are how far the scored ground lies from training ground and what the scores would be on
other ground of the same kind.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landslip.dataset.label import LANDSLIDE, OTHER, UNKNOWN
from landslip.dataset.split import NONE, PARTS, leaky_of
from landslip.errors import LabelError, RunError, SplitError
from landslip.evaluation.leakage import Audit, audit, count_cells, empty_cells, windows_of
from landslip.geo.geotiff import TILE
from landslip.geo.grid import Grid, Window, require_metric, require_same_grid, tiles
from landslip.geo.raster import (
    open_raster,
    read_info,
    read_stored_window,
    read_window,
    require_one_band,
    require_probability,
)
from landslip.metrics.bootstrap import (
    BLOCK,
    DRAWS,
    LEVEL,
    SEED,
    Interval,
    add_block_sums,
    block_shape,
    confidence_intervals,
    empty_sums,
)
from landslip.metrics.calibration import (
    CLASSES,
    Reliability,
    add_class_sums,
    expected_calibration_error,
    reliability,
)
from landslip.metrics.confusion import SCORES, Confusion, Histogram, require_probabilities, stated_threshold
from landslip.runtime.progress import plural
from landslip.runtime.text import write_json

SIDE = 2 * TILE  # pixels per side of what is held at a time
WINDOW = 64  # pixels of a training window, where split.tif does not say
FEW_BLOCKS = 30  # fewer, and intervals are rough
VALUES, MAPPED = "values", "mapped"  # tag of a raster of landslide or not, 1 and 0, which has no calibration
HEADS = ("Accuracy (%)", "Precision (%)", "Recall (%)", "F1-score (%)", "Kappa (%)", "MIoU (%)")  # of SCORES


@dataclass(frozen=True)
class Evaluation:
    """What a landslide map scores, over which ground, and what a reader must know before believing it.

    `leaky` is True where training ground was scored or reached the scored windows, None where that is not known.
    `landslide_share_not_scored` is that area over all landslide area of the part; NaN where the part has none.
    `intervals` of the scores are from `blocks` square blocks of `block` pixels a side; `audit` is None without a split.
    `reliability` says, by class of probability, what share of the pixels scored is landslide; None, with its error, for
    a raster tagged values=mapped, which holds 1 and 0 and no probabilities.
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
    intervals: dict[str, Interval]
    block: int
    blocks: int
    audit: Audit | None
    reliability: list[Reliability] | None
    expected_calibration_error: float | None

    def __str__(self) -> str:
        return score_table(self)


@dataclass(frozen=True)
class _Split:
    name: str
    part: str
    leaky: bool | None
    notes: tuple[str, ...]
    window: int = WINDOW


def evaluate(
    probability: Path | str,
    label: Path | str,
    split: Path | str | None = None,
    part: str | None = None,
    threshold: float | None = None,
    block: int = BLOCK,
) -> Evaluation:
    """Score `probability` (float raster, NaN outside valid) against `label` (1, 0, 255 unknown) on one grid.

    `split` is the split.tif that training wrote; `part` is "train", "validation", "test" or "all", by default "test"
    with a split and "all" without. `threshold` is the raster's tag, or 0.5, where not given. `block` is the side, in
    pixels, of the blocks that confidence intervals are drawn from. Raises GridError where the rasters do not lie on
    one metric grid, RasterError for values outside [0, 1], LabelError for labels and SplitError for parts that do not
    exist, RunError for an impossible threshold or block.
    """
    probability, label, split = Path(probability), Path(label), None if split is None else Path(split)
    if block < 1:
        raise RunError(f"blocks of {block} pixels a side hold no ground. Give 1 or more; {BLOCK} is the default.")
    chosen = _read_split(split, part)
    grid = _one_grid(probability, label, split)
    stored = read_info(probability).tags
    at, source = stated_threshold(threshold, stored.get("threshold"), probability.name)

    sums = [empty_sums(grid.shape, block) for _ in range(4)]
    by_class = empty_sums(grid.shape, block, CLASSES, 2)
    counted = Histogram.empty()
    cells = empty_cells(grid)
    landslide = missed = no_part = train = 0
    paths = probability, label, split
    for window, values, truth, parts in _windows(paths, grid, tiles(grid.shape, SIDE)):
        inside = _inside(parts, chosen.part)
        defined = np.isfinite(values)
        mapped, drawn, scored = values >= at, truth == LANDSLIDE, _scored(values, truth, inside)
        for by_block, this in zip(sums, _four(mapped, drawn, scored), strict=True):
            add_block_sums(by_block, this, window.row, window.column, block)
        counted += Histogram.from_arrays(values, truth, scored)
        add_class_sums(by_class, values, drawn, scored, (window.row, window.column), block)
        landslide += int(np.count_nonzero(inside & drawn))
        missed += int(np.count_nonzero(inside & drawn & ~defined))
        no_part += int(np.count_nonzero(drawn & (parts == NONE)))
        if split is not None:
            train += int(np.count_nonzero(scored & (parts == PARTS["train"])))
            count_cells(cells, scored & (parts != PARTS["train"]), window)
    total = Confusion(*(int(pixels.sum()) for pixels in sums))

    def off_training(held: NDArray[np.bool_]) -> Iterator[tuple[Window, NDArray[np.bool_]]]:
        for window, values, truth, parts in _windows(paths, grid, windows_of(held, grid, SIDE)):
            yield window, _scored(values, truth, _inside(parts, chosen.part)) & (parts != PARTS["train"])

    measured = None if split is None else audit(split, grid, train, cells, off_training, chosen.window)
    matrices = np.stack(sums, -1).reshape(-1, 4)
    blocks = int(np.count_nonzero(matrices.any(1)))

    leaky, notes = _leak(chosen, train, total.n)
    if measured is not None and not leaky:
        notes += nearness(measured)
    if total.n and blocks < FEW_BLOCKS:
        notes.append(
            f"scored ground lies in {plural(blocks, 'block')} of {block} pixels only: the intervals are rough or "
            "undefined"
        )
    if split is not None and chosen.part != "all" and no_part:
        notes.append(f"{_area(no_part * grid.pixel_area)} of landslide lies in no part (guard) and is never scored")
    if missed:
        notes.append(
            f"{_area(missed * grid.pixel_area)} of landslide ({100 * missed / landslide:.1f} % of this part's) lies "
            "where nothing was mapped and is not scored"
        )
    notes += _undefined(total)
    calibrated = None if stored.get(VALUES) == MAPPED else reliability(counted, by_class.reshape(-1, CLASSES, 2))
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
        confidence_intervals(matrices),
        block,
        blocks,
        measured,
        calibrated,
        None if calibrated is None else expected_calibration_error(calibrated),
    )


def confusion_by_block(
    probability: Path, label: Path, split: Path | None = None, part: str | None = None, block: int = BLOCK
) -> NDArray[np.int64]:
    """(B, 4) scored pixels of every block of `block` pixels a side, row by row: TP, FP, FN, TN; 0 where none is scored.

    At the threshold that the raster carries. Raises as `evaluate` does.
    """
    chosen = _read_split(split, part)
    grid = _one_grid(probability, label, split)
    at, _ = stated_threshold(None, read_info(probability).tags.get("threshold"), probability.name)
    sums = np.zeros((4, *block_shape(grid.shape, block)), np.int64)
    for window, values, truth, parts in _windows((probability, label, split), grid, tiles(grid.shape, SIDE)):
        four = _four(values >= at, truth == LANDSLIDE, _scored(values, truth, _inside(parts, chosen.part)))
        for by_block, this in zip(sums, four, strict=True):
            add_block_sums(by_block, this, window.row, window.column, block)
    return sums.reshape(4, -1).T


@dataclass(frozen=True)
class Counted:
    """Probabilities of a part by label, so that the scores of every threshold follow at once; see `Evaluation`."""

    counts: Histogram
    split: str
    part: str
    leaky: bool | None
    notes: tuple[str, ...]


def count_probabilities(probability: Path, label: Path, split: Path | None = None, part: str | None = None) -> Counted:
    """Count the probabilities that `evaluate` would score, without intervals or audit. Raises as `evaluate` does."""
    chosen = _read_split(split, part)
    grid = _one_grid(probability, label, split)
    counted, train = Histogram.empty(), 0
    for _, values, truth, parts in _windows((probability, label, split), grid, tiles(grid.shape, SIDE)):
        scored = _scored(values, truth, _inside(parts, chosen.part))
        counted += Histogram.from_arrays(values, truth, scored)
        if split is not None:
            train += int(np.count_nonzero(scored & (parts == PARTS["train"])))
    total = int(counted.landslide.sum() + counted.other.sum())
    leaky, notes = _leak(chosen, train, total)
    return Counted(counted, chosen.name, chosen.part, leaky, tuple(notes))


def known_windows(
    probability: Path, label: Path, split: Path | None, part: str | None, windows: Iterable[Window]
) -> tuple[str, Iterator[tuple[Window, NDArray[np.uint8], NDArray[np.bool_], NDArray[np.bool_]]]]:
    """The part that `evaluate` scores and, at each window: label, where label and probability are known, and scored.

    Arrays are (h, w). Raises as `evaluate` does for rasters and parts that do not fit.
    """
    chosen = _read_split(split, part)
    grid = _one_grid(probability, label, split)

    def read() -> Iterator[tuple[Window, NDArray[np.uint8], NDArray[np.bool_], NDArray[np.bool_]]]:
        for window, values, truth, parts in _windows((probability, label, split), grid, windows):
            known = _scored(values, truth, np.ones(truth.shape, bool))
            yield window, truth, known, known & _inside(parts, chosen.part)

    return chosen.part, read()


def _one_grid(probability: Path, label: Path, split: Path | None) -> Grid:
    info = read_info(probability)
    require_metric(info.grid, str(probability))
    require_probability(info)
    for other, what in ((label, "label"), (split, "split")):
        if other is not None:
            require_one_band(read_info(other), what)
            require_same_grid(info.grid, str(probability), read_info(other).grid, str(other))
    return info.grid


def _inside(parts: NDArray[np.uint8], part: str) -> NDArray[np.bool_]:
    return np.ones(parts.shape, bool) if part == "all" else np.asarray(parts == PARTS[part])


def _scored(values: NDArray[np.float32], truth: NDArray[np.uint8], inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return np.asarray(inside & np.isfinite(values) & (truth != UNKNOWN))


def _four(
    mapped: NDArray[np.bool_], drawn: NDArray[np.bool_], scored: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], ...]:
    """Where a pixel is TP, FP, FN and TN."""
    yes, no = scored & mapped, scored & ~mapped
    return yes & drawn, yes & ~drawn, no & drawn, no & ~drawn


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
    name = tags.get("split", "unknown")
    if name == "paper" and part == "test":
        raise SplitError(
            f"{split}: a paper split has no test part, only train and validation. Score the whole site as the paper "
            "does (--part all, labelled leaky), or train with the split `apart`."
        )
    leaky = leaky_of(tags)
    notes = []
    if leaky:
        notes.append(f"leaky: windows of the {name} split share pixels between training and the rest")
    if leaky is None:
        notes.append(tags.get("leaky_reason") or f"{split.name} does not say whether its split is leaky")
    if part == "validation" and not leaky:
        notes.append("validation ground chose the epoch and the threshold: the test part is the unbiased one")
    stated = tags.get("window", "")
    return _Split(name, part, leaky, tuple(notes), int(stated) if stated.isdecimal() else WINDOW)


def _windows(
    paths: tuple[Path, Path, Path | None], grid: Grid, windows: Iterable[Window]
) -> Iterator[tuple[Window, NDArray[np.float32], NDArray[np.uint8], NDArray[np.uint8]]]:
    """(h, w) probabilities, labels and parts of one window after another; parts are 255 where there is no split."""
    probability, label, split = paths
    with ExitStack() as open_files:
        mapped = open_files.enter_context(open_raster(probability))
        drawn = open_files.enter_context(open_raster(label))
        divided = None if split is None else open_files.enter_context(open_raster(split))
        for window in windows:
            values = read_window(mapped, window, [1])[0]
            truth = _codes(read_stored_window(drawn, window), (OTHER, LANDSLIDE, UNKNOWN), label, LabelError)
            parts = np.full(truth.shape, UNKNOWN, np.uint8)
            if split is not None:
                parts = _codes(read_stored_window(divided, window), (NONE, *PARTS.values()), split, SplitError)
            require_probabilities(values, str(probability))
            yield window, values, truth, parts


def _codes(
    stored: NDArray[Any], known: tuple[int, ...], path: Path, error: type[LabelError] | type[SplitError]
) -> NDArray[np.uint8]:
    strange = ~np.logical_or.reduce([stored == code for code in known])  # a sixth of the time of isin
    if strange.any():
        raise error(
            f"{path} holds {stored[strange][0]}, and only {', '.join(map(str, known))} have a meaning there. "
            "Prepare it again with landslip, or recode it."
        )
    return stored.astype(np.uint8)


def cells(scores: Mapping[str, float | None], between: Mapping[str, Sequence[float | None]]) -> list[str]:
    """The six scores as cells of a table, per cent, each with the interval [low, high] `between` holds for it."""
    found = []
    for name in SCORES:
        score, (low, high) = scores[name], between[name]
        text = "undefined" if score is None or math.isnan(score) else f"{100 * score:.2f}"
        if low is not None and high is not None and not math.isnan(low):
            text += f" [{100 * low:.1f}, {100 * high:.1f}]"
        found.append(text)
    return found


def leakage(leaky: bool | None) -> str:
    """Whether scores are leaky, as a cell of a table."""
    return {True: "LEAKY", False: "no", None: "unknown"}[leaky]


def _leak(chosen: _Split, train: int, scored: int) -> tuple[bool | None, list[str]]:
    """Whether a score leaks, with the notes on it, where `train` of the pixels scored are training ground."""
    if not train:
        return chosen.leaky, list(chosen.notes)
    return True, [*chosen.notes, f"includes training ground: {100 * train / scored:.1f} % of the pixels scored"]


def nearness(found: Audit) -> list[str]:
    """A note where scored pixels lie within a window of training ground; none where they do not or it is not known."""
    if not found.share_near > 0:
        return []
    return [
        f"{100 * found.share_near:.1f} % of the pixels scored lie nearer to training ground than one window of "
        f"{found.window} pixels: their surroundings were trained on"
    ]


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
    return f"{square_metres / 1e6:.2f} km²" if square_metres >= 1e5 else f"{square_metres:,.0f} m²"


def score_table(evaluation: Evaluation) -> str:
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
        *([] if evaluation.audit is None else [_audited(evaluation.audit)]),
        "",
        *(
            f"{names[key]:<10}{_percent(value):>12}{_between(evaluation.intervals[key])}"
            for key, value in evaluation.scores.items()
        ),
        *_about_intervals(evaluation),
        *_calibrated(evaluation),
        "",
        f"{'Mapped / true':<15}{'Landslide':>{width}}{'Non-landslide':>{width}}",
        f"{'Landslide':<15}{counts.tp:>{width},}{counts.fp:>{width},}",
        f"{'Non-landslide':<15}{counts.fn:>{width},}{counts.tn:>{width},}",
    ]
    if evaluation.notes:
        lines += ["", *(f"Note: {note}." for note in evaluation.notes)]
    return "\n".join(lines)


def _audited(found: Audit) -> str:
    if math.isnan(found.minimum_m):
        return "Nearest training ground: no distance to it, since nothing was scored or no training ground is known"
    return (
        f"Nearest training ground: {_length(found.minimum_m)} at least, {_length(found.median_m)} in the median; "
        f"{100 * found.share_inside:.1f} % of the pixels scored lie on it, {100 * found.share_near:.1f} % nearer than "
        f"one window ({found.window} pixels)"
    )


def _length(metres: float) -> str:
    return f"{metres / 1000:.1f} km" if metres >= 10_000 else f"{metres:,.0f} m"


def _between(interval: Interval) -> str:
    return "" if math.isnan(interval.low) else f"   {100 * interval.low:6.2f} to {100 * interval.high:6.2f}"


def _about_intervals(evaluation: Evaluation) -> list[str]:
    """What the intervals beside the scores are; nothing where there are none."""
    if all(math.isnan(interval.low) for interval in evaluation.intervals.values()):
        return []
    lost = max(interval.undefined for interval in evaluation.intervals.values())
    return [
        f"Beside them: {100 * LEVEL:g} % intervals, {DRAWS:,} draws of {plural(evaluation.blocks, 'block')} of "
        f"{evaluation.block} x {evaluation.block} pixels" + (f" (up to {lost} undefined and left out)" if lost else "")
    ]


def _calibrated(evaluation: Evaluation) -> list[str]:
    if evaluation.reliability is None or evaluation.expected_calibration_error is None:
        return []
    return [
        f"Calibration: expected calibration error {_percent(evaluation.expected_calibration_error)}, in "
        f"{len(evaluation.reliability)} classes of probability"
    ]


def _percent(score: float) -> str:
    return "undefined" if math.isnan(score) else f"{100 * score:.2f} %"


def write_scores(
    path: Path, evaluation: Evaluation, overwrite: bool = False, inventory: dict[str, Any] | None = None
) -> None:
    """Write an evaluation as JSON: scores are fractions, null where undefined; areas in square metres.

    `inventory` holds the scores of an inventory, where one was scored too. Raises OutputError where `path` exists
    (unless `overwrite`) or cannot be written.
    """
    write_json(path, evaluation_json(evaluation) | ({} if inventory is None else {"inventory": inventory}), overwrite)


def evaluation_json(evaluation: Evaluation) -> dict[str, Any]:
    """An evaluation as JSON holds it."""
    confusion = evaluation.confusion
    found = {
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
    return found | trust(evaluation)


def trust(evaluation: Evaluation) -> dict[str, Any]:
    """What scores stand on, for JSON: intervals, how they were drawn, the audit and calibration; None: not known."""
    found = evaluation.intervals
    return {
        "intervals": {name: [interval.low, interval.high] for name, interval in found.items()},
        "bootstrap": {
            "level": LEVEL,
            "draws": DRAWS,
            "seed": SEED,
            "block": evaluation.block,
            "blocks": evaluation.blocks,
            "undefined": {name: interval.undefined for name, interval in found.items()},
        },
        "audit": None if evaluation.audit is None else asdict(evaluation.audit),
        "expected_calibration_error": evaluation.expected_calibration_error,
        "reliability": None if evaluation.reliability is None else [asdict(row) for row in evaluation.reliability],
    }
