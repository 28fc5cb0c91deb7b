"""Score a probability raster against a label, over a stated part of a site, window by window.

Only pixels with a probability (valid) and a known label (1 or 0) are scored; how much landslide area that leaves out is
part of every result, and so are how far the scored ground lies from training ground and what the scores would be on
other ground of the same kind.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from landslip.dataset.label import LANDSLIDE
from landslip.dataset.split import NONE, PARTS
from landslip.errors import RunError
from landslip.evaluation.counts import (
    COUNTING_SIDE,
    MAPPED,
    VALUES,
    ScoredPart,
    four_counts,
    inside_part,
    label_windows,
    leak,
    one_grid,
    scored_part,
    scored_pixels,
)
from landslip.evaluation.leakage import Audit, TrainingDistances
from landslip.evaluation.result import Evaluation, area
from landslip.geo.grid import Grid, tiles
from landslip.geo.raster import read_info
from landslip.metrics.bootstrap import BOOTSTRAP_BLOCK, add_block_sums, confidence_intervals, empty_sums
from landslip.metrics.calibration import RELIABILITY_CLASSES, add_class_sums, expected_calibration_error, reliability
from landslip.metrics.confusion import SCORES, Confusion, Histogram, stated_threshold
from landslip.runtime.progress import plural

FEW_BLOCKS = 30  # of fewer blocks than these the intervals are rough


def evaluate(
    probability: Path | str,
    label: Path | str,
    split: Path | str | None = None,
    part: str | None = None,
    *,
    threshold: float | None = None,
    block: int = BOOTSTRAP_BLOCK,
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
        raise RunError(
            f"blocks of {block} pixels a side hold no ground. Give 1 or more; {BOOTSTRAP_BLOCK} is the default."
        )
    chosen = scored_part(split, part)
    grid = one_grid(probability, label, split)
    tags = read_info(probability).tags
    limit, source = stated_threshold(threshold, tags.get("threshold"), probability.name)
    counts = _count_windows((probability, label, split), grid, chosen, limit, block)
    confusion = Confusion(*(int(pixels.sum()) for pixels in counts.by_block))
    audit = None if counts.distances is None else counts.distances.audit()
    matrices = np.stack(counts.by_block, -1).reshape(-1, 4)
    blocks = int(np.count_nonzero(matrices.any(1)))
    leaky, notes = leak(chosen, 0 if counts.distances is None else counts.distances.inside, confusion.n)
    if audit is not None and not leaky:
        notes += nearness(audit)
    if confusion.n:
        notes += _few_blocks(blocks, block)
    notes += [*_not_scored(counts, grid, chosen.part), *_undefined(confusion)]
    holds_probabilities = tags.get(VALUES) != MAPPED
    by_class = counts.by_class.reshape(-1, RELIABILITY_CLASSES, 2)
    classes = reliability(counts.histogram, by_class) if holds_probabilities else None
    return Evaluation(
        confusion=confusion,
        scores=confusion.scores(),
        split=chosen.name,
        part=chosen.part,
        threshold=limit,
        threshold_source=source,
        pixels=confusion.n,
        area_m2=confusion.n * grid.pixel_area,
        landslide_area_not_scored_m2=counts.missed * grid.pixel_area,
        landslide_share_not_scored=counts.missed / counts.landslide if counts.landslide else math.nan,
        leaky=leaky,
        notes=notes,
        intervals=confidence_intervals(matrices),
        block=block,
        blocks=blocks,
        audit=audit,
        reliability=classes,
        expected_calibration_error=None if classes is None else expected_calibration_error(classes),
    )


def nearness(audit: Audit) -> list[str]:
    """A note where scored pixels lie within a window of training ground; none where they do not or it is not known."""
    if not audit.share_near > 0:
        return []
    return [
        f"{100 * audit.share_near:.1f} % of the pixels scored lie nearer to training ground than one window of "
        f"{audit.window} pixels: their surroundings were trained on"
    ]


@dataclass
class _PixelCounts:
    """Pixels of the scored part, counted window after window.

    `by_block` holds the scored pixels that are TP, FP, FN and TN, each (rows, columns) of the bootstrap's blocks, and
    `by_class` (rows, columns, classes, 2) those of each class of probability. `distances` to training ground is None
    without a split. `landslide` are the part's landslide pixels, `missed` those of them without a probability, and
    `no_part` landslide pixels in no part.
    """

    by_block: list[NDArray[np.signedinteger]]
    by_class: NDArray[np.signedinteger]
    histogram: Histogram
    distances: TrainingDistances | None
    landslide: int = 0
    missed: int = 0
    no_part: int = 0


def _count_windows(
    paths: tuple[Path, Path, Path | None], grid: Grid, chosen: ScoredPart, limit: float, block: int
) -> _PixelCounts:
    """Count the pixels of the rasters at `paths`: probability, label and split. What reaches `limit` is mapped."""
    counts = _PixelCounts(
        by_block=[empty_sums(grid.shape, block) for _ in range(4)],
        by_class=empty_sums(grid.shape, block, RELIABILITY_CLASSES, 2),
        histogram=Histogram.empty(),
        distances=None if paths[2] is None else TrainingDistances(paths[2], grid, chosen.window),
    )
    for window, values, truth, parts in label_windows(paths, tiles(grid.shape, COUNTING_SIDE)):
        inside = inside_part(parts, chosen.part)
        landslide, scored = truth == LANDSLIDE, scored_pixels(values, truth, inside)
        for sums, mask in zip(counts.by_block, four_counts(values >= limit, landslide, scored), strict=True):
            add_block_sums(sums, mask, window.row, window.column, block)
        corner = window.row, window.column
        add_class_sums(counts.by_class, values, landslide, scored=scored, corner=corner, side=block)
        counts.histogram += Histogram.from_arrays(values, truth, scored)
        counts.landslide += int(np.count_nonzero(inside & landslide))
        counts.missed += int(np.count_nonzero(inside & landslide & ~np.isfinite(values)))
        counts.no_part += int(np.count_nonzero(landslide & (parts == NONE)))
        if counts.distances is not None:
            counts.distances.add(window, scored, parts == PARTS["train"])
    return counts


def _few_blocks(blocks: int, side: int) -> list[str]:
    """A note where scored ground lies in too few blocks for sure intervals; none where it does not."""
    if blocks >= FEW_BLOCKS:
        return []
    return [
        f"scored ground lies in {plural(blocks, 'block')} of {side} pixels only: the intervals are rough or undefined"
    ]


def _not_scored(counts: _PixelCounts, grid: Grid, part: str) -> list[str]:
    """Notes on landslide area that is never scored, or not in this part; none where there is none."""
    notes = []
    if part != "all" and counts.no_part:
        notes.append(
            f"{area(counts.no_part * grid.pixel_area)} of landslide lies in no part (guard) and is never scored"
        )
    if counts.missed:
        share = 100 * counts.missed / counts.landslide
        notes.append(
            f"{area(counts.missed * grid.pixel_area)} of landslide ({share:.1f} % of this part's) lies "
            "where nothing was mapped and is not scored"
        )
    return notes


def _undefined(confusion: Confusion) -> list[str]:
    """Why scores are NaN, in words."""
    undefined = [name for name in SCORES if math.isnan(getattr(confusion, name))]
    if not undefined:
        return []
    if confusion.n == 0:
        why = "no pixel of this part has both a probability and a known label"
    elif confusion.tp + confusion.fn == 0:
        why = "the scored ground holds no landslide pixel"
    elif confusion.fp + confusion.tn == 0:
        why = "the scored ground holds nothing but landslide"
    else:
        why = "nothing was mapped as landslide"
    return [f"{why}: {', '.join(undefined)} undefined"]
