"""The frame of every map that is drawn: coordinates, scale bar, north arrow, relief beneath, key below.

Colours are those of landslip.plots.palette.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FixedLocator, FuncFormatter, LogFormatterSciNotation, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from landslip.factors.terrain import hillshade
from landslip.geo.grid import Grid, is_local_metric
from landslip.geo.preview import read_decimated, stretch
from landslip.geo.raster import read_info
from landslip.plots.palette import NO_RELIEF
from landslip.runtime.atomic import atomic_write

MOST_DRAWN = 1400  # pixels along the longer side of a map that is drawn


def map_figure(grid: Grid, right: float = 0.98) -> tuple[Figure, Axes]:
    """A figure for one map of a grid; `right` is the share of its width that the map takes."""
    width = 9.0
    height = min(12.0, max(3.2, width * right * grid.height / grid.width + 0.9))
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def extent(grid: Grid) -> tuple[float, float, float, float]:
    """(left, right, bottom, top) of a grid in kilometres, as `imshow` takes it."""
    left, bottom, right, top = grid.bounds
    return left / 1000, right / 1000, bottom / 1000, top / 1000


def centres(grid: Grid) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Kilometres of the pixel centres: x (W,) and y (H,), as `contour` takes them."""
    left, right, bottom, top = extent(grid)
    x = left + (np.arange(grid.width) + 0.5) * (right - left) / grid.width
    return x, top - (np.arange(grid.height) + 0.5) * (top - bottom) / grid.height


def stretched(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """(3, H, W) to (H, W, 4) in [0, 1]: 2nd to 98th percentile of each band; transparent where undefined."""
    out = np.zeros((*values.shape[1:], 4), np.float32)
    for i, band in enumerate(values):
        low, high = stretch(band)
        out[..., i] = np.clip((np.nan_to_num(band) - low) / (high - low), 0, 1)
    out[..., 3] = ~np.isnan(values).any(axis=0)
    return out


def shade_of(stack: Path, grid: Grid, most: int = MOST_DRAWN) -> NDArray[np.float32] | None:
    """Hillshade (H, W) of a stack thinned to `grid`, NaN where undefined; None without elevation."""
    names = list(read_info(stack).names)
    if "elevation" not in names:
        return None
    z, _ = read_decimated(stack, [names.index("elevation") + 1], most)
    return hillshade(z[0], grid.x_size, grid.y_size)


def draw_relief(axes: Axes, stack: Path, grid: Grid) -> None:
    """Draw hillshade in grey beneath a map, or plain grey where the stack has no elevation."""
    shade = shade_of(stack, grid)
    if shade is None:
        axes.set_facecolor(NO_RELIEF)
        return
    axes.imshow(shade, extent=extent(grid), cmap="gray", vmin=-1.6, vmax=1.1)


def draw_overlay(axes: Axes, mask: NDArray[np.bool_], colour: str, grid: Grid, alpha: float = 1.0) -> None:
    """Lay one colour over a map where (H, W) `mask` is True."""
    shown = np.ma.masked_where(~mask, np.ones(mask.shape, np.uint8))
    axes.imshow(shown, extent=extent(grid), cmap=ListedColormap([colour]), alpha=alpha, interpolation="nearest")


def outside(axes: Axes, mask: NDArray[np.bool_], grid: Grid) -> None:
    """Make ground that is not judged pale: where (H, W) `mask` is True."""
    draw_overlay(axes, mask, "white", grid, 0.55)


def add_legend(figure: Figure, handles: Sequence[Any], size: float = 8) -> None:
    """Say below the map what the colours mean; inside it, that would hide ground."""
    figure.legend(handles=list(handles), loc="outside lower center", ncols=len(handles), fontsize=size, frameon=False)


def finish(figure: Figure, axes: Axes, grid: Grid, title: str, *, out: Path, overwrite: bool) -> None:
    """Give a figure of one map its title, coordinates, scale bar and north arrow, and write it to `out`."""
    add_map_frame(axes, grid, title)
    save(figure, out, overwrite)


def add_map_frame(axes: Axes, grid: Grid, title: str, labels: bool = True) -> None:
    """Give a map its title, coordinates, scale bar and north arrow; without `labels`, small ones and no axis names."""
    left, right, bottom, top = extent(grid)
    axes.set(xlim=(left, right), ylim=(bottom, top), aspect="equal")
    axes.set_title(title, fontsize=11 if labels else 9)
    if labels:
        local = is_local_metric(grid.crs)  # Nobody knows where its east is.
        axes.set_xlabel("x (km)" if local else "easting (km)", fontsize=9)
        axes.set_ylabel("y (km)" if local else "northing (km)", fontsize=9)
    axes.ticklabel_format(useOffset=False, style="plain")
    axes.tick_params(labelsize=8 if labels else 7)
    if not labels:
        axes.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
        axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    _add_scale_bar_and_arrow(axes, grid, labels)


def round_length(most: float) -> float:
    """The largest of 1, 2, 5 x 10^n that is at most `most`."""
    power = 10.0 ** math.floor(math.log10(most))
    return max(step * power for step in (1, 2, 5) if step * power <= most)


def log_ticks(axis: Axis) -> None:
    """Seven ticks at most on a logarithmic axis: powers of ten, with their doubles and fives where those are few."""
    low, high = sorted(axis.get_view_interval())
    powers = 10.0 ** np.arange(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1,), (1, 2, 5)):
        ticks = [float(step * power) for power in powers for step in steps if low <= step * power <= high]
        if len(ticks) >= 3:
            break
    if len(ticks) < 2:  # All values lie within a fraction of a power of ten.
        ticks = [float(value) for value in MaxNLocator(3).tick_values(low, high) if low <= value <= high]
    ticks = ticks[:: -(-len(ticks) // 7)]
    short = all(1e-3 <= value < 1e6 for value in ticks)
    names = LogFormatterSciNotation(labelOnlyBase=False, minor_thresholds=(math.inf, math.inf))
    names.axis = axis
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}" if short else names(value)))
    axis.set_minor_formatter(NullFormatter())


def save(figure: Figure, out: Path, overwrite: bool) -> None:
    """Write a figure as its name ends (.png, .svg). The same figure gives the same bytes."""
    kind = out.suffix.lstrip(".").lower()
    metadata = {"Date": None} if kind == "svg" else {}
    with (
        # With a salt, ids in an SVG follow from the figure and not from chance.
        matplotlib.rc_context({"savefig.dpi": 130, "svg.hashsalt": "landslip"}),
        atomic_write(out, overwrite) as aside,
    ):
        figure.savefig(aside, format=kind, bbox_inches="tight", pad_inches=0.1, metadata=metadata)


def _add_scale_bar_and_arrow(axes: Axes, grid: Grid, labels: bool) -> None:
    """Draw a bar of a round length at the lower left, and an arrow to the north at the upper right."""
    left, right, bottom, top = extent(grid)
    length = round_length((right - left) / 5)
    x, y = left + 0.03 * (right - left), bottom + 0.05 * (top - bottom)
    paper = {"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 1.5}  # behind text
    size = 8 if labels else 7
    axes.plot([x, x + length], [y, y], color="white", lw=5, solid_capstyle="butt")
    axes.plot([x, x + length], [y, y], color="black", lw=2.5, solid_capstyle="butt")
    text = f"{length:g} km" if length >= 1 else f"{1000 * length:g} m"
    middle = x + length / 2, y
    axes.annotate(text, middle, (0, 5), textcoords="offset points", ha="center", va="bottom", fontsize=size, bbox=paper)
    axes.annotate(
        "N", (0.965, 0.97), (0, -14 if labels else -12), xycoords="axes fraction", textcoords="offset points",
        ha="center", va="top", fontsize=size + 1,
        arrowprops={"arrowstyle": "-|>", "color": "black", "path_effects": [withStroke(linewidth=3, foreground="w")]},
        bbox=paper,
    )  # fmt: skip
