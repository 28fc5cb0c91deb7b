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
    add_block_sums,
    block_shape,
)
from landslip.metrics.confusion import Histogram, require_probabilities, stated_threshold

SIDE = 2 * TILE  # pixels per side of what is held at a time
WINDOW = 64  # pixels of a training window, where split.tif does not say
VALUES, MAPPED = "values", "mapped"  # tag of a raster of landslide or not, 1 and 0, which has no calibration


@dataclass(frozen=True)
class _Split:
    name: str
    part: str
    leaky: bool | None
    notes: tuple[str, ...]
    window: int = WINDOW


def confusion_by_block(
    probability: Path, label: Path, split: Path | None = None, part: str | None = None, block: int = BLOCK
) -> NDArray[np.int64]:
    """(B, 4) scored pixels of every block of `block` pixels a side, row by row: TP, FP, FN, TN; 0 where none is scored.

    At the threshold that the raster carries. Raises as `evaluate` does.
    """
    chosen = read_split(split, part)
    grid = one_grid(probability, label, split)
    at, _ = stated_threshold(None, read_info(probability).tags.get("threshold"), probability.name)
    sums = np.zeros((4, *block_shape(grid.shape, block)), np.int64)
    for window, values, truth, parts in label_windows((probability, label, split), grid, tiles(grid.shape, SIDE)):
        four = four_counts(
            values >= at, truth == LANDSLIDE, scored_pixels(values, truth, read_inside(parts, chosen.part))
        )
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
    chosen = read_split(split, part)
    grid = one_grid(probability, label, split)
    counted, train = Histogram.empty(), 0
    for _, values, truth, parts in label_windows((probability, label, split), grid, tiles(grid.shape, SIDE)):
        scored = scored_pixels(values, truth, read_inside(parts, chosen.part))
        counted += Histogram.from_arrays(values, truth, scored)
        if split is not None:
            train += int(np.count_nonzero(scored & (parts == PARTS["train"])))
    total = int(counted.landslide.sum() + counted.other.sum())
    leaky, notes = leak(chosen, train, total)
    return Counted(counted, chosen.name, chosen.part, leaky, tuple(notes))


def known_windows(
    probability: Path, label: Path, split: Path | None, part: str | None, windows: Iterable[Window]
) -> tuple[str, Iterator[tuple[Window, NDArray[np.uint8], NDArray[np.bool_], NDArray[np.bool_]]]]:
    """The part that `evaluate` scores and, at each window: label, where label and probability are known, and scored.

    Arrays are (h, w). Raises as `evaluate` does for rasters and parts that do not fit.
    """
    chosen = read_split(split, part)
    grid = one_grid(probability, label, split)

    def read() -> Iterator[tuple[Window, NDArray[np.uint8], NDArray[np.bool_], NDArray[np.bool_]]]:
        for window, values, truth, parts in label_windows((probability, label, split), grid, windows):
            known = scored_pixels(values, truth, np.ones(truth.shape, bool))
            yield window, truth, known, known & read_inside(parts, chosen.part)

    return chosen.part, read()


def one_grid(probability: Path, label: Path, split: Path | None) -> Grid:
    info = read_info(probability)
    require_metric(info.grid, str(probability))
    require_probability(info)
    for other, what in ((label, "label"), (split, "split")):
        if other is not None:
            require_one_band(read_info(other), what)
            require_same_grid(info.grid, str(probability), read_info(other).grid, str(other))
    return info.grid


def read_inside(parts: NDArray[np.uint8], part: str) -> NDArray[np.bool_]:
    return np.ones(parts.shape, bool) if part == "all" else np.asarray(parts == PARTS[part])


def scored_pixels(
    values: NDArray[np.float32], truth: NDArray[np.uint8], inside: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    return np.asarray(inside & np.isfinite(values) & (truth != UNKNOWN))


def four_counts(
    mapped: NDArray[np.bool_], drawn: NDArray[np.bool_], scored: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], ...]:
    """Where a pixel is TP, FP, FN and TN."""
    yes, no = scored & mapped, scored & ~mapped
    return yes & drawn, yes & ~drawn, no & drawn, no & ~drawn


def read_split(split: Path | None, part: str | None) -> _Split:
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


def label_windows(
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


def leak(chosen: _Split, train: int, scored: int) -> tuple[bool | None, list[str]]:
    """Whether a score leaks, with the notes on it, where `train` of the pixels scored are training ground."""
    if not train:
        return chosen.leaky, list(chosen.notes)
    return True, [*chosen.notes, f"includes training ground: {100 * train / scored:.1f} % of the pixels scored"]
