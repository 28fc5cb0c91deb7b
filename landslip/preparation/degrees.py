"""Degrees along the frame of a map in any CRS, the edge of valid ground, and the sheet that maps lie on."""

from __future__ import annotations

import math
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.textpath import TextPath
from matplotlib.transforms import Bbox, TransformedBbox
from numpy.typing import ArrayLike, NDArray

from landslip.geo.geodesy import geodetic
from landslip.geo.grid import Grid
from landslip.geo.preview import read_decimated
from landslip.plots.cartography import add_map_frame, centres, extent

DEGREE_SIZE = 7  # points
TICK = 0.1  # inches that a tick takes before its degrees
SCALE_GAP, SCALE_WIDTH = 0.12, 0.13  # inches between a map, or the degrees at its right, and its scale; of the scale

STEPS = (
    *(seconds / 3600 for seconds in (1, 2, 5, 10, 20, 30)),
    *(minutes / 60 for minutes in (1, 2, 5, 10, 20, 30)),
    *(1, 2, 5, 10, 20, 30, 45),
)  # degrees, minutes and seconds that are round
AIRY = 1.3  # of its width: what a text of degrees takes with the gap to the next


def room_beside(figure: Figure, axes: Axes, latitudes: Sequence[tuple[float, str]], foot: float = 0.0) -> Axes:
    """Axes for a scale at the right of a map, beyond the latitudes that are written there.

    They leave out `foot`, a share of the map's height, below and above.
    """
    away = max((TICK + _inches(text) for _, text in latitudes), default=0.0) + SCALE_GAP

    def place(*_: Any) -> Any:
        # Asked for anew whenever the figure is drawn: the layout moves the map, whose aspect is fixed.
        inch, ground = figure.dpi, axes.bbox
        up = foot * ground.height
        box = Bbox.from_bounds(ground.x1 + away * inch, ground.y0 + up, SCALE_WIDTH * inch, ground.height - 2 * up)
        return TransformedBbox(box, figure.transFigure.inverted())

    beside = axes.inset_axes((0, 0, 1, 1))
    beside.set_axes_locator(place)
    return beside


def thinned_valid(prepared: Path, most: int) -> NDArray[np.bool_]:
    """Where ground is valid, (H, W) bool, thinned to `most` pixels a side as any raster of the site is."""
    return np.asarray(read_decimated(prepared / "valid.tif", [1], most, stored=True)[0][0] == 1)


def draw_edge(axes: Axes, edge: NDArray[np.bool_], grid: Grid, width: float = 0.9) -> list[Line2D | Patch]:
    """The edge of valid ground, black on white; nothing where all of the rectangle is valid."""
    if edge.all():
        return []
    inside = np.pad(edge.astype(np.float32), 1)  # So that an edge at the rim is drawn too.
    x, y = centres(grid)
    x, y = (np.concatenate([[2 * a[0] - a[1]], a, [2 * a[-1] - a[-2]]]) if len(a) > 1 else a for a in (x, y))
    if inside.shape != (len(y), len(x)):
        return []
    axes.contour(x, y, inside, [0.5], colors="white", linewidths=2.2 * width)
    axes.contour(x, y, inside, [0.5], colors="black", linewidths=width)
    return [Line2D([], [], color="black", lw=0.9, label="edge of valid ground")]


def dress_with_degrees(axes: Axes, grid: Grid, title: str, size: tuple[float, float]) -> None:
    """Give a map its frame in kilometres left and below, degrees right and above, and a title.

    `size` is the map's width and height in inches, which say how many degrees can stand at its sides.
    """
    add_map_frame(axes, grid, title)
    left, right, bottom, top = extent(grid)
    for place, ticks in (("top", degree_ticks(grid, "x", size[0])), ("right", degree_ticks(grid, "y", size[1]))):
        if not ticks:
            continue
        twin = axes.secondary_xaxis("top") if place == "top" else axes.secondary_yaxis("right")
        at, names = zip(*ticks, strict=True)
        (twin.set_xticks if place == "top" else twin.set_yticks)(at, names, fontsize=DEGREE_SIZE)
    axes.set(xlim=(left, right), ylim=(bottom, top))


def to_degrees(grid: Grid, x: ArrayLike, y: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """(longitude, latitude) in degrees on the grid's own body, of coordinates in its CRS; None where not defined."""
    pair = geodetic(grid.crs, np.asarray(x, float), np.asarray(y, float))
    return pair if pair is not None and all(np.isfinite(values).all() for values in pair) else None


def degree_ticks(grid: Grid, axis: str, inches: float = math.inf) -> list[tuple[float, str]]:
    """(kilometres, text) of round degrees along the upper edge ("x", longitude) or the right edge ("y", latitude).

    Seven at most, and no more than can be read side by side along so many inches; one where no two can.
    """
    left, bottom, right, top = grid.bounds
    along = np.linspace(left, right, 201) if axis == "x" else np.linspace(bottom, top, 201)
    pair = to_degrees(grid, along, np.full(201, top)) if axis == "x" else to_degrees(grid, np.full(201, right), along)
    if pair is None:
        return []
    degrees = pair[0 if axis == "x" else 1]
    if not (np.diff(degrees) > 0).all():  # The map holds the pole or the 180th meridian.
        return []
    span, ticks = float(degrees[-1] - degrees[0]), list[tuple[float, str]]()
    for step in (step for step in STEPS if step >= span / 6 or step == STEPS[-1]):
        first = math.ceil(degrees[0] / step - 1e-9)
        round_degrees = [i * step for i in range(first, first + 12) if i * step <= degrees[-1]]
        finer, ticks = (
            ticks,
            [(float(np.interp(d, degrees, along)) / 1000, degree_text(d, axis, step)) for d in round_degrees],
        )
        needed = max((_inches(text) if axis == "x" else DEGREE_SIZE / 72 for _, text in ticks), default=0.0)
        if len(ticks) < 2 or AIRY * needed <= inches * step / span:
            # Along a short edge no tick may be as round as this: then one of the finer ticks stands alone.
            return ticks or finer[len(finer) // 2 :][:1]
    return ticks[:1]


def degree_text(degrees: float, axis: str, step: float = 1 / 3600) -> str:
    """Degrees as people write them, to whole degrees, minutes or seconds as `step` asks: 110°40'E."""
    letter = ("E" if degrees >= 0 else "W") if axis == "x" else ("N" if degrees >= 0 else "S")
    seconds = round(abs(degrees) * 3600)
    text, minutes = f"{seconds // 3600}°", seconds // 60 % 60
    if step < 1:
        text += f"{minutes:02d}'"
    if step < 1 / 60:
        text += f'{seconds % 60:02d}"'
    return text + letter


def map_sheet(grid: Grid, rows: int, columns: int, width: float) -> tuple[Figure, list[Axes], tuple[float, float]]:
    """A figure of rows x columns maps, its axes, and about the width and height that one map takes, inches.

    `width` is the figure's, in inches; beside each map there is room for a scale and coordinates.
    """
    map_width = width / columns - 1.4
    height = max(2.6, min(2.0 * width, rows * (map_width * grid.height / grid.width + 0.75) + 0.6))
    figure = Figure(figsize=(width, height), layout="compressed")
    map_width = min(map_width, ((height - 0.6) / rows - 0.75) * grid.width / grid.height)
    size = map_width, map_width * grid.height / grid.width
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat), size


def panel_letters(i: int) -> str:
    """The letter of panel `i`, counted from 0: a to z, then numbers."""
    return string.ascii_lowercase[i] if i < 26 else str(i + 1)


def lettered(letter: str, title: str) -> str:
    """A title with its panel's letter before it, where it has one."""
    return f"({letter}) {title}" if letter else title


def _inches(text: str) -> float:
    """The width of a text of degrees, inches."""
    return float(TextPath((0, 0), text, size=DEGREE_SIZE).get_extents().width) / 72 if text else 0.0
