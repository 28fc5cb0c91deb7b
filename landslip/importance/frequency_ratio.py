"""`landslip intervals`: how often landslides lie in each class of a factor (the paper's Fig. 10).

Continuous factors are cut by natural breaks (Fisher 1958, Jenks 1967), exact on a sample of the valid pixels of known
label; aspect is cut into its eight directions and flat ground (Table II), class factors into their classes. Two passes
over the rasters, window by window: one draws the sample, one counts every pixel. Memory is that of a window, the sample
and one small table per spatial block.
"""

from __future__ import annotations

import csv
import difflib
import io
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from landslip.dataset.channels import Channel, StackInfo, read_stack_info
from landslip.dataset.label import LANDSLIDE, OTHER, UNKNOWN, known_label
from landslip.errors import ChannelError, LabelError, RasterError, RunError
from landslip.geo.grid import Grid, Window, require_same_grid, tiles
from landslip.geo.raster import open_raster, read_info, read_stored_window, read_window, require_one_band
from landslip.importance.plots import draw_intervals
from landslip.plots.class_maps import direction_of, eighth
from landslip.runtime.atomic import file_hash, refuse_existing, refuse_input
from landslip.runtime.progress import track
from landslip.runtime.provenance import software
from landslip.runtime.text import write_json, write_text

SIDE = 1024  # pixels per side of what is held at a time
SAMPLE = 10_000  # pixels that natural breaks are exact on
BLOCK = 128  # pixels per side of a spatial block, the region of a split
DIRECTIONS = ("north", "northeast", "east", "southeast", "south", "southwest", "west", "northwest")
FILES = ("intervals.csv", "intervals.json", "intervals.png")
Cut = Literal["natural breaks", "directions", "classes"]


@dataclass(frozen=True)
class FactorClasses:
    """A factor's classes: `names` of them, cut from the channels at `positions` of the stack.

    `upper` holds the upper bounds of natural breaks, which belong to their class; the last class is open upwards.
    `note` says what a reader must know, "" if nothing.
    """

    factor: str
    cut: Cut
    unit: str
    positions: tuple[int, ...]
    names: tuple[str, ...]
    upper: tuple[float, ...] = ()
    note: str = ""

    def codes(self, values: NDArray[np.float32]) -> NDArray[np.intp]:
        """Class of each pixel, from 0, of the factor's channels (C, ...); -1 where undefined. Shape (...)."""
        if self.cut == "directions":
            return _directions(values)
        if self.cut == "classes" and len(values) > 1:  # a plane per class
            found = np.argmax(np.nan_to_num(values, nan=-1.0), axis=0)
            return np.where(np.nanmax(np.nan_to_num(values, nan=0.0), axis=0) > 0.5, found, -1)
        if self.cut == "classes" and not self.upper:  # one plane: a single class
            return np.where(values[0] > 0.5, 0, -1)
        found = np.searchsorted(np.asarray(self.upper), values[0].astype(np.float64), side="left")
        return np.where(np.isnan(values[0]), -1, np.minimum(found, len(self.upper) - 1))


@dataclass(frozen=True)
class ClassFrequency:
    """One class of a factor and the landslides in it.

    `low` (not included, but in the first class) and `high` bound natural breaks in the factor's unit, NaN elsewhere.
    Shares are of all counted pixels of the factor, or of all its landslide pixels. `frequency` is landslide pixels over
    pixels of the class, `frequency_ratio` landslide share over area share: NaN where the class holds no pixel.
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
class Sample:
    """Pixels drawn from the valid ones of known label.

    `values` (N, C) float32, NaN where undefined; `label` (N,) uint8; `row`, `column` (N,). They were drawn of
    `pixels` pixels, `landslides` of them landslide.
    """

    values: NDArray[np.float32]
    label: NDArray[np.uint8]
    row: NDArray[np.int64]
    column: NDArray[np.int64]
    pixels: int
    landslides: int


@dataclass(frozen=True)
class Counts:
    """Pixels of a factor's classes by spatial block, `table` (B, K, 2) int64: other ground, landslide.

    `undefined` pixels are valid and known, yet in no class. `low` and `high`: extremes of the first channel.
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
    classes: int = 5,
    sample: int = SAMPLE,
    seed: int = 0,
    overwrite: bool = False,
) -> Frequencies:
    """Count landslides by class of each factor of a prepared site and write intervals.csv, .json and .png into `out`.

    `factors` names factors, or bands; none: all factors. `classes` is how many natural breaks make, `sample` the pixels
    that they are exact on. Raises ChannelError for an unknown factor, LabelError where the label holds one class only,
    RunError for impossible numbers.
    """
    for name in FILES:
        refuse_existing(out / name, overwrite)
    stack = read_prepared_info(prepared)
    chosen = choose_factors(stack, factors)
    _require(2 <= classes <= 50, f"{classes} classes: give from 2 to 50 (--classes).")
    _require(sample >= 100, f"a sample of {sample} pixels: give at least 100 (--sample).")
    refuse_input(out, [stack.path, prepared / "label.tif", prepared / "valid.tif"])
    drawn = draw_sample(stack, sample, seed)
    counted = count_classes(stack, [make_classes(stack, name, drawn, classes) for name in chosen], BLOCK)
    rows = [row for counts in counted for row in rows_of(counts)]
    made = Frequencies(rows, len(drawn.label), drawn.pixels, drawn.landslides, _notes(counted, drawn, seed))
    write_text(out / "intervals.csv", frequency_csv([asdict(row) for row in rows]), overwrite)
    panels = {counts.classes.factor: [_bar(row) for row in rows_of(counts)] for counts in counted}
    titles = {name: _title(stack, name) for name in panels}
    mean = made.landslides / made.pixels
    draw_intervals({titles[name]: bars for name, bars in panels.items()}, mean, out / "intervals.png", overwrite)
    facts = {"seed": seed, "classes": classes, "stack_sha256": file_hash(stack.path), "software": software()}
    write_json(out / "intervals.json", {**asdict(made), **facts}, overwrite)
    return made


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise RunError(message)


# ---- the prepared folder ----


def read_prepared_info(prepared: Path) -> StackInfo:
    """A prepared folder's stack; RasterError where it is none, GridError where its rasters lie on several grids."""
    for name in ("stack.tif", "valid.tif", "label.tif"):
        if not (prepared / name).exists():
            raise RasterError(
                f"{prepared / name} does not exist: {prepared} is not a prepared site. Make it with `landslip prepare`."
            )
    stack = read_stack_info(prepared / "stack.tif")
    for name in ("valid.tif", "label.tif"):
        info = read_info(prepared / name)
        require_one_band(info, name.removesuffix(".tif"))
        require_same_grid(stack.grid, str(stack.path), info.grid, str(info.path))
    return stack


def choose_factors(stack: StackInfo, names: Sequence[str]) -> list[str]:
    """The factors named, or all factors of a stack; ChannelError for an unknown one, and where there is none."""
    known = list(dict.fromkeys(channel.factor for channel in stack.channels))
    factors = list(dict.fromkeys(channel.factor for channel in stack.channels if channel.group == "factor"))
    for name in names:
        if name not in known:
            nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"did you mean {nearest[0]}? " if nearest else ""
            raise ChannelError(f"{stack.path} has no factor {name!r}: {hint}it has {', '.join(known)}.")
    if not names and not factors:
        raise ChannelError(
            f"{stack.path} has no factor, only bands: {', '.join(known)}. Prepare the site with a [dem] or a "
            "[[factor]], or name bands with --factor where the command takes it."
        )
    return list(dict.fromkeys(names)) or factors


def positions_of(stack: StackInfo, factor: str) -> tuple[int, ...]:
    """Positions of a factor's channels in a stack."""
    return tuple(i for i, channel in enumerate(stack.channels) if channel.factor == factor)


@dataclass(frozen=True)
class PreparedRasters:
    """A prepared folder's open rasters."""

    stack: Any
    valid: Any
    label: Any

    def known(self, window: Window) -> tuple[NDArray[np.bool_], NDArray[np.uint8]]:
        """(h, w) bool, valid and of known label, and (h, w) labels, at a window inside the raster."""
        label = known_label(read_stored_window(self.label, window), self.label.name)
        return (read_stored_window(self.valid, window) == 1) & (label != UNKNOWN), label

    def values(self, window: Window, positions: Sequence[int]) -> NDArray[np.float32]:
        """(C, h, w) of the stack's channels at `positions`, NaN where undefined."""
        return read_window(self.stack, window, [position + 1 for position in positions])


@contextmanager
def open_prepared(stack: StackInfo) -> Iterator[PreparedRasters]:
    """The stack, valid and label rasters of a prepared folder, open together."""
    with ExitStack() as files:
        paths = (stack.path, stack.valid_path, stack.path.with_name("label.tif"))
        yield PreparedRasters(*(files.enter_context(open_raster(path)) for path in paths))


def draw_sample(stack: StackInfo, wanted: int, seed: int, balanced: bool = False) -> Sample:
    """Draw `wanted` valid pixels of known label at random, or all there are.

    `balanced`: half of them landslide and half not, or all of a class that has fewer. Raises LabelError where the
    valid ground holds one class only.
    """
    rng = np.random.default_rng(seed)
    windows = list(tiles(stack.grid.shape, SIDE))
    with open_prepared(stack) as rasters:
        held = np.zeros((len(windows), 2), np.int64)  # other ground, landslide
        for i, window in enumerate(windows):
            known, label = rasters.known(window)
            landslides = int(np.count_nonzero(known & (label == LANDSLIDE)))
            held[i] = np.count_nonzero(known) - landslides, landslides
        _require_both(held.sum(0), stack.path.with_name("label.tif"))
        strata = held.T if balanced else held.sum(1)[None]  # (strata, windows)
        ranks = [_ranks(rng, int(pixels.sum()), wanted // len(strata)) for pixels in strata]
        parts = []
        for i, window in enumerate(track(windows, len(windows), "sample", "window")):
            chosen = [
                ranks[s][slice(*np.searchsorted(ranks[s], (before, before + int(strata[s, i]))))] - before
                for s, before in enumerate(strata[:, :i].sum(1).tolist())
            ]
            if any(part.size for part in chosen):
                known, label = rasters.known(window)
                places = [np.flatnonzero(known & (label == code)) for code in (OTHER, LANDSLIDE)]
                places = places if balanced else [np.flatnonzero(known)]
                at = np.concatenate([place[part] for place, part in zip(places, chosen, strict=True)])
                row, column = np.divmod(at, window.width)
                values = rasters.values(window, range(len(stack.channels)))[:, row, column].T
                parts.append((values, label[row, column], row + window.row, column + window.column))
    values, labels, rows, columns = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return Sample(values, labels, rows, columns, int(held.sum()), int(held[:, 1].sum()))


def _ranks(rng: np.random.Generator, total: int, wanted: int) -> NDArray[np.int64]:
    return np.arange(total) if total <= wanted else np.sort(rng.choice(total, wanted, replace=False))


def _require_both(held: NDArray[np.int64], label: Path) -> None:
    other, landslides = (int(pixels) for pixels in held)
    if not other or not landslides:
        raise LabelError(
            f"{label}: the valid ground holds {landslides:,} pixels of landslide and {other:,} of other ground, and "
            "what a factor says of landslides takes both. Map more ground, or check the outline."
        )


# ---- classes ----


def natural_breaks(values: NDArray[Any], classes: int) -> tuple[float, ...]:
    """Upper bounds of the natural-breaks classes of (N,) values: the least sum of squares within classes.

    Exact: Fisher (1958), by mapclassify. It sums squares in single precision, and those of elevations or coordinates
    would lose the breaks (sums of squares 2 to 19 % above the least), so the values are centred and scaled for it.
    Where there are no more distinct values than `classes`, each is a class of its own.
    """
    ordered = np.sort(np.asarray(values, np.float64))
    distinct = np.unique(ordered)
    if distinct.size <= classes:
        return tuple(distinct.tolist())
    from mapclassify import FisherJenks  # here, because it compiles itself for some seconds

    scaled = (ordered - ordered.mean()) / ordered.std()
    at = np.searchsorted(scaled, FisherJenks(scaled, k=classes).bins)
    return tuple(dict.fromkeys(ordered[at].tolist()))


def make_classes(stack: StackInfo, factor: str, drawn: Sample, classes: int) -> FactorClasses:
    """The classes of a factor, with natural breaks of a sample (all channels of the stack) where it is continuous."""
    positions = positions_of(stack, factor)
    own = [stack.channels[i] for i in positions]
    unit = own[0].unit
    if factor == "aspect" and ({channel.kind for channel in own} == {"sine", "cosine"} or unit == "degree"):
        by_kind = sorted(positions, key=lambda i: stack.channels[i].kind != "sine")
        return FactorClasses(factor, "directions", unit, tuple(by_kind), ("flat", *DIRECTIONS))
    if own[0].kind == "class":
        names = tuple(channel.name.removeprefix(f"{factor}_") for channel in own)
        return FactorClasses(factor, "classes", unit, positions, names)
    values = drawn.values[:, positions[0]]
    values = values[~np.isnan(values)]
    if not values.size:
        return FactorClasses(
            factor, "natural breaks", unit, positions, ("all",), (math.inf,), "undefined all over the site"
        )
    if unit == "class":  # one channel of ordinals, the paper's encoding
        codes = _codes_in(stack, positions[0])  # a sample may miss a rare class
        return FactorClasses(factor, "classes", unit, positions, tuple(f"{code:g}" for code in codes), tuple(codes))
    upper = natural_breaks(values, classes)
    note = ""
    if len(upper) == 1:
        note = f"{upper[0]:g} all over the sample: one class, which says nothing"
    elif len(upper) < classes:
        note = f"{len(upper)} different values in the sample, each a class"
    return FactorClasses(
        factor, "natural breaks", unit, positions, tuple(map(str, range(1, len(upper) + 1))), upper, note
    )


def _codes_in(stack: StackInfo, position: int) -> list[float]:
    found: set[float] = set()
    with open_prepared(stack) as rasters:
        for window in tiles(stack.grid.shape, SIDE):
            known, _ = rasters.known(window)
            values = rasters.values(window, [position])[0][known]
            found |= set(np.unique(values[~np.isnan(values)]).tolist())
    return sorted(found)


def _directions(values: NDArray[np.float32]) -> NDArray[np.intp]:
    """0 flat, 1 north, clockwise to 8 northwest, of aspect's sine and cosine, or of degrees, NaN on flat ground."""
    # a plane in degrees cannot tell flat ground from undefined: `valid` does not hold the latter
    found = direction_of(values) if len(values) == 2 else np.nan_to_num(eighth(values[0]), nan=0.0)
    return np.nan_to_num(found, nan=-1.0).astype(np.intp)


# ---- counting ----


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
    windows = list(tiles(shape, max(1, SIDE // block) * block))
    with open_prepared(stack) as rasters:
        for window in track(windows, len(windows), "count", "window"):
            known, label = rasters.known(window)
            if not known.any():
                continue
            row, column = np.nonzero(known)
            landslide = (label[known] == LANDSLIDE).astype(np.int64)
            at = (row + window.row) // block * across + (column + window.column) // block
            for i, classes in enumerate(factors):
                values = rasters.values(window, classes.positions)[:, known]
                codes = classes.codes(values)
                defined = codes >= 0
                undefined[i] += int(np.count_nonzero(~defined))
                if defined.any():
                    low[i], high[i] = min(low[i], values[0][defined].min()), max(high[i], values[0][defined].max())
                flat = (at * len(classes.names) + codes) * 2 + landslide
                tables[i] += np.bincount(flat[defined], minlength=tables[i].size).reshape(tables[i].shape)
    held = np.any([table.any(axis=(1, 2)) for table in tables], axis=0)
    return [
        Counts(classes, table[held], int(undefined[i]), float(low[i]), float(high[i]))
        for i, (classes, table) in enumerate(zip(factors, tables, strict=True))
    ]


def rows_of(counts: Counts) -> list[ClassFrequency]:
    """The classes of a factor with their landslides."""
    classes = counts.classes
    table = counts.table.sum(0)
    total, landslides = int(table.sum()), int(table[:, 1].sum())
    bounds = _bounds(counts)
    rows = []
    for name, (low, high), (other, landslide) in zip(classes.names, bounds, table.tolist(), strict=True):
        pixels = other + landslide
        area_share, landslide_share = _over(pixels, total), _over(landslide, landslides)
        frequency, ratio = _over(landslide, pixels), _over(landslide_share, area_share)
        shown = name if classes.cut != "natural breaks" else f"{_round(low, bounds)} to {_round(high, bounds)}"
        rows.append(
            ClassFrequency(
                classes.factor, shown, classes.unit, low, high, pixels, area_share, landslide, landslide_share,
                frequency, ratio,
            )
        )  # fmt: skip
    return rows


def _bounds(counts: Counts) -> list[tuple[float, float]]:
    upper = counts.classes.upper
    if counts.classes.cut != "natural breaks":
        return [(math.nan, math.nan)] * len(counts.classes.names)
    if not math.isfinite(counts.low):
        return [(math.nan, math.nan)] * len(upper)
    # the sample's extremes are not the site's
    edges = [min(counts.low, upper[0]), *upper[:-1], max(counts.high, upper[-1])]
    return list(itertools.pairwise(edges))


def _over(part: float, whole: float) -> float:
    return part / whole if whole else math.nan


def _round(value: float, bounds: Sequence[tuple[float, float]]) -> str:
    """Enough digits to tell the narrowest class's bounds apart."""
    narrowest = min((high - low for low, high in bounds if high > low), default=1.0)
    digits = max(0, math.ceil(-math.log10(narrowest / 10))) if narrowest > 0 else 0
    return f"{value:.{min(digits, 6)}f}" if math.isfinite(value) else "undefined"


def _notes(counted: Sequence[Counts], drawn: Sample, seed: int) -> list[str]:
    notes = []
    if any(counts.classes.cut == "natural breaks" for counts in counted):
        every = len(drawn.label) == drawn.pixels
        of = f"all {drawn.pixels:,}" if every else f"{len(drawn.label):,} of {drawn.pixels:,}"
        notes.append(
            f"natural breaks are exact on {of} valid pixels of known label"
            + ("" if every else f", drawn with seed {seed}; every pixel is counted")
        )
    for counts in counted:
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
    channel: Channel = stack.channels[positions_of(stack, factor)[0]]
    unit = "" if factor == "aspect" or channel.unit in ("", "class") else f" ({channel.unit})"
    return factor.replace("_", " ") + unit


def _bar(row: ClassFrequency) -> tuple[str, float, float]:
    return row.name, row.frequency, row.area_share


def frequency_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows of one kind as CSV; a cell is empty where undefined."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: "" if value is None or value != value else value for key, value in row.items()})
    return text.getvalue()


def frequency_table(made: Frequencies) -> str:
    """The classes as text, a block per factor, with the notes."""
    width = max(12, *(len(row.name) for row in made.rows)) + 2
    lines = [
        f"{made.pixels:,} valid pixels of known label, {made.landslides:,} of them landslide "
        f"({100 * made.landslides / made.pixels:.2f} %)"
    ]
    for factor in dict.fromkeys(row.factor for row in made.rows):
        rows = [row for row in made.rows if row.factor == factor]
        unit = f" ({rows[0].unit})" if rows[0].unit not in ("", "class") and factor != "aspect" else ""
        lines += ["", factor + unit]
        heads = ("pixels", "area", "landslide px", "of landslides", "frequency", "ratio")
        lines.append(f"  {'class':<{width}}" + "".join(f"{head:>15}" for head in heads))
        for row in rows:
            cells = (
                f"{row.pixels:,}", _percent(row.area_share, 1), f"{row.landslide_pixels:,}",
                _percent(row.landslide_share, 1), _percent(row.frequency, 2),
                "undefined" if math.isnan(row.frequency_ratio) else f"{row.frequency_ratio:.2f}",
            )  # fmt: skip
            lines.append(f"  {row.name:<{width}}" + "".join(f"{cell:>15}" for cell in cells))
    return "\n".join([*lines, "", *(f"Note: {note}." for note in made.notes)])


def _percent(share: float, digits: int) -> str:
    return "undefined" if math.isnan(share) else f"{100 * share:.{digits}f} %"


def block_of(sample: Sample, grid: Grid, block: int) -> NDArray[np.int64]:
    """(N,) number of the spatial block that each pixel of a sample lies in."""
    return np.asarray(sample.row // block * -(-grid.width // block) + sample.column // block)
