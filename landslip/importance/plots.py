"""Figures of importance: factors ranked, and landslide frequency along each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from landslip.importance.ranking import MEASURES, Score
from landslip.plots.cartography import save
from landslip.plots.palette import HATCH, LINES


def draw_intervals(
    factors: Mapping[str, Sequence[tuple[str, float, float]]], mean: float, out: Path, overwrite: bool = False
) -> None:
    """Landslide frequency (bars) and area share (hatched, right axis) by class, a panel per factor (Fig. 10).

    `factors` holds, by the panel's title, the name, frequency and area share of each class, as fractions, NaN where
    undefined; `mean` is the site's frequency.
    """
    columns = min(3, len(factors))
    rows = -(-len(factors) // columns)
    figure = Figure(figsize=(4.3 * columns, 3.3 * rows + 0.5), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    handles: list[Any] = []
    for axes, (title, bars) in zip(panels, factors.items(), strict=False):
        x = np.arange(len(bars))
        frequency, area = (100 * np.array([bar[i] for bar in bars], float) for i in (1, 2))
        left = axes.bar(x - 0.2, frequency, 0.4, color=LINES[0], label="landslide frequency")
        line = axes.axhline(100 * mean, color="black", ls="--", lw=1, label="frequency of the site")
        right_axes = axes.twinx()
        right = right_axes.bar(
            x + 0.2, area, 0.4, facecolor="white", edgecolor=HATCH, hatch="////", lw=0.8, label="area share (right)"
        )
        for i in np.flatnonzero(np.isnan(frequency)):
            axes.text(i - 0.2, 0, "undefined", rotation=90, ha="center", va="bottom", fontsize=7)
        axes.set_title(title, fontsize=10)
        axes.set_xticks(x, [bar[0] for bar in bars], rotation=40, ha="right", rotation_mode="anchor", fontsize=8)
        axes.set_ylabel("landslide frequency (%)", fontsize=8)
        right_axes.set_ylabel("area share (%)", fontsize=8)
        axes.set_ylim(0, max(1.08 * np.nanmax([*frequency, 100 * mean]), 1e-9))
        right_axes.set_ylim(0, max(1.08 * float(np.nanmax(area)), 1e-9) if np.isfinite(area).any() else 1)
        handles = [left, line, right]
        axes.tick_params(labelsize=8)
        right_axes.tick_params(labelsize=8)
    for axes in panels[len(factors) :]:
        axes.set_axis_off()
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=9, frameon=False)
    save(figure, out, overwrite)


def draw_ranking(scores: Sequence[Score], out: Path, overwrite: bool = False) -> None:
    """Importance of factors with intervals, a panel per measure but those of F1, the first bar on top (Fig. 9).

    White and hatched where no effect was shown; a name in brackets where its place is unstable.
    """
    panels = {
        title: [score for score in scores if score.measure == measure]
        for measure, title in MEASURES.items()
        if not measure.endswith("_f1")
    }
    panels = {title: bars for title, bars in panels.items() if bars}
    most = max(len(bars) for bars in panels.values())
    figure = Figure(figsize=(5.2 * len(panels), 0.36 * most + 1.7), layout="constrained")
    for axes, (title, bars) in zip(figure.subplots(1, len(panels), squeeze=False).flat, panels.items(), strict=True):
        for i, bar in enumerate(bars):
            no_effect = bar.effect is False
            axes.barh(
                i, bar.estimate, 0.7, facecolor="white" if no_effect else LINES[0], edgecolor=LINES[0],
                hatch="////" if no_effect else None,
            )  # fmt: skip
            axes.plot([bar.low, bar.high], [i, i], color="black", lw=1.4, marker="|", ms=7, mew=1.4)
            if math.isnan(bar.estimate):
                axes.text(0, i, " undefined", va="center", fontsize=8)
        names = [f"({bar.factor})" if bar.unstable else bar.factor for bar in bars]
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
