"""What every section of the report uses: the run folder, figures drawn aside, files read with care, numbers as text."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np

from landslip.config.site import Site, read_site
from landslip.dataset.label import LANDSLIDE
from landslip.dataset.split import PARTS
from landslip.errors import LandslipError
from landslip.geo.geodesy import window_area
from landslip.geo.grid import Grid, tiles
from landslip.geo.raster import open_raster, read_info, read_stored_window
from landslip.geo.vector import read_vector
from landslip.inventory.previous import layer_of
from landslip.plots.cartography import MOST_DRAWN
from landslip.preparation.degrees import degree_text, to_degrees
from landslip.report.html import Block, Picture, Text, picture
from landslip.runtime import text
from landslip.runtime.run_folder import FOLDERS, PLACES, RunFolder
from landslip.runtime.text import parse_json

COUNTED_SIDE = 2048  # pixels a side of what is counted at a time
# what a damaged file of the run may end in, whichever library reads it
DAMAGE = (KeyError, TypeError, ValueError, AttributeError, IndexError, ArithmeticError, OSError, RuntimeError)

Step = Callable[[], Iterable[Block]]


@dataclass(frozen=True)
class Workspace:
    """The run folder, and a folder that figures are drawn in. What several sections need is read once."""

    run: RunFolder
    scratch: Path

    @cached_property
    def landslides(self) -> gpd.GeoDataFrame:
        """The rows of the inventory, which must be there."""
        assert self.run.inventory is not None
        return read_vector(self.run.inventory, layer_of(self.run.inventory))

    @cached_property
    def share(self) -> tuple[float, float]:
        """The share of the mapped ground that is landslide, and that ground in square metres; see `_share`."""
        return _share(self.run)

    @cached_property
    def counts(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """(4, 3) valid pixels, of them landslide and of known label: of all ground, train, validation and test."""
        return _counted(self.run)

    def name(self, path: Path) -> str:
        """A file as the report calls it: from the run folder on."""
        return path.relative_to(self.run.root).as_posix()

    def lacks(self, *names: str) -> list[Block]:
        """A line for each of these files that is not there, with the command that makes it."""
        lines = dict.fromkeys(PLACES[name][1] for name in names if not getattr(self.run, name))
        missing = {PLACES[name][1]: PLACES[name][0] for name in reversed(names) if not getattr(self.run, name)}
        return [Text(f"This run holds no {missing[line]}. It is made by: {line}", "remedy") for line in lines]

    def each(self, name: str, shown: Callable[[Path], list[Block]]) -> list[Block]:
        """What is shown of every comparison (importance, intervals), each under its folder's name where there are more.

        Where there is none, the command that makes one.
        """
        paths: tuple[Path, ...] = getattr(self.run, name)
        blocks = [] if paths else self.lacks(name)
        for path in paths:
            blocks += [Text(f"{path.parent.name}/", "head")] if len(paths) > 1 else []
            blocks += shown(path)
        return blocks

    def attempt(self, path: Path, step: Step) -> list[Block]:
        """The blocks that a step makes of a file.

        Where the file is damaged they are those made before the damage, and a line that names the file.
        """
        blocks: list[Block] = []
        try:
            for block in step():  # One by one, so that those before an error stay.
                blocks.append(block)
        except LandslipError as error:
            blocks.append(Text(str(error).replace(f"{self.run.root}/", ""), "fault"))
        except DAMAGE as error:
            why = f"no {error}" if isinstance(error, KeyError) else f"{type(error).__name__}: {str(error)[:160]}"
            blocks.append(
                Text(
                    f"{self.name(path)} is damaged, or is not what landslip writes there ({why}). Make it again.",
                    "fault",
                )
            )
        return blocks

    def draw(self, name: str, step: Callable[[Path], None], alt: str, caption: str, palette: bool = False) -> Picture:
        """A figure that `step` writes to the path it is given."""
        path = self.scratch / name
        step(path)
        return picture(path, alt, caption, palette)


def read_json_table(path: Path) -> Mapping[str, Any]:
    """A JSON file that holds a table of names; TypeError where it holds anything else."""
    value = parse_json(path.read_text(encoding="utf-8"))
    if not isinstance(value, dict):
        raise TypeError(f"a {type(value).__name__} where a table of names is due")
    return value


def read_quietly(path: Path | None) -> Mapping[str, Any]:
    """A JSON file where it can be read; its own section says so where it cannot."""
    try:
        return {} if path is None else read_json_table(path)
    except (OSError, ValueError, TypeError, RecursionError):
        return {}


def holding(workspace: Workspace, name: str, key: str) -> list[Path]:
    """The files of a name in the run's folders that hold a key, those of the run's own parts first.

    Hidden folders are left out: they hold what is half made.
    """
    paths = (path for path in workspace.run.root.glob(f"*/{name}") if not path.parent.name.startswith("."))
    holders = (path for path in paths if key in read_quietly(path))
    return sorted(holders, key=lambda path: (path.parent.name not in FOLDERS, path.parent.name))


def site_name(workspace: Workspace) -> str:
    """The site's name, by the manifest or the site file."""
    site = read_quietly(workspace.run.manifest).get("site")
    name = site.get("name") if isinstance(site, dict) else None
    if not name and (site_file := site_of(workspace)) is not None:
        name = site_file.name
    return str(name or "an unnamed site")


def site_of(workspace: Workspace) -> Site | None:
    """The site file of the run, where there is one that can be read."""
    try:
        return None if workspace.run.site is None else read_site(workspace.run.site)
    except LandslipError:
        return None


def number(value: Any) -> float:
    """A number of a JSON file, where null stands for undefined."""
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{str(value)[:40]!r} where a number is due")
    return float(value)


def figure_text(value: Any, digits: int = 4) -> str:
    """A number of a JSON file with so many digits, "undefined" for null."""
    figure = number(value)
    if math.isnan(figure):
        return "undefined"
    return f"{figure:,.0f}" if abs(figure) >= 10**digits else f"{figure:.{digits}g}"


def percent(value: Any, digits: int = 2) -> str:
    """A share of a JSON file in per cent, with so many digits after the point."""
    return text.percent(number(value), digits)


def km2(square_metres: float) -> str:
    """An area in km², or in m² where it is small."""
    if square_metres < 1e4:
        return f"{square_metres:,.0f} m²"
    return f"{square_metres / 1e6:,.{2 if square_metres < 1e8 else 1}f} km²"


def where(grid: Grid) -> str:
    """The centre and the bounds of a grid in degrees."""
    left, bottom, right, top = grid.bounds
    degrees = to_degrees(grid, [left, (left + right) / 2, right], [bottom, (bottom + top) / 2, top])
    if degrees is None:
        return "a grid of its own: where it lies is not known"
    x, y = ([degree_text(float(v), axis) for v in values] for values, axis in zip(degrees, "xy", strict=True))
    return f"{x[1]}, {y[1]} (centre); {x[0]} to {x[2]}, {y[0]} to {y[2]}"


def size_text(grid: Grid) -> str:
    """Rows, columns and the size of a pixel."""
    return f"{grid.height:,} rows x {grid.width:,} columns of {grid.x_size:g} x {grid.y_size:g} m"


def thinned(grid: Grid, most: int = MOST_DRAWN) -> str:
    """How far a map is thinned that shows at most so many pixels a side; "" where it shows all."""
    every = max(1, -(-max(grid.shape) // most))
    return "" if every == 1 else f"Of each {every} x {every} pixels one is shown."


def _share(run: RunFolder) -> tuple[float, float]:
    """The share of the mapped ground that is landslide, and that ground in square metres, true as an inventory's are.

    (NaN, 0) where no landslide map says so.
    """
    if run.landslide_map is None:
        return math.nan, 0.0
    info = read_info(run.landslide_map)
    pixels, mapped, area = 0, 0, 0.0
    with open_raster(run.landslide_map) as dataset:
        for window in tiles((info.height, info.width), COUNTED_SIDE):
            classes = read_stored_window(dataset, window)
            inside = int(np.count_nonzero(classes <= LANDSLIDE))
            pixels += int(np.count_nonzero(classes == LANDSLIDE))
            mapped += inside
            area += inside / window.area * window_area(window, info.grid) if inside else 0
    return (pixels / mapped if mapped else math.nan), area


def _counted(run: RunFolder) -> np.ndarray[Any, np.dtype[np.int64]]:
    """(4, 3) valid pixels, of them landslide and of known label: of all ground, train, validation and test."""
    assert run.valid is not None and run.label is not None
    with open_raster(run.valid) as valid, open_raster(run.label) as label:
        shape = valid.height, valid.width
        counts = np.zeros((4, 3), np.int64)
        split = None if run.split is None or read_info(run.split).grid.shape != shape else run.split
        for window in tiles(shape, COUNTED_SIDE):
            inside, classes = read_stored_window(valid, window) == 1, read_stored_window(label, window)
            masks = [inside, inside & (classes == LANDSLIDE), inside & (classes <= LANDSLIDE)]
            counts[0] += [np.count_nonzero(mask) for mask in masks]
            if split is not None:
                with open_raster(split) as parts:
                    codes = read_stored_window(parts, window)
                for i, code in enumerate(PARTS.values(), start=1):
                    counts[i] += [np.count_nonzero(mask & (codes == code)) for mask in masks]
        return counts
