"""Curves: trainings epoch by epoch, and the tail of landslide areas."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from landslip.metrics.size_distribution import Tail
from landslip.plots.cartography import save
from landslip.plots.palette import LINES


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
        for axes, column in ((loss, "validation_loss"), (kappa, "validation_kappa")):
            axes.plot(
                epochs,
                [row[column] for row in rows],
                label=name if axes is loss else None,
                color=LINES[names.index(name.partition(",")[0]) % len(LINES)],
                ls="--" if name.endswith("bands") else "-",
                marker="o" if len(rows) < 3 else None,
                mfc="white" if name.endswith("bands") else None,
            )
    loss.set(xlabel="epoch", ylabel="loss on validation ground", yscale="log")
    kappa.set(xlabel="epoch", ylabel="kappa on validation ground", ylim=(min(0, *kappa.get_ylim()), 1))
    for axes in (loss, kappa):
        axes.grid(alpha=0.3)
        _tick_epochs(axes)
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
        _tick_epochs(axes)
        axes.legend(fontsize=8)
    save(figure, out, overwrite)


def _tick_epochs(axes: Axes) -> None:
    """Ticks at whole epochs, since there is nothing between two of them."""
    axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10]))
    low, high = axes.get_xlim()
    if high - low < 1:  # The tenths of a single epoch would be ticks.
        axes.set_xlim(low - 1, high + 1)


def draw_tail(axes: Axes, tail: Tail, total: float, largest: float, *, colour: str, name: str) -> None:
    """Draw the power-law tail of `total` landslides as a line of frequency density, from its x_min to the largest."""
    if math.isnan(tail.exponent):
        return
    x = np.geomspace(tail.x_min, largest, 50)
    y = tail.count / total * (tail.exponent - 1) / tail.x_min * (x / tail.x_min) ** -tail.exponent
    label = f"{name}: exponent {tail.exponent:.2f} ± {tail.standard_error:.2f}"
    axes.plot(x, y, color=colour, ls="--", lw=1.4, label=label)


def _rows(history: Path) -> list[dict[str, float]]:
    """The rows of history.csv, an epoch each; NaN for an empty cell."""
    with history.open(encoding="utf-8") as file:
        return [{k: float(v) if v else math.nan for k, v in row.items()} for row in csv.DictReader(file)]
