"""Pixels of a map counted against a label, window by window."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landslip.dataset.label import LANDSLIDE, OTHER, UNKNOWN
from landslip.dataset.split import NONE, PARTS, leaky_of
from landslip.errors import LabelError, SplitError
from landslip.geo.geotiff import STORED_TILE
from landslip.geo.grid import Grid, Window, require_metric, require_same_grid, tiles
from landslip.geo.raster import (
    open_raster,
    read_info,
    read_stored_window,
    read_window,
    require_one_band,
    require_probability,
)
from landslip.metrics.bootstrap import BOOTSTRAP_BLOCK, add_block_sums, block_shape
from landslip.metrics.confusion import Histogram, require_probabilities, stated_threshold

COUNTING_SIDE = 2 * STORED_TILE  # pixels per side of what is held in memory at a time
DEFAULT_WINDOW = 64  # side of a training window in pixels, where split.tif does not say
VALUES, MAPPED = "values", "mapped"  # tag of a raster of landslide or not, 1 and 0, whose calibration says nothing


@dataclass(frozen=True)
class ScoredPart:
    """The part of a split that is scored.

    `name` is the split's kind, "unknown" without one; `part` is a key of PARTS or "all"; `leaky` is None where nobody
    knows; `notes` say what a reader of the scores must know; `window` is the side of a training window in pixels.
    """

    name: str
    part: str
    leaky: bool | None
    notes: tuple[str, ...]
    window: int = DEFAULT_WINDOW


@dataclass(frozen=True)
class Counted:
    """How many pixels of a part have each probability, by label: the scores of every threshold follow at once.

    `split`, `part`, `leaky` and `notes` are those of an `Evaluation`.
    """

    counts: Histogram
    split: str
    part: str
    leaky: bool | None
    notes: tuple[str, ...]


def confusion_by_block(
    probability: Path, label: Path, split: Path | None = None, part: str | None = None, block: int = BOOTSTRAP_BLOCK
) -> NDArray[np.int64]:
    """Count the scored pixels of every spatial block, at the threshold that the raster carries.

    Returns (B, 4) TP, FP, FN and TN of the blocks of `block` pixels a side, row by row; 0 where nothing is scored.
    Raises as `evaluate` does.
    """
    chosen = scored_part(split, part)
    grid = one_grid(probability, label, split)
    limit, _ = stated_threshold(None, read_info(probability).tags.get("threshold"), probability.name)
    sums = np.zeros((4, *block_shape(grid.shape, block)), np.int64)
    for window, values, truth, parts in label_windows((probability, label, split), tiles(grid.shape, COUNTING_SIDE)):
        scored = scored_pixels(values, truth, inside_part(parts, chosen.part))
        for by_block, mask in zip(sums, four_counts(values >= limit, truth == LANDSLIDE, scored), strict=True):
            add_block_sums(by_block, mask, window.row, window.column, block)
    return sums.reshape(4, -1).T


def count_probabilities(probability: Path, label: Path, split: Path | None = None, part: str | None = None) -> Counted:
    """Count the probabilities that `evaluate` would score, without intervals or audit. Raises as `evaluate` does."""
    chosen = scored_part(split, part)
    grid = one_grid(probability, label, split)
    counts, train = Histogram.empty(), 0
    for _, values, truth, parts in label_windows((probability, label, split), tiles(grid.shape, COUNTING_SIDE)):
        scored = scored_pixels(values, truth, inside_part(parts, chosen.part))
        counts += Histogram.from_arrays(values, truth, scored)
        if split is not None:
            train += int(np.count_nonzero(scored & (parts == PARTS["train"])))
    total = int(counts.landslide.sum() + counts.other.sum())
    leaky, notes = leak(chosen, train, total)
    return Counted(counts, chosen.name, chosen.part, leaky, tuple(notes))


def known_windows(
    probability: Path, label: Path, split: Path | None, part: str | None, windows: Iterable[Window]
) -> tuple[str, Iterator[tuple[Window, NDArray[np.uint8], NDArray[np.bool_], NDArray[np.bool_]]]]:
    """The part that `evaluate` scores, and its pixels at each window.

    Each item is the window, its (h, w) label, where label and probability are known, and where they are scored. Raises
    as `evaluate` does for rasters and parts that do not fit.
    """
    chosen = scored_part(split, part)
    one_grid(probability, label, split)

    def read() -> Iterator[tuple[Window, NDArray[np.uint8], NDArray[np.bool_], NDArray[np.bool_]]]:
        for window, values, truth, parts in label_windows((probability, label, split), windows):
            known = scored_pixels(values, truth, np.ones(truth.shape, bool))
            yield window, truth, known, known & inside_part(parts, chosen.part)

    return chosen.part, read()


def scored_part(split: Path | None, part: str | None) -> ScoredPart:
    """The part that is scored; by default "test" with a split and "all" without.

    Raises SplitError where there is no such part.
    """
    part = part or ("all" if split is None else "test")
    if part != "all" and part not in PARTS:
        raise SplitError(f"there is no part {part!r}; the parts are {', '.join(PARTS)} and all.")
    if split is None:
        if part != "all":
            raise SplitError(
                f"the {part} part cannot be told without a split. Give the split.tif that training wrote beside the "
                "model (--split), or score everything (--part all)."
            )
        return ScoredPart("unknown", part, None, ("split unknown: the score may include training ground",))
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
    return ScoredPart(name, part, leaky, tuple(notes), int(stated) if stated.isdecimal() else DEFAULT_WINDOW)


def one_grid(probability: Path, label: Path, split: Path | None) -> Grid:
    """The metric grid that the rasters share.

    Raises GridError where they do not lie on one, RasterError where one has several bands or holds no probabilities.
    """
    info = read_info(probability)
    require_metric(info.grid, str(probability))
    require_probability(info)
    for path, what in ((label, "label"), (split, "split")):
        if path is not None:
            other = read_info(path)
            require_one_band(other, what)
            require_same_grid(info.grid, str(probability), other.grid, str(path))
    return info.grid


def label_windows(
    paths: tuple[Path, Path, Path | None], windows: Iterable[Window]
) -> Iterator[tuple[Window, NDArray[np.float32], NDArray[np.uint8], NDArray[np.uint8]]]:
    """(h, w) probabilities, labels and parts of one window after another; parts are 255 where there is no split.

    `paths` are those of the probability, the label and the split. Raises RasterError for values outside [0, 1],
    LabelError and SplitError for codes without a meaning.
    """
    probability, label, split = paths
    with ExitStack() as open_files:
        probability_file = open_files.enter_context(open_raster(probability))
        label_file = open_files.enter_context(open_raster(label))
        split_file = None if split is None else open_files.enter_context(open_raster(split))
        for window in windows:
            values = read_window(probability_file, window, [1])[0]
            truth = _codes(read_stored_window(label_file, window), (OTHER, LANDSLIDE, UNKNOWN), label, LabelError)
            parts = np.full(truth.shape, UNKNOWN, np.uint8)
            if split is not None:
                parts = _codes(read_stored_window(split_file, window), (NONE, *PARTS.values()), split, SplitError)
            require_probabilities(values, str(probability))
            yield window, values, truth, parts


def inside_part(parts: NDArray[np.uint8], part: str) -> NDArray[np.bool_]:
    """Where (h, w) `parts` of a split are of a part; everywhere where it is "all"."""
    return np.ones(parts.shape, bool) if part == "all" else np.asarray(parts == PARTS[part])


def scored_pixels(
    values: NDArray[np.float32], truth: NDArray[np.uint8], inside: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Which of the (h, w) pixels inside a part are scored: those with a probability and a known label."""
    return np.asarray(inside & np.isfinite(values) & (truth != UNKNOWN))


def four_counts(
    mapped: NDArray[np.bool_], landslide: NDArray[np.bool_], scored: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], ...]:
    """Where the (h, w) scored pixels are TP, FP, FN and TN."""
    yes, no = scored & mapped, scored & ~mapped
    return yes & landslide, yes & ~landslide, no & landslide, no & ~landslide


def leak(chosen: ScoredPart, train: int, scored: int) -> tuple[bool | None, list[str]]:
    """Whether a score leaks, with the notes on it, where `train` of the pixels scored are training ground."""
    if not train:
        return chosen.leaky, list(chosen.notes)
    return True, [*chosen.notes, f"includes training ground: {100 * train / scored:.1f} % of the pixels scored"]


def _codes(
    stored: NDArray[Any], known: tuple[int, ...], path: Path, error: type[LabelError] | type[SplitError]
) -> NDArray[np.uint8]:
    """Stored values as uint8; `error` where one is not among the known codes."""
    strange = ~np.logical_or.reduce([stored == code for code in known])  # Six times as fast as np.isin.
    if strange.any():
        raise error(
            f"{path} holds {stored[strange][0]}, and only {', '.join(map(str, known))} have a meaning there. "
            "Prepare it again with landslip, or recode it."
        )
    return stored.astype(np.uint8)
