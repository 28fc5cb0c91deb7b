"""`landslip intervals`: how often landslides lie in each class of a factor (the paper's Fig. 10).

Continuous factors are cut by natural breaks (Fisher 1958, Jenks 1967), exact on a sample of the valid pixels of known
label; aspect is cut into its eight directions and flat ground (Table II), class factors into their classes. Two passes
over the rasters, window by window: one draws the sample, one counts every pixel. Memory is that of a window, the sample
and one small table per spatial block.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from landslip.dataset.channels import Channel, StackInfo
from landslip.dataset.label import LANDSLIDE
from landslip.errors import RunError
from landslip.geo.grid import tiles
from landslip.importance.factor_classes import FactorClasses, make_classes
from landslip.importance.plots import draw_intervals
from landslip.importance.sampling import (
    FACTOR_SAMPLE,
    SAMPLING_SIDE,
    SPATIAL_BLOCK,
    Sample,
    choose_factors,
    draw_sample,
    open_prepared,
    positions_of,
    read_prepared_info,
)
from landslip.runtime.atomic import refuse_existing, refuse_input
from landslip.runtime.disk import file_hash
from landslip.runtime.progress import track
from landslip.runtime.provenance import software
from landslip.runtime.text import csv_table, percent, screen_table, write_json, write_text

FREQUENCY_FILES = ("intervals.csv", "intervals.json", "intervals.png")


@dataclass(frozen=True, kw_only=True)
class ClassFrequency:
    """One class of a factor and the landslides in it.

    `low` (itself included in the first class alone) and `high` bound natural breaks, in the factor's unit; NaN for
    other classes. Shares are of all counted pixels of the factor, or of all its landslide pixels. `frequency` is
    landslide pixels over pixels of the class, `frequency_ratio` landslide share over area share: NaN where the class
    holds no pixel.
    """

    factor: str
    name: str
    unit: str
    low: float
    high: float
    pixels: int
    area_share: float
    landslide_pixels: int
    landslide_share: float
    frequency: float
    frequency_ratio: float


@dataclass(frozen=True)
class Counts:
    """Pixels of a factor's K classes in B spatial blocks.

    `table` is (B, K, 2), of other ground and of landslide. `undefined` pixels are valid and known, yet in no class.
    `low` and `high` are the extremes of the factor's first channel.
    """

    classes: FactorClasses
    table: NDArray[np.int64]
    undefined: int
    low: float
    high: float


@dataclass(frozen=True)
class Frequencies:
    """The classes of every factor asked for, the sample that natural breaks were taken on, and notes."""

    rows: list[ClassFrequency]
    sample: int
    pixels: int
    landslides: int
    notes: list[str]


def frequency_ratios(
    prepared: Path,
    out: Path,
    factors: Sequence[str] = (),
    *,
    classes: int = 5,
    sample: int = FACTOR_SAMPLE,
    seed: int = 0,
    overwrite: bool = False,
) -> Frequencies:
    """Count landslides by class of each factor of a prepared site and write intervals.csv, .json and .png into `out`.

    `factors` names factors, or bands; none: all factors. `classes` is how many natural breaks make, `sample` the pixels
    that they are exact on. Raises ChannelError for an unknown factor, LabelError where the label holds one class only,
    RunError for impossible numbers.
    """
    for name in FREQUENCY_FILES:
        refuse_existing(out / name, overwrite)
    stack = read_prepared_info(prepared)
    chosen = choose_factors(stack, factors)
    if not 2 <= classes <= 50:
        raise RunError(f"{classes} classes: give from 2 to 50 (--classes).")
    if sample < 100:
        raise RunError(f"a sample of {sample} pixels: give at least 100 (--sample).")
    refuse_input(out, [stack.path, prepared / "label.tif", prepared / "valid.tif"])
    site_sample = draw_sample(stack, sample, seed)
    all_counts = count_classes(
        stack, [make_classes(stack, name, site_sample, classes) for name in chosen], SPATIAL_BLOCK
    )
    by_factor = {counts.classes.factor: _rows_of(counts) for counts in all_counts}
    rows = [row for of_factor in by_factor.values() for row in of_factor]
    frequencies = Frequencies(
        rows, len(site_sample.label), site_sample.pixels, site_sample.landslides, _notes(all_counts, site_sample, seed)
    )
    write_text(
        out / "intervals.csv", csv_table([field.name for field in fields(ClassFrequency)], map(asdict, rows)), overwrite
    )
    panels = {
        _title(stack, name): [(row.name, row.frequency, row.area_share) for row in of_factor]
        for name, of_factor in by_factor.items()
    }
    draw_intervals(panels, frequencies.landslides / frequencies.pixels, out / "intervals.png", overwrite)
    facts = {"seed": seed, "classes": classes, "stack_sha256": file_hash(stack.path), "software": software()}
    write_json(out / "intervals.json", {**asdict(frequencies), **facts}, overwrite)
    return frequencies


def count_classes(stack: StackInfo, factors: Sequence[FactorClasses], block: int) -> list[Counts]:
    """Count every valid pixel of known label by class of each factor and by spatial block of `block` pixels a side.

    Blocks without a pixel are left out.
    """
    shape = stack.grid.shape
    across = -(-shape[1] // block)
    blocks = -(-shape[0] // block) * across
    tables = [np.zeros((blocks, len(classes.names), 2), np.int64) for classes in factors]
    undefined = np.zeros(len(factors), np.int64)
    low, high = np.full(len(factors), np.inf), np.full(len(factors), -np.inf)
    windows = list(tiles(shape, max(1, SAMPLING_SIDE // block) * block))
    with open_prepared(stack) as rasters:
        for window in track(windows, len(windows), "count", "window"):
            known, label = rasters.known(window)
            if not known.any():
                continue
            row, column = np.nonzero(known)
            landslide = (label[known] == LANDSLIDE).astype(np.int64)
            block_of_pixel = (row + window.row) // block * across + (column + window.column) // block
            for i, classes in enumerate(factors):
                values = rasters.values(window, classes.positions)[:, known]
                codes = classes.codes(values)
                defined = codes >= 0
                undefined[i] += int(np.count_nonzero(~defined))
                if defined.any():
                    low[i], high[i] = min(low[i], values[0][defined].min()), max(high[i], values[0][defined].max())
                flat = (block_of_pixel * len(classes.names) + codes) * 2 + landslide
                tables[i] += np.bincount(flat[defined], minlength=tables[i].size).reshape(tables[i].shape)
    filled = np.any([table.any(axis=(1, 2)) for table in tables], axis=0)
    return [
        Counts(classes, table[filled], int(undefined[i]), float(low[i]), float(high[i]))
        for i, (classes, table) in enumerate(zip(factors, tables, strict=True))
    ]


def frequency_table(frequencies: Frequencies) -> str:
    """The classes as text, a table for each factor, with the notes."""
    pixels, landslides = frequencies.pixels, frequencies.landslides
    lines = [
        f"{pixels:,} valid pixels of known label, {landslides:,} of them landslide ({100 * landslides / pixels:.2f} %)"
    ]
    heads = ["class", "pixels", "area", "landslide px", "of landslides", "frequency", "ratio"]
    for factor in dict.fromkeys(row.factor for row in frequencies.rows):
        rows = [row for row in frequencies.rows if row.factor == factor]
        unit = f" ({rows[0].unit})" if rows[0].unit not in ("", "class") and factor != "aspect" else ""
        cells = [
            [
                row.name,
                f"{row.pixels:,}",
                percent(row.area_share, 1),
                f"{row.landslide_pixels:,}",
                percent(row.landslide_share, 1),
                percent(row.frequency),
                "undefined" if math.isnan(row.frequency_ratio) else f"{row.frequency_ratio:.2f}",
            ]
            for row in rows
        ]
        lines += ["", factor + unit, screen_table(heads, cells)]
    return "\n".join([*lines, "", *(f"Note: {note}." for note in frequencies.notes)])


def _rows_of(counts: Counts) -> list[ClassFrequency]:
    """The classes of a factor with the landslides in them."""
    classes = counts.classes
    table = counts.table.sum(0)
    total, landslides = int(table.sum()), int(table[:, 1].sum())
    bounds = _bounds(counts)
    rows = []
    for name, (low, high), (other, landslide) in zip(classes.names, bounds, table.tolist(), strict=True):
        pixels = other + landslide
        area_share, landslide_share = _over(pixels, total), _over(landslide, landslides)
        frequency, ratio = _over(landslide, pixels), _over(landslide_share, area_share)
        label = name if classes.cut != "natural breaks" else f"{_round(low, bounds)} to {_round(high, bounds)}"
        rows.append(
            ClassFrequency(
                factor=classes.factor,
                name=label,
                unit=classes.unit,
                low=low,
                high=high,
                pixels=pixels,
                area_share=area_share,
                landslide_pixels=landslide,
                landslide_share=landslide_share,
                frequency=frequency,
                frequency_ratio=ratio,
            )
        )
    return rows


def _bounds(counts: Counts) -> list[tuple[float, float]]:
    """The lower and upper bound of each class; NaN but of natural breaks."""
    upper = counts.classes.upper
    if counts.classes.cut != "natural breaks":
        return [(math.nan, math.nan)] * len(counts.classes.names)
    if not math.isfinite(counts.low):
        return [(math.nan, math.nan)] * len(upper)
    # The extremes of the sample are not those of the site.
    edges = [min(counts.low, upper[0]), *upper[:-1], max(counts.high, upper[-1])]
    return list(itertools.pairwise(edges))


def _over(part: float, total: float) -> float:
    """A share; NaN where there is nothing that it could be of."""
    return part / total if total else math.nan


def _round(value: float, bounds: Sequence[tuple[float, float]]) -> str:
    """Enough digits to tell the narrowest class's bounds apart."""
    narrowest = min((high - low for low, high in bounds if high > low), default=1.0)
    digits = max(0, math.ceil(-math.log10(narrowest / 10))) if narrowest > 0 else 0
    return f"{value:.{min(digits, 6)}f}" if math.isfinite(value) else "undefined"


def _notes(all_counts: Sequence[Counts], sample: Sample, seed: int) -> list[str]:
    """What the classes stand on, and what a reader must know of each factor."""
    notes = []
    if any(counts.classes.cut == "natural breaks" for counts in all_counts):
        all_drawn = len(sample.label) == sample.pixels
        of = f"all {sample.pixels:,}" if all_drawn else f"{len(sample.label):,} of {sample.pixels:,}"
        notes.append(
            f"natural breaks are exact on {of} valid pixels of known label"
            + ("" if all_drawn else f", drawn with seed {seed}; every pixel is counted")
        )
    for counts in all_counts:
        name = counts.classes.factor
        if counts.classes.note:
            notes.append(f"{name}: {counts.classes.note}")
        if counts.undefined:
            notes.append(f"{name}: {counts.undefined:,} pixels are in no class and are not counted")
        empty = [counts.classes.names[k] for k in np.flatnonzero(counts.table.sum((0, 2)) == 0)]
        if empty and counts.table.any():
            notes.append(f"{name}: no pixel of class {', '.join(empty)}, so its frequency is undefined")
    return notes


def _title(stack: StackInfo, factor: str) -> str:
    """A factor's name with its unit, as the title of its panel."""
    channel: Channel = stack.channels[positions_of(stack, factor)[0]]
    unit = "" if factor == "aspect" or channel.unit in ("", "class") else f" ({channel.unit})"
    return factor.replace("_", " ") + unit
