"""Figures of scores: landslide areas by size, and how far probabilities can be taken at their word."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from landslip.evaluation.object_scores import COMPLETE, InventoryScores, area_text, part_text
from landslip.metrics.calibration import Reliability, expected_calibration_error
from landslip.plots.cartography import log_ticks, save
from landslip.plots.curves import draw_tail
from landslip.plots.palette import FALSE_ALARMS, HITS, LANDSLIDES, LINES, REFERENCE


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
        holding, scale = number > 0, width * number.sum()
        frequency, sigma = number[holding] / scale[holding], np.sqrt(number[holding]) / scale[holding]
        # A bar that reached down to 0 would have no end on the logarithmic axis.
        density.errorbar(
            middle[holding], frequency, np.minimum(sigma, 0.9 * number[holding] / scale[holding]),
            color=colour, marker=marker, ms=4, lw=0.8, capsize=2, label=f"{name}: {number.sum():,.0f} landslides",
        )  # fmt: skip
        draw_tail(density, tail, number.sum(), largest=max(size.high for size in classes), colour=colour, name=name)
    density.set(xscale="log", yscale="log", xlabel="landslide area (m²)", ylabel="frequency density (1/m²)")
    density.legend(fontsize=8)

    filled = [i for i, size in enumerate(classes) if size.reference]
    found = np.array([classes[i].found / classes[i].reference for i in filled])
    ends = np.array([_wilson(classes[i].found, classes[i].reference) for i in filled]).reshape(-1, 2)
    bars = np.maximum([found - ends[:, 0], ends[:, 1] - found], 0)
    share.errorbar(middle[filled], found, bars, color=HITS, marker="o", ms=4, lw=0.8, capsize=2)
    for i, top in zip(filled, ends[:, 1], strict=True):
        share.annotate(
            str(classes[i].reference), (middle[i], top), (0, 2), textcoords="offset points", ha="center", fontsize=7
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
    figure.suptitle(
        f"Inventory against reference, {part_text(scores.part)} (bars: 1 sigma of counts; 95 % of shares)", fontsize=11
    )
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
    looks = [(LINES[0], "o", "-", LINES[0]), (LINES[4], "s", "--", "white")]
    for i, (name, table) in enumerate(tables.items()):
        colour, marker, line, face = looks[i % len(looks)]
        filled = [row for row in table if row.pixels]
        mean, observed = np.array([row.probability for row in filled]), np.array([row.observed for row in filled])
        low, high = np.array([row.observed_low for row in filled]), np.array([row.observed_high for row in filled])
        label = f"{name}: ECE {100 * expected_calibration_error(list(table)):.1f} %"
        shares.plot(mean, observed, lw=1.3, ms=5, clip_on=False, zorder=3, label=label,
                    color=colour, marker=marker, ls=line, mfc=face)  # fmt: skip
        shares.vlines(mean, low, high, color=colour, lw=1.1)
        shares.scatter([*mean, *mean], [*low, *high], 36, colour, "_", linewidths=1.1)
        edges = [row.low for row in table] + [table[-1].high]
        counts.stairs([row.pixels for row in table], edges, baseline=None, color=colour, ls=line, lw=1.3)
    shares.set(xlim=(0, 1), ylim=(0, 1), ylabel="share that is landslide")
    shares.set_title(title, fontsize=11)
    figure.legend(loc="outside lower center", ncols=1 + len(tables), fontsize=8, frameon=False)
    counts.set(xlim=(0, 1), xlabel="landslide probability", ylabel="pixels", yscale="log")
    for axes in (shares, counts):
        axes.grid(alpha=0.3)
        axes.tick_params(labelsize=8)
    save(figure, out, overwrite)


def _wilson(found: int, count: int) -> tuple[float, float]:
    """95 % interval of the share that is found of so many (Wilson 1927)."""
    z = 1.959964  # standard deviations of a normal distribution that hold 95 % of it
    middle = (found + z * z / 2) / (count + z * z)
    half = z / (count + z * z) * math.sqrt(found * (count - found) / count + z * z / 4)
    return middle - half, middle + half
