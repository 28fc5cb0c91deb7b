"""What a map scores: the scores with all that a reader must know of them, as a table and as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from landslip.evaluation.leakage import Audit
from landslip.evaluation.object_scores import part_text
from landslip.metrics.bootstrap import BOOTSTRAP_DRAWS, BOOTSTRAP_SEED, LEVEL, Interval
from landslip.metrics.calibration import Reliability
from landslip.metrics.confusion import SCORES, Confusion
from landslip.runtime.progress import plural
from landslip.runtime.text import percent, screen_table, write_json

# In the order of SCORES.
HEADS = ("Accuracy (%)", "Precision (%)", "Recall (%)", "F1-score (%)", "Kappa (%)", "MIoU (%)")


@dataclass(frozen=True, kw_only=True)
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


def score_table(evaluation: Evaluation) -> str:
    """The scores in per cent and the confusion matrix laid out as the paper's Table VI, with the ground they cover."""
    leaky = {True: ", leaky", False: "", None: ", leaky or not: unknown"}[evaluation.leaky]
    counts = evaluation.confusion
    scores = [
        [head.removesuffix(" (%)"), percent(evaluation.scores[name]), _between(evaluation.intervals[name])]
        for name, head in zip(SCORES, HEADS, strict=True)
    ]
    matrix = [["Landslide", f"{counts.tp:,}", f"{counts.fp:,}"], ["Non-landslide", f"{counts.fn:,}", f"{counts.tn:,}"]]
    lines = [
        f"Taken over {part_text(evaluation.part)}: {area(evaluation.area_m2)}, {evaluation.pixels:,} pixels "
        f"(split {evaluation.split}{leaky})",
        f"Threshold {evaluation.threshold:g} ({evaluation.threshold_source})",
        *([] if evaluation.audit is None else [_nearest_training_ground(evaluation.audit)]),
        "",
        screen_table(["Score", "Value", f"{100 * LEVEL:g} % interval"], scores),
        *_about_intervals(evaluation),
        *_calibration_error(evaluation),
        "",
        screen_table(["Mapped / true", "Landslide", "Non-landslide"], matrix),
    ]
    if evaluation.notes:
        lines += ["", *(f"Note: {note}." for note in evaluation.notes)]
    return "\n".join(lines)


def write_scores(
    path: Path, evaluation: Evaluation, overwrite: bool = False, inventory: Mapping[str, object] | None = None
) -> None:
    """Write an evaluation as JSON: scores are fractions, null where undefined; areas in square metres.

    `inventory` holds the scores of an inventory, where one was scored too. Raises OutputError where `path` exists
    (unless `overwrite`) or cannot be written.
    """
    write_json(path, evaluation_json(evaluation) | ({} if inventory is None else {"inventory": inventory}), overwrite)


def evaluation_json(evaluation: Evaluation) -> dict[str, object]:
    """An evaluation as JSON holds it."""
    confusion = evaluation.confusion
    scores = {
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
    return scores | trust(evaluation)


def trust(evaluation: Evaluation) -> dict[str, object]:
    """What scores stand on, for JSON: intervals, how they were drawn, the audit and calibration; None: not known."""
    intervals = evaluation.intervals
    return {
        "intervals": {name: [interval.low, interval.high] for name, interval in intervals.items()},
        "bootstrap": {
            "level": LEVEL,
            "draws": BOOTSTRAP_DRAWS,
            "seed": BOOTSTRAP_SEED,
            "block": evaluation.block,
            "blocks": evaluation.blocks,
            "undefined": {name: interval.undefined for name, interval in intervals.items()},
        },
        "audit": None if evaluation.audit is None else asdict(evaluation.audit),
        "expected_calibration_error": evaluation.expected_calibration_error,
        "reliability": None if evaluation.reliability is None else [asdict(row) for row in evaluation.reliability],
    }


def cells(scores: Mapping[str, float | None], between: Mapping[str, Sequence[float | None]]) -> list[str]:
    """The six scores as cells of a table, per cent, each with the interval [low, high] `between` holds for it."""
    texts = []
    for name in SCORES:
        score, (low, high) = scores[name], between[name]
        text = "undefined" if score is None or math.isnan(score) else f"{100 * score:.2f}"
        if low is not None and high is not None and not math.isnan(low):
            text += f" [{100 * low:.1f}, {100 * high:.1f}]"
        texts.append(text)
    return texts


def score_cells(evaluation: Evaluation) -> list[str]:
    """The six scores of an evaluation as cells of a table, per cent, with their intervals."""
    between = {name: (interval.low, interval.high) for name, interval in evaluation.intervals.items()}
    return cells(evaluation.scores, between)


def leakage(leaky: bool | None) -> str:
    """Whether scores are leaky, as a cell of a table; `leaky` is None where nobody knows."""
    return {True: "LEAKY", False: "no", None: "unknown"}[leaky]


def area(square_metres: float) -> str:
    """An area in m², or from 0.1 km² on in km²."""
    return f"{square_metres / 1e6:.2f} km²" if square_metres >= 1e5 else f"{square_metres:,.0f} m²"


def _nearest_training_ground(audit: Audit) -> str:
    """How far the scored pixels lie from training ground, as a line of the table."""
    if math.isnan(audit.minimum_m):
        return "Nearest training ground: no distance to it, since nothing was scored or no training ground is known"
    return (
        f"Nearest training ground: {_length(audit.minimum_m)} at least, about {_length(audit.median_m)} in the median; "
        f"{100 * audit.share_inside:.1f} % of the pixels scored lie on it, {100 * audit.share_near:.1f} % nearer than "
        f"one window ({audit.window} pixels)"
    )


def _length(metres: float) -> str:
    """A length in m, or from 10 km on in km."""
    return f"{metres / 1000:.1f} km" if metres >= 10_000 else f"{metres:,.0f} m"


def _between(interval: Interval) -> str:
    """An interval beside its score; "" where it is undefined."""
    return "" if math.isnan(interval.low) else f"{100 * interval.low:.2f} to {100 * interval.high:.2f}"


def _about_intervals(evaluation: Evaluation) -> list[str]:
    """What the intervals beside the scores are; nothing where there are none."""
    if all(math.isnan(interval.low) for interval in evaluation.intervals.values()):
        return []
    undefined = max(interval.undefined for interval in evaluation.intervals.values())
    return [
        f"Intervals: {BOOTSTRAP_DRAWS:,} draws of {plural(evaluation.blocks, 'block')} of "
        f"{evaluation.block} x {evaluation.block} pixels"
        + (f" (up to {undefined} undefined and left out)" if undefined else "")
    ]


def _calibration_error(evaluation: Evaluation) -> list[str]:
    """How far the probabilities can be taken at their word; nothing where the raster holds none."""
    if evaluation.reliability is None or evaluation.expected_calibration_error is None:
        return []
    return [
        f"Calibration: expected calibration error {percent(evaluation.expected_calibration_error)}, in "
        f"{len(evaluation.reliability)} classes of probability"
    ]
