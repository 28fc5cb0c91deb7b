"""Maps of a run as pictures: image, label, probability, where not to trust it, split, and hits and misses.

Colours are those of landslip.plots.palette: hits bluish green, misses orange, false alarms purple.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from landslip.dataset.label import LANDSLIDE, UNKNOWN
from landslip.dataset.split import PARTS
from landslip.factors.table import FACTORS
from landslip.geo.preview import read_decimated
from landslip.geo.raster import read_info
from landslip.plots.cartography import (
    MOST_DRAWN,
    add_legend,
    add_map_frame,
    centres,
    draw_overlay,
    draw_relief,
    extent,
    finish,
    map_figure,
    outside,
    save,
    stretched,
)
from landslip.plots.palette import (
    FALSE_ALARMS,
    HITS,
    LANDSLIDES,
    MISSES,
    PART_COLOURS,
    RAMP,
    UNDEFINED,
)
from landslip.plots.qgis_style import TRUE_COLOUR


@dataclass(frozen=True)
class Panel:
    """One map of a figure of several: its title, probability raster, threshold and split.tif."""

    title: str
    probability: Path
    threshold: float
    split: Path | None


def draw_input(stack: Path, out: Path, overwrite: bool = False) -> None:
    """The image in true colour where red, green and blue are there, else its first bands."""
    names = [str(name) for name in read_info(stack).names]
    bands = [n for n in TRUE_COLOUR if n in names]
    if len(bands) < 3:
        bands = [n for n in names if n not in FACTORS][:3]
        bands = bands if len(bands) == 3 else names[:1] * 3
    values, grid = read_decimated(stack, [names.index(n) + 1 for n in bands], MOST_DRAWN)
    figure, axes = map_figure(grid)
    axes.imshow(stretched(values), extent=extent(grid))
    finish(figure, axes, grid, f"Image ({', '.join(dict.fromkeys(bands))})", out=out, overwrite=overwrite)


def draw_label(stack: Path, label: Path, out: Path, overwrite: bool = False) -> None:
    """The mapped landslides over the relief."""
    values, grid = read_decimated(label, [1], MOST_DRAWN, stored=True)
    figure, axes = map_figure(grid)
    draw_relief(axes, stack, grid)
    draw_overlay(axes, values[0] == LANDSLIDE, LANDSLIDES, grid)
    outside(axes, values[0] == UNKNOWN, grid)
    add_legend(figure, [Patch(color=LANDSLIDES, label="landslide")])
    finish(figure, axes, grid, "Label", out=out, overwrite=overwrite)


def draw_probability(probability: Path, out: Path, overwrite: bool = False) -> None:
    """The probability of landslide, grey where undefined."""
    values, grid = read_decimated(probability, [1], MOST_DRAWN)
    figure, axes = map_figure(grid, right=0.9)
    axes.set_facecolor(UNDEFINED)
    shown = axes.imshow(values[0], extent=extent(grid), cmap=RAMP, vmin=0, vmax=1)
    figure.colorbar(shown, ax=axes, shrink=0.7, label="landslide probability", pad=0.02)
    finish(figure, axes, grid, "Landslide probability", out=out, overwrite=overwrite)


def draw_uncertainty(probability: Path, out: Path, overwrite: bool = False) -> None:
    """Probability, dissimilarity index and disagreement side by side, hatched outside the area of applicability."""
    (p, index, area, doubt), grid = read_decimated(probability, [1, 2, 3, 4], MOST_DRAWN // 2)
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
            ramp = "Greys" if letter == "a" else RAMP
            shown = axes.imshow(values, extent=extent(grid), cmap=ramp, vmin=0, vmax=max(most, 1e-9))
            figure.colorbar(shown, ax=axes, shrink=0.8, pad=0.02, extend="neither" if letter == "a" else "max")
        if letter == "a" and (area == 0).any():
            x, y = centres(grid)
            # These lines are seen on black and on white, in colour and in grey.
            with matplotlib.rc_context({"hatch.color": LANDSLIDES, "hatch.linewidth": 0.8}):
                axes.contourf(x, y, area == 0, [0.5, 1.5], hatches=["xxxxx"], colors="none")
            axes.contour(x, y, area == 0, [0.5], colors=LANDSLIDES, linewidths=0.5)
        add_map_frame(axes, grid, f"({letter}) {name}", labels=False)
    figure.suptitle("Where not to trust the map; hatched: outside the area of applicability", fontsize=11)
    save(figure, out, overwrite)


def draw_split(stack: Path, split: Path, out: Path, overwrite: bool = False) -> None:
    """Training, validation and test ground over the relief."""
    values, grid = read_decimated(split, [1], MOST_DRAWN, stored=True)
    kind = read_info(split).tags.get("split", "unknown")
    figure, axes = map_figure(grid)
    draw_relief(axes, stack, grid)
    for name, colour in PART_COLOURS.items():
        draw_overlay(axes, values[0] == PARTS[name], colour, grid, 0.55)
    handles = [Patch(color=colour, label=name) for name, colour in PART_COLOURS.items()]
    add_legend(figure, handles)
    finish(figure, axes, grid, f"Split: {kind}", out=out, overwrite=overwrite)


def draw_judged(panel: Panel, label: Path, stack: Path, out: Path, overwrite: bool = False) -> None:
    """The landslide map with hits, misses and false alarms over the relief; the test part framed where given."""
    _, grid = read_decimated(panel.probability, [1], MOST_DRAWN)
    figure, axes = map_figure(grid)
    add_legend(figure, _draw_judged_map(axes, panel, label, stack))
    finish(figure, axes, grid, panel.title, out=out, overwrite=overwrite)


def draw_panels(
    panels: Sequence[Panel], label: Path, stack: Path, out: Path, title: str, *, overwrite: bool = False
) -> None:
    """Maps of one site side by side, lettered (a), (b) ..., with hits, misses and false alarms (Figs. 7 and 8)."""
    _, grid = read_decimated(label, [1], MOST_DRAWN, stored=True)
    columns = 2 if grid.width >= grid.height else 3
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    width = 11.0
    height = min(16.0, rows * (width / columns * grid.height / grid.width + 0.35) + 0.9)
    figure = Figure(figsize=(width, height), layout="constrained")
    every = list(figure.subplots(rows, columns, squeeze=False).flat)
    handles: list[Patch] = []
    for letter, axes, panel in zip(string.ascii_lowercase, every, panels, strict=False):
        handles = _draw_judged_map(axes, panel, label, stack)
        add_map_frame(axes, grid, f"({letter}) {panel.title}", labels=False)
    for axes in every[len(panels) :]:
        axes.set_axis_off()
    figure.suptitle(title, fontsize=11)
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=9, frameon=False)
    save(figure, out, overwrite)


def _draw_judged_map(axes: Axes, panel: Panel, label: Path, stack: Path) -> list[Patch]:
    """Draw hits, misses and false alarms over the relief, and return what a legend says of their colours."""
    values, grid = read_decimated(panel.probability, [1], MOST_DRAWN)
    truth, _ = read_decimated(label, [1], MOST_DRAWN, stored=True)
    mapped, judged = values[0] >= panel.threshold, ~np.isnan(values[0]) & (truth[0] != UNKNOWN)
    draw_relief(axes, stack, grid)
    slide = truth[0] == LANDSLIDE
    draw_overlay(axes, judged & mapped & slide, HITS, grid)
    draw_overlay(axes, judged & ~mapped & slide, MISSES, grid)
    draw_overlay(axes, judged & mapped & ~slide, FALSE_ALARMS, grid)
    outside(axes, ~judged, grid)
    handles = [
        Patch(color=HITS, label="hits"),
        Patch(color=MISSES, label="misses"),
        Patch(color=FALSE_ALARMS, label="false alarms"),
    ]
    if panel.split is not None:
        parts, _ = read_decimated(panel.split, [1], MOST_DRAWN, stored=True)
        test = (parts[0] == PARTS["test"]).astype(float)
        if test.any():
            axes.contour(*centres(grid), test, [0.5], colors="black", linewidths=1.2)
            handles.append(Patch(facecolor="none", edgecolor="black", label="test part"))
    return handles
