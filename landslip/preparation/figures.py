"""Figures of a prepared site: its study area and a map of every factor (Figs. 1 and 2 of the paper).

Also the areas of an inventory. Whatever the size of the rasters, a figure is drawn from at most 1,400 pixels a side.
"""

from __future__ import annotations

import math
import string
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import ArrayLike, NDArray

from landslip.dataset.channels import Channel, StackInfo, read_stack_info
from landslip.dataset.label import LANDSLIDE
from landslip.factors.table import title_of
from landslip.geo.grid import Grid
from landslip.geo.preview import read_decimated, stretch
from landslip.metrics.size_distribution import Tail
from landslip.plots.cartography import (
    MOST_DRAWN,
    add_legend,
    add_map_frame,
    centres,
    draw_overlay,
    draw_relief,
    extent,
    log_ticks,
    save,
    shade_of,
    stretched,
)
from landslip.plots.class_maps import class_of, direction_of, eighth
from landslip.plots.curves import draw_tail
from landslip.plots.palette import (
    DIRECTIONS,
    DIVERGING,
    FLAT_COLOUR,
    LANDSLIDES,
    RAMP,
    RAMPS,
    REFERENCE,
    UNDEFINED,
    class_colour,
    directions,
)
from landslip.plots.qgis_style import FALSE_COLOUR, TRUE_COLOUR
from landslip.preparation.degrees import (
    degree_ticks,
    draw_edge,
    dress_with_degrees,
    lettered,
    map_sheet,
    panel_letters,
    room_beside,
    thinned_valid,
)
from landslip.runtime.run_folder import FACTOR_SHEET, FIGURES, STUDY_AREA

SMALL_MAP = 700  # pixels a side of one map among many
MOST_NAMED, NAMED_HEIGHT = 12, 0.14  # classes that a scale names at most; inches that each name takes


@dataclass(frozen=True, kw_only=True)
class _FactorMap:
    """One map of a factor: values (H, W) in a ramp of colours, with their unit, or codes of classes in colours.

    `even` where the ramp is to run evenly about 0.
    """

    title: str
    values: NDArray[np.float32]
    classes: tuple[str, ...] = ()
    colours: tuple[str, ...] = ()
    unit: str = ""
    ramp: str = RAMP
    even: bool = False


def draw_study_area(prepared: Path, out: Path, overwrite: bool = False) -> None:
    """Draw the image, and the relief in tints of elevation with the landslides, both with the edge of valid ground.

    Coordinates of the grid are left and below, degrees of its own body right and above. Without bands or without
    elevation the other map stands alone; landslides are drawn, and named, where there are any. Raises what reading the
    stack, valid.tif and label.tif raises.
    """
    stack = read_stack_info(prepared / "stack.tif")
    names = [channel.name for channel in stack.channels]
    bands = _composite(stack)
    wide = stack.grid.width > 1.25 * stack.grid.height
    count = int(bool(bands)) + int("elevation" in names or not bands)
    rows, columns = (count, 1) if wide else (1, count)
    figure, panels, size = map_sheet(stack.grid, rows, columns, 9.0)
    letters = iter(string.ascii_lowercase if count > 1 else [""])
    edge = thinned_valid(prepared, MOST_DRAWN)
    handles: list[Line2D | Patch] = []
    if bands:
        axes = panels.pop(0)
        values, grid = read_decimated(stack.path, [names.index(name) + 1 for name in bands], MOST_DRAWN)
        axes.imshow(stretched(values), extent=extent(grid))
        handles = draw_edge(axes, edge, grid)
        dress_with_degrees(axes, grid, lettered(next(letters), f"image: {', '.join(dict.fromkeys(bands))}"), size)
    if panels:
        axes = panels.pop(0)
        label, grid = read_decimated(prepared / "label.tif", [1], MOST_DRAWN, stored=True)
        if "elevation" in names:
            _tinted(figure, axes, stack, grid, size)
        else:
            draw_relief(axes, stack.path, grid)
        slide = label[0] == LANDSLIDE
        handles = draw_edge(axes, edge, grid)
        if slide.any():
            draw_overlay(axes, slide, LANDSLIDES, grid)
            if min(slide.shape) > 1:  # The edge tells landslides from a tint that is as grey as their colour.
                axes.contour(*centres(grid), slide, [0.5], colors="black", linewidths=0.5)
            handles.append(Patch(facecolor=LANDSLIDES, edgecolor="black", lw=0.5, label="landslide, as drawn"))
        ground = "relief" if "elevation" in names else "valid ground"
        title = f"{ground} and landslides" if slide.any() else ground
        dress_with_degrees(axes, grid, lettered(next(letters), title), size)
    add_legend(figure, handles)
    save(figure, out, overwrite)


def study_area_parts(stack: StackInfo, landslides: bool) -> list[str]:
    """What `draw_study_area` shows of a site that has, or has not, landslides on its valid ground, in words."""
    parts = ["image"] if _composite(stack) else []
    parts += ["relief in tints of elevation"] if "elevation" in [channel.name for channel in stack.channels] else []
    return [*parts, *["landslides as drawn"] * landslides] or ["valid ground"]


def factor_names(stack: StackInfo) -> list[str]:
    """The factors of a stack in its order; its bands where it has no factor."""
    factors = list(dict.fromkeys(channel.factor for channel in stack.channels if channel.group == "factor"))
    return factors or list(dict.fromkeys(channel.factor for channel in stack.channels))


def draw_factors(prepared: Path, out: Path, overwrite: bool = False, each: bool = False) -> None:
    """Draw a map of every factor, lettered, each with its scale; aspect and class factors as classes.

    Scales run from the 2nd to the 98th percentile, evenly about 0 where the sign matters; their pointed ends stand for
    what lies beyond. Grey is undefined, the line is the edge of valid ground. With `each`, a picture of every factor is
    drawn too, beside `out` and in its format (`_factor_picture`).
    """
    stack = read_stack_info(prepared / "stack.tif")
    names = factor_names(stack)
    columns = min(len(names), 2 if stack.grid.width > 1.8 * stack.grid.height else 3)
    figure, panels, size = map_sheet(stack.grid, -(-len(names) // columns), columns, 12.0)
    most = SMALL_MAP if len(names) > 2 else MOST_DRAWN
    edge = thinned_valid(prepared, MOST_DRAWN if each else most)
    handles: list[Line2D | Patch] = []
    for i, (axes, name) in enumerate(zip(panels, names, strict=False)):
        layer, grid = _layer(stack, name, MOST_DRAWN if each else most)
        if each:
            _draw_layer(layer, grid, edge, _factor_picture(out, name), overwrite)
            thin = -(-max(layer.values.shape) // most)
            layer = replace(layer, values=layer.values[::thin, ::thin])
        _show(figure, axes, layer, grid, height=size[1])
        handles = draw_edge(axes, edge, grid, 0.6)
        add_map_frame(axes, grid, lettered(panel_letters(i), layer.title), labels=False)
    for axes in panels[len(names) :]:
        axes.set_axis_off()
    if handles:
        add_legend(figure, handles)
    save(figure, out, overwrite)


def draw_prepared(prepared: Path, overwrite: bool = False) -> Path:
    """Draw a prepared site into its folder `figures`: study_area.png, factors.png and factor_NAME.png for each factor.

    They are the paper's Figs. 1 and 2. Returns the folder. Raises what `draw_study_area` and `draw_factors` raise.
    """
    folder = prepared / FIGURES
    draw_study_area(prepared, folder / STUDY_AREA, overwrite)
    draw_factors(prepared, folder / FACTOR_SHEET, overwrite, each=True)
    return folder


def draw_inventory_areas(areas: ArrayLike, tail: Tail, out: Path, overwrite: bool = False) -> None:
    """Draw the frequency density of an inventory's areas with its power-law tail, and how many are as large or larger.

    `areas` are (N,), square metres. Bins are a fifth of a power of ten wide; bars are 1 sigma of counts.
    """
    ordered = np.sort(np.asarray(areas, np.float64))
    figure = Figure(figsize=(9.5, 3.9), layout="constrained")
    density, larger = figure.subplots(1, 2)
    low, high = math.floor(5 * math.log10(ordered[0])), math.floor(5 * math.log10(ordered[-1])) + 1
    edges = 10.0 ** (np.arange(low, high + 1) / 5)
    counts = np.histogram(ordered, edges)[0].astype(float)
    some, width = counts > 0, np.diff(edges)
    middle, scale = np.sqrt(edges[:-1] * edges[1:])[some], (width * len(ordered))[some]
    off = np.minimum(np.sqrt(counts[some]), 0.9 * counts[some]) / scale
    density.errorbar(
        middle, counts[some] / scale, off, color=LANDSLIDES, marker="s", ms=4, lw=0.8, ls="", capsize=2,
        label=f"{len(ordered):,} landslides",
    )  # fmt: skip
    draw_tail(density, tail, len(ordered), float(ordered[-1]), colour=REFERENCE, name="tail")
    density.set(xscale="log", yscale="log", xlabel="landslide area (m²)", ylabel="frequency density (1/m²)")
    density.legend(fontsize=8)
    larger.step(ordered, len(ordered) - np.arange(len(ordered)), where="pre", color=LANDSLIDES, lw=1.6)
    larger.set(xscale="log", yscale="log", xlabel="landslide area (m²)", ylabel="landslides as large or larger")
    for axes in (density, larger):
        log_ticks(axes.xaxis)
        log_ticks(axes.yaxis)
        axes.grid(alpha=0.3)
        axes.tick_params(labelsize=8)
    save(figure, out, overwrite)


def _factor_picture(sheet: Path, factor: str) -> Path:
    """Where `draw_factors` puts the picture of one factor, beside the sheet of all."""
    return sheet.with_name(f"factor_{factor}{sheet.suffix}")


def _composite(stack: StackInfo) -> list[str]:
    """Three bands that make an image: true or false colour, else one in grey; none without bands."""
    bands = [channel.name for channel in stack.channels if channel.group == "band"]
    for colours in (TRUE_COLOUR, FALSE_COLOUR):
        if all(name in bands for name in colours):
            return list(colours)
    return [name for name in bands if name in ("gray", "grey", "pan")][:1] * 3 or bands[:1] * 3


def _tinted(figure: Figure, axes: Axes, stack: StackInfo, grid: Grid, size: tuple[float, float]) -> None:
    """Elevation in tints that darken downwards, shaded; the scale beside it."""
    position = [channel.name for channel in stack.channels].index("elevation")
    z, _ = read_decimated(stack.path, [position + 1], MOST_DRAWN)
    low, high = stretch(z[0])
    tints = ListedColormap(matplotlib.colormaps[RAMPS["elevation"]](np.linspace(0.25, 1, 256)))
    norm = matplotlib.colors.Normalize(low, high)
    colour = tints(norm(np.nan_to_num(z[0], nan=low)))
    shade = shade_of(stack.path, grid)
    if shade is not None:
        colour[..., :3] *= np.clip(0.45 + 0.78 * np.nan_to_num(shade, nan=0.7), 0, 1)[..., None]
    colour[..., 3] = ~np.isnan(z[0])
    axes.set_facecolor(UNDEFINED)
    axes.imshow(colour.astype(np.float32), extent=extent(grid))
    beside = room_beside(figure, axes, degree_ticks(grid, "y", size[1]), 0.1)
    scale = figure.colorbar(matplotlib.cm.ScalarMappable(norm, tints), cax=beside, extend="both")
    scale.set_label("elevation (m)", fontsize=9)
    scale.ax.tick_params(labelsize=8)


def _draw_layer(layer: _FactorMap, grid: Grid, edge: NDArray[np.bool_], out: Path, overwrite: bool) -> None:
    """Draw one factor into a picture of its own, with degrees at its sides."""
    figure, (axes,), size = map_sheet(grid, 1, 1, 9.0)
    _show(figure, axes, layer, grid, height=size[1], latitudes=degree_ticks(grid, "y", size[1]))
    handles = draw_edge(axes, edge, grid)
    dress_with_degrees(axes, grid, layer.title, size)
    if handles:
        add_legend(figure, handles)
    save(figure, out, overwrite)


def _layer(stack: StackInfo, factor: str, most: int) -> tuple[_FactorMap, Grid]:
    """The map of a factor, thinned to `most` pixels a side, and its grid."""
    positions = [i for i, channel in enumerate(stack.channels) if channel.factor == factor]
    channels: list[Channel] = [stack.channels[i] for i in positions]
    values, grid = read_decimated(stack.path, [i + 1 for i in positions], most)
    title = title_of(factor)
    kinds = {channel.kind for channel in channels}
    if kinds == {"sine", "cosine"} or (factor == "aspect" and channels[0].unit == "degree"):
        order = [[channel.kind for channel in channels].index(kind) for kind in ("sine", "cosine") if kind in kinds]
        sector = direction_of(values[order]) if order else eighth(values[0])
        sectors, sector_colours = ("flat", *DIRECTIONS), (FLAT_COLOUR, *directions())
        return _FactorMap(title=title, values=sector, classes=sectors, colours=sector_colours), grid
    if kinds == {"class"}:
        classes = tuple(channel.name.removeprefix(f"{factor}_").replace("_", " ") for channel in channels)
        colours = tuple(map(class_colour, range(len(classes))))
        return _FactorMap(title=title, values=class_of(values), classes=classes, colours=colours), grid
    if channels[0].unit == "class":  # The paper's encoding: one channel of ordinals, which have no names.
        ordinals = np.unique(values[0][~np.isnan(values[0])])
        codes = np.searchsorted(ordinals, values[0]).astype(np.float32)
        codes[np.isnan(values[0])] = np.nan
        classes = tuple(f"{ordinal:g}" for ordinal in ordinals)
        colours = tuple(map(class_colour, range(len(classes))))
        return _FactorMap(title=title, values=codes, classes=classes, colours=colours), grid
    unit, ramp = channels[0].unit, RAMPS.get(factor, RAMP)
    return _FactorMap(title=title, values=values[0], unit=unit, ramp=ramp, even=factor in DIVERGING), grid


def _show(
    figure: Figure,
    axes: Axes,
    layer: _FactorMap,
    grid: Grid,
    *,
    height: float,
    latitudes: Sequence[tuple[float, str]] = (),
) -> None:
    """A factor, `height` inches high, with its scale at the right, beyond the latitudes that are written there."""
    axes.set_facecolor(UNDEFINED)
    if np.isnan(layer.values).all():
        axes.text(0.5, 0.5, "undefined", transform=axes.transAxes, ha="center")
        return
    beside = room_beside(figure, axes, latitudes)
    if layer.classes:
        count = len(layer.classes)
        image = axes.imshow(
            layer.values, extent=extent(grid), cmap=ListedColormap(layer.colours), vmin=-0.5, vmax=count - 0.5,
            interpolation="nearest",
        )  # fmt: skip
        scale = figure.colorbar(image, cax=beside)
        step = -(-count // max(1, min(MOST_NAMED, int(height / NAMED_HEIGHT))))
        scale.set_ticks(list(range(0, count, step)), labels=[_folded(name) for name in layer.classes[::step]])
        scale.ax.minorticks_off()
    else:
        low, high = stretch(layer.values)
        if layer.even:
            low, high = -max(-low, high), max(-low, high)
        image = axes.imshow(layer.values, extent=extent(grid), cmap=layer.ramp, vmin=low, vmax=high)
        scale = figure.colorbar(image, cax=beside, extend="both")
        unit = "°" if layer.unit == "degree" else layer.unit
        if unit and unit != "stored":
            scale.ax.set_title(unit, fontsize=7, pad=8)
    scale.ax.tick_params(labelsize=7)


def _folded(name: str) -> str:
    """A class's name on two lines where it is long, each at most 18 letters long."""
    words = name.split(" ")
    if len(name) <= 10 or len(words) < 2:
        return name if len(name) <= 18 else name[:17] + "…"
    half = min(range(1, len(words)), key=lambda i: abs(len(" ".join(words[:i])) - len(" ".join(words[i:]))))
    return "\n".join(
        line if len(line) <= 18 else line[:17] + "…" for line in (" ".join(words[:half]), " ".join(words[half:]))
    )
