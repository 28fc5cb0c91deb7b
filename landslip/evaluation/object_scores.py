"""Scores of an inventory, landslide by landslide, and by size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from landslip.metrics.size_distribution import FEWEST, Tail
from landslip.runtime.progress import plural
from landslip.runtime.text import screen_table

COMPLETE = 0.8  # share of landslides that is found from the completeness limit on
POOL = 5  # landslides that are judged together for the completeness limit, at least


@dataclass(frozen=True)
class SizeClass:
    """Landslides of `low` <= area < `high` square metres: of the reference and found, mapped and invented."""

    low: float
    high: float
    reference: int
    found: int
    mapped: int
    invented: int


@dataclass(frozen=True)
class Boundary:
    """How near the boundaries of map and reference lie to each other (Csurka et al. 2013, BMVC).

    `precision` is the share of the map's boundary pixels within `pixels` of one of the reference, `recall` that of the
    reference's within `pixels` of one of the map. `f1` is their harmonic mean, NaN without any boundary.
    """

    pixels: int
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, kw_only=True)
class InventoryScores:
    """What an inventory is worth, landslide by landslide.

    `missed_touched` of those missed are touched by a mapped landslide, `invented_touching` of those invented touch a
    landslide. `split` landslides were mapped in `split_pieces`; `merged` mapped ones join `merged_landslides`. Biases
    are mapped over reference, 1 without bias, NaN where the reference holds none. `completeness_m2` is the lower end
    of the smallest size class from which on 80 % are found, NaN where there is none. Areas are (N,) square metres,
    as judged.
    """

    part: str
    overlap: float
    reference: int
    found: int
    missed: int
    missed_touched: int
    mapped: int
    invented: int
    invented_touching: int
    split: int
    split_pieces: int
    merged: int
    merged_landslides: int
    number_bias: float
    area_bias: float
    reference_area_m2: float
    mapped_area_m2: float
    completeness_m2: float
    classes: list[SizeClass]
    reference_tail: Tail
    mapped_tail: Tail
    boundary: list[Boundary]
    reference_areas: NDArray[np.float64]
    mapped_areas: NDArray[np.float64]
    notes: list[str]


def size_classes(
    areas: NDArray[np.float64], found: NDArray[np.bool_], mapped_areas: NDArray[np.float64], invented: NDArray[np.bool_]
) -> list[SizeClass]:
    """Landslides counted by classes of size, which end at 1, 2 and 5 times the powers of ten square metres.

    `areas` (N,) are those of the reference, `found` (N,) whether each is found; `mapped_areas` (M,) those of the map,
    `invented` (M,) whether each is. The classes reach from the smallest landslide to the largest.
    """
    both = np.concatenate([areas, mapped_areas])
    if not len(both):
        return []
    powers = range(math.floor(math.log10(both.min())), math.floor(math.log10(both.max())) + 2)
    ends = np.array([step * 10.0**power for power in powers for step in (1, 2, 5)])
    first, last = np.searchsorted(ends, (both.min(), both.max()), side="right")
    classes = []
    for low, high in zip(ends[first - 1 : last], ends[first : last + 1], strict=True):
        true, mapped = (areas >= low) & (areas < high), (mapped_areas >= low) & (mapped_areas < high)
        counts = (int(np.count_nonzero(kind)) for kind in (true, true & found, mapped, mapped & invented))
        classes.append(SizeClass(float(low), float(high), *counts))
    return classes


def completeness(classes: Sequence[SizeClass], share: float = COMPLETE) -> float:
    """The completeness limit: the lower end of the smallest class from which on `share` are found, in square metres.

    NaN where there is none. Classes are judged from the largest down, those of fewer than 5 landslides together with
    the next smaller, so that neither one large landslide missed nor one small one found decides.
    """
    limit, pooled, found = math.nan, 0, 0
    for size in reversed(classes):
        pooled, found = pooled + size.reference, found + size.found
        if pooled < POOL:
            continue
        if found < share * pooled:
            break
        limit, pooled, found = size.low, 0, 0
    return limit


def object_table(scores: InventoryScores) -> str:
    """The scores of an inventory as text."""
    rows = [_row(_size(c), c.reference, c.found, c.mapped, c.invented) for c in scores.classes]
    rows.append(_row("all", scores.reference, scores.found, scores.mapped, scores.invented))
    lines = [
        f"Landslides of {part_text(scores.part)}, matched where {100 * scores.overlap:g} % of the area is covered",
        "",
        screen_table(["Size", "Reference", "Found", "", "Missed", "Mapped", "Invented"], rows),
        "",
        f"Touched by the map, of those missed {scores.missed_touched:,}; touching a landslide, of those invented "
        f"{scores.invented_touching:,}",
        f"Split {scores.split:,} landslides, mapped as {scores.split_pieces:,}; merged {scores.merged:,} mapped "
        f"landslides, {scores.merged_landslides:,} in truth",
        f"Number {_times(scores.number_bias)}, area {_times(scores.area_bias)} the reference's "
        f"({area_text(scores.mapped_area_m2)} of {area_text(scores.reference_area_m2)})",
        f"Completeness limit ({100 * COMPLETE:g} % found from it on): "
        + ("none" if math.isnan(scores.completeness_m2) else area_text(scores.completeness_m2)),
        f"Power-law tail of the reference: {_tail(scores.reference_tail)}",
        f"Power-law tail of the map:       {_tail(scores.mapped_tail)}",
        "Boundary F1: "
        + ", ".join(
            ("undefined" if math.isnan(b.f1) else f"{100 * b.f1:.2f} %") + f" within {plural(b.pixels, 'pixel')}"
            for b in scores.boundary
        ),
    ]
    if scores.notes:
        lines += ["", *(f"Note: {note}." for note in scores.notes)]
    return "\n".join(lines)


def part_text(part: str) -> str:
    """The ground that scores are of, in words."""
    return "all mapped ground" if part == "all" else f"the {part} part"


def area_text(square_metres: float) -> str:
    """An area in m², or from 1 km² on in km²."""
    return f"{square_metres:,.0f} m²" if square_metres < 1e6 else f"{square_metres / 1e6:,.6g} km²"


def objects_json(scores: InventoryScores) -> dict[str, object]:
    """The scores of an inventory as JSON holds them: without the single areas."""
    return {key: value for key, value in asdict(scores).items() if key not in ("reference_areas", "mapped_areas")}


def _size(size: SizeClass) -> str:
    """The ends of a class of size, in words."""
    if size.low >= 1e6:
        return f"{size.low / 1e6:,g} to {size.high / 1e6:,g} km²"
    return f"{size.low:,g} to {size.high:,.0f} m²"


def _row(size: str, reference: int, found: int, mapped: int, invented: int) -> list[str]:
    """A row of the table of sizes."""
    share = f"{100 * found / reference:.1f} %" if reference else "-"
    return [size, f"{reference:,}", f"{found:,}", share, *(f"{n:,}" for n in (reference - found, mapped, invented))]


def _times(bias: float) -> str:
    """A bias as so many times the reference."""
    return "undefined" if math.isnan(bias) else f"{bias:.2f} times"


def _tail(tail: Tail) -> str:
    """A power-law tail in words."""
    if math.isnan(tail.exponent):
        return f"none: fewer than {FEWEST} landslides"
    return (
        f"exponent {tail.exponent:.2f} +- {tail.standard_error:.2f} from {area_text(tail.x_min)} on "
        f"({plural(tail.count, 'landslide')})"
    )
