"""Score a probability raster against a label, over a stated part of a site, window by window.

Only pixels with a probability (valid) and a known label (1 or 0) are scored; how much landslide area that leaves out is
part of every result, and so are how far the scored ground lies from training ground and what the scores would be on
other ground of the same kind.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from landslip.dataset.label import LANDSLIDE
from landslip.dataset.split import NONE, PARTS
from landslip.errors import RunError
from landslip.evaluation.counts import (
    MAPPED,
    SIDE,
    VALUES,
    four_counts,
    label_windows,
    leak,
    one_grid,
    read_inside,
    read_split,
    scored_pixels,
)
from landslip.evaluation.leakage import Audit, audit, count_cells, empty_cells, windows_of
from landslip.evaluation.result import Evaluation, area
from landslip.geo.grid import Window, tiles
from landslip.geo.raster import (
    read_info,
)
from landslip.metrics.bootstrap import (
    BLOCK,
    add_block_sums,
    confidence_intervals,
    empty_sums,
)
from landslip.metrics.calibration import (
    CLASSES,
    add_class_sums,
    expected_calibration_error,
    reliability,
)
from landslip.metrics.confusion import SCORES, Confusion, Histogram, stated_threshold
from landslip.runtime.progress import plural

FEW_BLOCKS = 30  # fewer, and intervals are rough


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
    chosen = read_split(split, part)
    grid = one_grid(probability, label, split)
    stored = read_info(probability).tags
    at, source = stated_threshold(threshold, stored.get("threshold"), probability.name)

    sums = [empty_sums(grid.shape, block) for _ in range(4)]
    by_class = empty_sums(grid.shape, block, CLASSES, 2)
    counted = Histogram.empty()
    cells = empty_cells(grid)
    landslide = missed = no_part = train = 0
    paths = probability, label, split
    for window, values, truth, parts in label_windows(paths, grid, tiles(grid.shape, SIDE)):
        inside = read_inside(parts, chosen.part)
        defined = np.isfinite(values)
        mapped, drawn, scored = values >= at, truth == LANDSLIDE, scored_pixels(values, truth, inside)
        for by_block, this in zip(sums, four_counts(mapped, drawn, scored), strict=True):
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
        for window, values, truth, parts in label_windows(paths, grid, windows_of(held, grid, SIDE)):
            yield window, scored_pixels(values, truth, read_inside(parts, chosen.part)) & (parts != PARTS["train"])

    measured = None if split is None else audit(split, grid, train, cells, off_training, chosen.window)
    matrices = np.stack(sums, -1).reshape(-1, 4)
    blocks = int(np.count_nonzero(matrices.any(1)))

    leaky, notes = leak(chosen, train, total.n)
    if measured is not None and not leaky:
        notes += nearness(measured)
    if total.n and blocks < FEW_BLOCKS:
        notes.append(
            f"scored ground lies in {plural(blocks, 'block')} of {block} pixels only: the intervals are rough or "
            "undefined"
        )
    if split is not None and chosen.part != "all" and no_part:
        notes.append(f"{area(no_part * grid.pixel_area)} of landslide lies in no part (guard) and is never scored")
    if missed:
        notes.append(
            f"{area(missed * grid.pixel_area)} of landslide ({100 * missed / landslide:.1f} % of this part's) lies "
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
