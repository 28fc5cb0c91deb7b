"""Degrees along the frame of a map in any CRS, and the sheet that maps lie on."""

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
AIRY = 1.3  # ways that a text of degrees takes, with the gap to the next


def room_beside(figure: Figure, axes: Axes, latitudes: Sequence[tuple[float, str]], foot: float = 0.0) -> Axes:
    """Axes for a scale at the right of a map, beyond the latitudes written there; from `foot` of its height up."""
    away = max((TICK + _inches(text) for _, text in latitudes), default=0.0) + SCALE_GAP

    def place(*_: Any) -> Any:
        inch, ground = figure.dpi, axes.bbox  # as the map lies when it is drawn: its aspect is fixed, the layout is not
        up = foot * ground.height
        box = Bbox.from_bounds(ground.x1 + away * inch, ground.y0 + up, SCALE_WIDTH * inch, ground.height - 2 * up)
        return TransformedBbox(box, figure.transFigure.inverted())

    beside = axes.inset_axes((0, 0, 1, 1))
    beside.set_axes_locator(place)
    return beside


def draw_edge(prepared: Path, most: int) -> NDArray[np.bool_]:
    """Valid ground (H, W), thinned as any raster of the site is to `most` pixels a side."""
    return np.asarray(read_decimated(prepared / "valid.tif", [1], most, stored=True)[0][0] == 1)


def outline(axes: Axes, edge: NDArray[np.bool_], grid: Grid, width: float = 0.9) -> list[Line2D | Patch]:
    """The edge of valid ground, black on white; nothing where all of the rectangle is valid."""
    if edge.all():
        return []
    inside = np.pad(edge.astype(np.float32), 1)  # so that an edge at the rim is drawn too
    x, y = centres(grid)
    x, y = (np.concatenate([[2 * a[0] - a[1]], a, [2 * a[-1] - a[-2]]]) if len(a) > 1 else a for a in (x, y))
    if inside.shape != (len(y), len(x)):
        return []
    axes.contour(x, y, inside, [0.5], colors="white", linewidths=2.2 * width)
    axes.contour(x, y, inside, [0.5], colors="black", linewidths=width)
    return [Line2D([], [], color="black", lw=0.9, label="edge of valid ground")]


def dress_with_degrees(axes: Axes, grid: Grid, title: str, size: tuple[float, float]) -> None:
    """`size`: the map's width and height in inches, which say how many degrees can stand at its sides."""
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
    found = geodetic(grid.crs, np.asarray(x, float), np.asarray(y, float))
    return found if found is not None and all(np.isfinite(values).all() for values in found) else None


def degree_ticks(grid: Grid, axis: str, inches: float = math.inf) -> list[tuple[float, str]]:
    """(kilometres, text) of round degrees along the upper edge ("x", longitude) or the right edge ("y", latitude).

    Seven at most, and no more than can be read side by side along so many inches; one where no two can.
    """
    left, bottom, right, top = grid.bounds
    along = np.linspace(left, right, 201) if axis == "x" else np.linspace(bottom, top, 201)
    found = to_degrees(grid, along, np.full(201, top)) if axis == "x" else to_degrees(grid, np.full(201, right), along)
    if found is None:
        return []
    degrees = found[0 if axis == "x" else 1]
    if not (np.diff(degrees) > 0).all():  # the map holds the pole or the 180th meridian
        return []
    span, ticks = float(degrees[-1] - degrees[0]), list[tuple[float, str]]()
    for step in (step for step in STEPS if step >= span / 6 or step == STEPS[-1]):
        first = math.ceil(degrees[0] / step - 1e-9)
        wanted = [i * step for i in range(first, first + 12) if i * step <= degrees[-1]]
        finer, ticks = ticks, [(float(np.interp(d, degrees, along)) / 1000, degree_text(d, axis, step)) for d in wanted]
        needed = max((_inches(text) if axis == "x" else DEGREE_SIZE / 72 for _, text in ticks), default=0.0)
        if len(ticks) < 2 or AIRY * needed <= inches * step / span:
            return ticks or finer[len(finer) // 2 :][:1]  # none is as round within so short a way
    return ticks[:1]


def degree_text(degrees: float, axis: str, step: float = 1 / 3600) -> str:
    """Degrees as people write them, to whole degrees, minutes or seconds as `step` asks: 110°40'E."""
    letter = ("E" if degrees >= 0 else "W") if axis == "x" else ("N" if degrees >= 0 else "S")
    seconds = round(abs(degrees) * 3600)
    whole, minutes, rest = seconds // 3600, seconds // 60 % 60, seconds % 60
    text = f"{whole}°"
    if step < 1:
        text += f"{minutes:02d}'"
    if step < 1 / 60:
        text += f'{rest:02d}"'
    return text + letter


def map_sheet(grid: Grid, rows: int, columns: int, width: float) -> tuple[Figure, list[Axes], tuple[float, float]]:
    """A figure of rows x columns maps with room for scales and coordinates; and about the inches that one map takes."""
    one = width / columns - 1.4
    height = max(2.6, min(2.0 * width, rows * (one * grid.height / grid.width + 0.75) + 0.6))
    figure = Figure(figsize=(width, height), layout="compressed")
    one = min(one, ((height - 0.6) / rows - 0.75) * grid.width / grid.height)
    size = one, one * grid.height / grid.width
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat), size


def panel_letters(i: int) -> str:
    return string.ascii_lowercase[i] if i < 26 else str(i + 1)


def lettered(letter: str, title: str) -> str:
    return f"({letter}) {title}" if letter else title


def _inches(text: str) -> float:
    """The width of a text of degrees."""
    return float(TextPath((0, 0), text, size=DEGREE_SIZE).get_extents().width) / 72 if text else 0.0
