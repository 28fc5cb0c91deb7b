"""Pictures: maps with scale bar, north arrow and coordinates, and training curves.

Colours are those of landslip.palette: hits bluish green, misses orange, false alarms purple.
"""

from __future__ import annotations

import csv
import math
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from landslip.calibration import Reliability, expected_calibration_error
from landslip.cartography import (
    MOST,
    centres,
    dress,
    extent,
    finish,
    key,
    log_ticks,
    map_figure,
    outside,
    overlay,
    relief,
    save,
    stretched,
)
from landslip.inventory_scores import COMPLETE, InventoryScores, area_text
from landslip.label import LANDSLIDE, UNKNOWN
from landslip.palette import FALSE_ALARMS, HATCH, HITS, LANDSLIDES, LINES, MISSES, RAMP, REFERENCE, UNDEFINED
from landslip.palette import PARTS as PART_COLOURS
from landslip.powerlaw import Tail
from landslip.raster import glance, read_info
from landslip.split import PARTS
from landslip.style import TRUE_COLOUR


def draw_input(stack: Path, out: Path, overwrite: bool = False) -> None:
    """The image in true colour where red, green and blue are there, else its first bands."""
    names = [str(name) for name in read_info(stack).names]
    chosen = [n for n in TRUE_COLOUR if n in names]
    if len(chosen) < 3:
        chosen = [n for n in names if n not in ("elevation", "slope", "curvature")][:3]
        chosen = chosen if len(chosen) == 3 else names[:1] * 3
    values, grid = glance(stack, [names.index(n) + 1 for n in chosen], MOST)
    figure, axes = map_figure(grid)
    axes.imshow(stretched(values), extent=extent(grid))
    finish(figure, axes, grid, f"Image ({', '.join(dict.fromkeys(chosen))})", out, overwrite)


def draw_label(stack: Path, label: Path, out: Path, overwrite: bool = False) -> None:
    """The mapped landslides over the relief."""
    values, grid = glance(label, [1], MOST, stored=True)
    figure, axes = map_figure(grid)
    relief(axes, stack, grid)
    overlay(axes, values[0] == LANDSLIDE, LANDSLIDES, grid)
    outside(axes, values[0] == UNKNOWN, grid)
    key(figure, [Patch(color=LANDSLIDES, label="landslide")])
    finish(figure, axes, grid, "Label", out, overwrite)


def draw_probability(probability: Path, out: Path, overwrite: bool = False) -> None:
    """The probability of landslide, grey where undefined."""
    values, grid = glance(probability, [1], MOST)
    figure, axes = map_figure(grid, right=0.9)
    axes.set_facecolor(UNDEFINED)
    shown = axes.imshow(values[0], extent=extent(grid), cmap=RAMP, vmin=0, vmax=1)
    figure.colorbar(shown, ax=axes, shrink=0.7, label="landslide probability", pad=0.02)
    finish(figure, axes, grid, "Landslide probability", out, overwrite)


def draw_uncertainty(probability: Path, out: Path, overwrite: bool = False) -> None:
    """Probability, dissimilarity index and disagreement side by side, hatched outside the area of applicability."""
    (p, index, area, doubt), grid = glance(probability, [1, 2, 3, 4], MOST // 2)
    rows, columns = (1, 3) if grid.width < 2.5 * grid.height else (3, 1)
    width = 13.0 if columns == 3 else 9.0
    height = rows * (0.78 * width / columns * grid.height / grid.width + 0.5) + 0.5
    figure = Figure(figsize=(width, min(16.0, max(3.0, height))), layout="constrained")
    panels = ((p, "probability", 1.0), (index, "dissimilarity index", None), (doubt, "disagreement", None))
    every = figure.subplots(rows, columns)
    for letter, axes, (values, name, most) in zip(string.ascii_lowercase, every, panels, strict=False):
        axes.set_facecolor(UNDEFINED)
        if np.isnan(values).all():
            axes.text(0.5, 0.5, "undefined", transform=axes.transAxes, ha="center")
        else:
            most = float(np.nanpercentile(values, 99)) if most is None else most
            look: dict[str, Any] = {"cmap": "Greys" if letter == "a" else RAMP, "vmin": 0, "vmax": max(most, 1e-9)}
            shown = axes.imshow(values, extent=extent(grid), **look)
            figure.colorbar(shown, ax=axes, shrink=0.8, pad=0.02, extend="neither" if letter == "a" else "max")
        if letter == "a" and (area == 0).any():
            x, y = centres(grid)
            # seen on black and on white, in colour and in grey
            with matplotlib.rc_context({"hatch.color": LANDSLIDES, "hatch.linewidth": 0.8}):
                axes.contourf(x, y, area == 0, [0.5, 1.5], hatches=["xxxxx"], colors="none")
            axes.contour(x, y, area == 0, [0.5], colors=LANDSLIDES, linewidths=0.5)
        dress(axes, grid, f"({letter}) {name}", labels=False)
    figure.suptitle("Where not to trust the map; hatched: outside the area of applicability", fontsize=11)
    save(figure, out, overwrite)


def draw_split(stack: Path, split: Path, out: Path, overwrite: bool = False) -> None:
    """Training, validation and test ground over the relief."""
    values, grid = glance(split, [1], MOST, stored=True)
    kind = read_info(split).tags.get("split", "unknown")
    figure, axes = map_figure(grid)
    relief(axes, stack, grid)
    for name, colour in PART_COLOURS.items():
        overlay(axes, values[0] == PARTS[name], colour, grid, 0.55)
    handles = [Patch(color=colour, label=name) for name, colour in PART_COLOURS.items()]
    key(figure, handles)
    finish(figure, axes, grid, f"Split: {kind}", out, overwrite)


def draw_judged(
    probability: Path,
    label: Path,
    stack: Path,
    threshold: float,
    out: Path,
    title: str,
    split: Path | None = None,
    overwrite: bool = False,
) -> None:
    """The landslide map with hits, misses and false alarms over the relief; the test part framed where given."""
    _, grid = glance(probability, [1], MOST)
    figure, axes = map_figure(grid)
    key(figure, _judged(axes, probability, label, stack, threshold, split))
    finish(figure, axes, grid, title, out, overwrite)


def _judged(
    axes: Axes, probability: Path, label: Path, stack: Path, threshold: float, split: Path | None
) -> list[Patch]:
    p, grid = glance(probability, [1], MOST)
    truth, _ = glance(label, [1], MOST, stored=True)
    mapped, known = p[0] >= threshold, ~np.isnan(p[0]) & (truth[0] != UNKNOWN)
    relief(axes, stack, grid)
    slide = truth[0] == LANDSLIDE
    overlay(axes, known & mapped & slide, HITS, grid)
    overlay(axes, known & ~mapped & slide, MISSES, grid)
    overlay(axes, known & mapped & ~slide, FALSE_ALARMS, grid)
    outside(axes, ~known, grid)
    handles = [
        Patch(color=HITS, label="hits"),
        Patch(color=MISSES, label="misses"),
        Patch(color=FALSE_ALARMS, label="false alarms"),
    ]
    if split is not None:
        parts, _ = glance(split, [1], MOST, stored=True)
        test = (parts[0] == PARTS["test"]).astype(float)
        if test.any():
            axes.contour(*centres(grid), test, [0.5], colors="black", linewidths=1.2)
            handles.append(Patch(facecolor="none", edgecolor="black", label="test part"))
    return handles


@dataclass(frozen=True)
class Panel:
    """One map of a figure of several: its title, probability raster, threshold and split.tif."""

    title: str
    probability: Path
    threshold: float
    split: Path | None


def draw_panels(
    panels: Sequence[Panel], label: Path, stack: Path, out: Path, title: str, overwrite: bool = False
) -> None:
    """Maps of one site side by side, lettered (a), (b) ..., with hits, misses and false alarms (Figs. 7 and 8)."""
    _, grid = glance(label, [1], MOST, stored=True)
    columns = 2 if grid.width >= grid.height else 3
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    width = 11.0
    height = min(16.0, rows * (width / columns * grid.height / grid.width + 0.35) + 0.9)
    figure = Figure(figsize=(width, height), layout="constrained")
    every = list(figure.subplots(rows, columns, squeeze=False).flat)
    handles: list[Patch] = []
    for letter, axes, panel in zip(string.ascii_lowercase, every, panels, strict=False):
        handles = _judged(axes, panel.probability, label, stack, panel.threshold, panel.split)
        dress(axes, grid, f"({letter}) {panel.title}", labels=False)
    for axes in every[len(panels) :]:
        axes.set_axis_off()
    figure.suptitle(title, fontsize=11)
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=9, frameon=False)
    save(figure, out, overwrite)


def draw_curves(histories: Mapping[str, Path], out: Path, title: str, overwrite: bool = False) -> None:
    """Validation loss and kappa by epoch of several trainings, a line each; dashed where a name ends in `bands`.

    Trainings of one or two epochs are marked, hollow where a line would be dashed.
    """
    figure = Figure(figsize=(10, 4), layout="constrained")
    loss, kappa = figure.subplots(1, 2)
    names = list(dict.fromkeys(name.partition(",")[0] for name in histories))
    for name, history in histories.items():
        rows = _rows(history)
        epochs = [row["epoch"] for row in rows]
        look: dict[str, Any] = {
            "color": LINES[names.index(name.partition(",")[0]) % len(LINES)],
            "ls": "--" if name.endswith("bands") else "-",
            "marker": "o" if len(rows) < 3 else None,
            "mfc": "white" if name.endswith("bands") else None,
        }
        loss.plot(epochs, [row["validation_loss"] for row in rows], label=name, **look)
        kappa.plot(epochs, [row["validation_kappa"] for row in rows], **look)
    loss.set(xlabel="epoch", ylabel="loss on validation ground", yscale="log")
    kappa.set(xlabel="epoch", ylabel="kappa on validation ground", ylim=(min(0, *kappa.get_ylim()), 1))
    for axes in (loss, kappa):
        axes.grid(alpha=0.3)
        axes.xaxis.get_major_locator().set_params(integer=True)
        low, high = axes.get_xlim()
        if high - low < 1:  # one epoch, which would have its tenths as ticks
            axes.set_xlim(low - 1, high + 1)
    figure.suptitle(title, fontsize=11)
    figure.legend(loc="outside lower center", ncols=min(4, len(histories)), fontsize=8, frameon=False)
    save(figure, out, overwrite)


def draw_history(history: Path, out: Path, overwrite: bool = False) -> None:
    """Loss and validation scores by epoch, from history.csv; an empty cell is undefined and leaves a gap."""
    rows = _rows(history)
    epochs = [row["epoch"] for row in rows]
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    loss, scores = figure.subplots(1, 2)
    loss.plot(epochs, [row["loss"] for row in rows], color=LINES[0], label="training")
    loss.plot(epochs, [row["validation_loss"] for row in rows], color=LINES[4], ls="--", label="validation")
    loss.set(xlabel="epoch", ylabel="loss", yscale="log")
    scores.plot(epochs, [row["validation_kappa"] for row in rows], color=LINES[2], label="kappa")
    scores.plot(epochs, [row["validation_f1"] for row in rows], color=LINES[3], ls="--", label="F1")
    scores.set(xlabel="epoch", ylabel="on validation ground", ylim=(min(0, *scores.get_ylim()), 1))
    for axes in (loss, scores):
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    save(figure, out, overwrite)


def draw_areas(scores: InventoryScores, out: Path, overwrite: bool = False) -> None:
    """Frequency density of landslide areas with power-law tails, map beside reference, and the share found by size."""
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    density, share = figure.subplots(1, 2)
    classes = scores.classes
    middle = np.array([math.sqrt(size.low * size.high) for size in classes])
    width = np.array([size.high - size.low for size in classes])
    for name, counts, tail, colour, marker in (
        ("reference", [size.reference for size in classes], scores.reference_tail, REFERENCE, "o"),
        ("map", [size.mapped for size in classes], scores.mapped_tail, LANDSLIDES, "s"),
    ):
        number = np.array(counts, float)
        if not number.any():
            continue
        some, scale = number > 0, width * number.sum()
        off = np.sqrt(number[some]) / scale[some]
        density.errorbar(
            middle[some], number[some] / scale[some], np.minimum(off, 0.9 * number[some] / scale[some]),
            color=colour, marker=marker, ms=4, lw=0.8, capsize=2, label=f"{name}: {number.sum():,.0f} landslides",
        )  # fmt: skip
        draw_tail(density, tail, number.sum(), max(size.high for size in classes), colour, name)
    density.set(xscale="log", yscale="log", xlabel="landslide area (m²)", ylabel="frequency density (1/m²)")
    density.legend(fontsize=8)

    held = [i for i, size in enumerate(classes) if size.reference]
    at = [classes[i].found / classes[i].reference for i in held]
    low, high = zip(*(_wilson(classes[i].found, classes[i].reference) for i in held), strict=True) if held else ((), ())
    off = np.array([[p - a for p, a in zip(at, low, strict=True)], [b - p for p, b in zip(at, high, strict=True)]])
    share.errorbar(middle[held], at, np.maximum(off, 0), color=HITS, marker="o", ms=4, lw=0.8, capsize=2)
    for i, b in zip(held, high, strict=True):
        share.annotate(
            str(classes[i].reference), (middle[i], b), (0, 2), textcoords="offset points", ha="center", fontsize=7
        )
    share.axhline(COMPLETE, color="black", lw=0.8, ls=":", label=f"{100 * COMPLETE:g} %")
    if not math.isnan(scores.completeness_m2):
        share.axvline(
            scores.completeness_m2,
            color=FALSE_ALARMS,
            ls="--",
            label=f"complete from {area_text(scores.completeness_m2)}",
        )
    share.set(xscale="log", xlim=density.get_xlim(), ylim=(0, 1.1), xlabel="landslide area (m²)", ylabel="share found")
    share.legend(fontsize=8, loc="lower right")
    for axes in (density, share):
        log_ticks(axes.xaxis)
        axes.grid(alpha=0.3)
    log_ticks(density.yaxis)
    ground = "all mapped ground" if scores.part == "all" else f"the {scores.part} part"
    figure.suptitle(f"Inventory against reference, {ground} (bars: 1 sigma of counts; 95 % of shares)", fontsize=11)
    save(figure, out, overwrite)


def draw_reliability(
    tables: Mapping[str, Sequence[Reliability]], out: Path, title: str, overwrite: bool = False
) -> None:
    """Share of landslide against mean probability, a line per table, over the pixels of each class.

    On the dashed diagonal probabilities can be taken at their word. Bars are 95 % intervals, where there are any.
    """
    figure = Figure(figsize=(5.4, 7.2), layout="constrained")
    shares, counts = figure.subplots(2, 1, height_ratios=(3.2, 1))
    shares.plot([0, 1], [0, 1], color="black", ls=":", lw=1, label="calibrated")
    looks: list[dict[str, Any]] = [
        {"color": LINES[0], "marker": "o", "ls": "-", "mfc": LINES[0]},
        {"color": LINES[4], "marker": "s", "ls": "--", "mfc": "white"},
    ]
    for i, (name, table) in enumerate(tables.items()):
        look = looks[i % len(looks)]
        held = [row for row in table if row.pixels]
        said, observed = np.array([row.probability for row in held]), np.array([row.observed for row in held])
        low, high = np.array([row.observed_low for row in held]), np.array([row.observed_high for row in held])
        label = f"{name}: ECE {100 * expected_calibration_error(list(table)):.1f} %"
        shares.plot(said, observed, lw=1.3, ms=5, clip_on=False, zorder=3, label=label, **look)
        shares.vlines(said, low, high, color=look["color"], lw=1.1)
        shares.scatter([*said, *said], [*low, *high], 36, look["color"], "_", linewidths=1.1)
        edges = [row.low for row in table] + [table[-1].high]
        counts.stairs([row.pixels for row in table], edges, baseline=None, color=look["color"], ls=look["ls"], lw=1.3)
    shares.set(xlim=(0, 1), ylim=(0, 1), ylabel="share that is landslide")
    shares.set_title(title, fontsize=11)
    figure.legend(loc="outside lower center", ncols=1 + len(tables), fontsize=8, frameon=False)
    counts.set(xlim=(0, 1), xlabel="landslide probability", ylabel="pixels", yscale="log")
    for axes in (shares, counts):
        axes.grid(alpha=0.3)
        axes.tick_params(labelsize=8)
    save(figure, out, overwrite)


def draw_tail(axes: Axes, tail: Tail, total: float, largest: float, colour: str, name: str) -> None:
    """The power-law tail of `total` landslides as a line of frequency density, from its x_min to the largest."""
    if math.isnan(tail.exponent):
        return
    x = np.geomspace(tail.x_min, largest, 50)
    y = tail.count / total * (tail.exponent - 1) / tail.x_min * (x / tail.x_min) ** -tail.exponent
    label = f"{name}: exponent {tail.exponent:.2f} ± {tail.standard_error:.2f}"
    axes.plot(x, y, color=colour, ls="--", lw=1.4, label=label)


def _wilson(found: int, count: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927)."""
    z = 1.959964
    middle = (found + z * z / 2) / (count + z * z)
    off = z / (count + z * z) * math.sqrt(found * (count - found) / count + z * z / 4)
    return middle - off, middle + off


def draw_intervals(
    factors: Mapping[str, Sequence[tuple[str, float, float]]], mean: float, out: Path, overwrite: bool = False
) -> None:
    """Landslide frequency (bars) and area share (hatched, right axis) by class, a panel per factor (Fig. 10).

    `factors`: title -> (class, frequency, area share), fractions, NaN where undefined; `mean`: the site's frequency.
    """
    columns = min(3, len(factors))
    rows = -(-len(factors) // columns)
    figure = Figure(figsize=(4.3 * columns, 3.3 * rows + 0.5), layout="constrained")
    every = list(figure.subplots(rows, columns, squeeze=False).flat)
    handles: list[Any] = []
    for axes, (title, bars) in zip(every, factors.items(), strict=False):
        at = np.arange(len(bars))
        frequency, area = (100 * np.array([bar[i] for bar in bars], float) for i in (1, 2))
        left = axes.bar(at - 0.2, frequency, 0.4, color=LINES[0], label="landslide frequency")
        line = axes.axhline(100 * mean, color="black", ls="--", lw=1, label="frequency of the site")
        right_axes = axes.twinx()
        style: dict[str, Any] = {"facecolor": "white", "edgecolor": HATCH, "hatch": "////", "linewidth": 0.8}
        right = right_axes.bar(at + 0.2, area, 0.4, label="area share (right)", **style)
        for i in np.flatnonzero(np.isnan(frequency)):
            axes.text(i - 0.2, 0, "undefined", rotation=90, ha="center", va="bottom", fontsize=7)
        axes.set_title(title, fontsize=10)
        axes.set_xticks(at, [bar[0] for bar in bars], rotation=40, ha="right", rotation_mode="anchor", fontsize=8)
        axes.set_ylabel("landslide frequency (%)", fontsize=8)
        right_axes.set_ylabel("area share (%)", fontsize=8)
        axes.set_ylim(0, max(1.08 * np.nanmax([*frequency, 100 * mean]), 1e-9))
        right_axes.set_ylim(0, max(1.08 * float(np.nanmax(area)), 1e-9) if np.isfinite(area).any() else 1)
        handles = [left, line, right]
        for one in (axes, right_axes):
            one.tick_params(labelsize=8)
    for axes in every[len(factors) :]:
        axes.set_axis_off()
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=9, frameon=False)
    save(figure, out, overwrite)


@dataclass(frozen=True)
class Whisker:
    """One bar of a ranking: estimate with its interval; `effect` None where it was not tested."""

    name: str
    estimate: float
    low: float
    high: float
    effect: bool | None
    unstable: bool


def draw_ranking(measures: Mapping[str, Sequence[Whisker]], out: Path, overwrite: bool = False) -> None:
    """Importance of factors with intervals, a panel per measure, the first bar on top (Fig. 9).

    White and hatched where no effect was shown; a name in brackets where its place is unstable.
    """
    most = max(len(bars) for bars in measures.values())
    figure = Figure(figsize=(5.2 * len(measures), 0.36 * most + 1.7), layout="constrained")
    for axes, (title, bars) in zip(
        figure.subplots(1, len(measures), squeeze=False).flat, measures.items(), strict=True
    ):
        for i, bar in enumerate(bars):
            none = bar.effect is False
            axes.barh(
                i, bar.estimate, 0.7, facecolor="white" if none else LINES[0], edgecolor=LINES[0],
                hatch="////" if none else None,
            )  # fmt: skip
            axes.plot([bar.low, bar.high], [i, i], color="black", lw=1.4, marker="|", ms=7, mew=1.4)
            if math.isnan(bar.estimate):
                axes.text(0, i, " undefined", va="center", fontsize=8)
        names = [f"({bar.name})" if bar.unstable else bar.name for bar in bars]
        axes.set_yticks(range(len(bars)), [name.replace("_", " ") for name in names], fontsize=9)
        axes.set_ylim(len(bars) - 0.4, -0.6)
        axes.axvline(0, color="black", lw=0.8)
        axes.grid(axis="x", alpha=0.3)
        axes.tick_params(axis="x", labelsize=8)
        axes.set_title(title, fontsize=10)
    handles = [
        Patch(color=LINES[0], label="effect shown"),
        Patch(facecolor="white", edgecolor=LINES[0], hatch="////", label="no effect shown"),
        Patch(facecolor="none", edgecolor="none", label="whiskers: 95 % interval; (name): place unstable"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=9, frameon=False)
    save(figure, out, overwrite)


def _rows(history: Path) -> list[dict[str, float]]:
    with history.open(encoding="utf-8") as file:
        return [{k: float(v) if v else math.nan for k, v in row.items()} for row in csv.DictReader(file)]
