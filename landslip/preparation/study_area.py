"""The study area of a site: which pixels of its grid lie inside the outline, and how many they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from landslip.config.site_tables import FileTable
from landslip.geo.grid import Grid, Window, tiles
from landslip.geo.rasterize import burn_window, shapes_on
from landslip.preparation.site_grid import read_outline
from landslip.preparation.source import FILL_WINDOW
from landslip.runtime.parallel import parallel_map

Inside = Callable[[Window], NDArray[np.bool_]]  # the pixels of a window, (h, w), that lie inside the outline


@dataclass(frozen=True)
class StudyArea:
    """A site's grid, a function that says which of its pixels lie inside the outline, and the number of those."""

    grid: Grid
    inside: Inside
    pixels: int


def study_area_of(outline: FileTable | None, grid: Grid) -> StudyArea:
    """The part of a grid that lies inside an outline; all of it without one. Raises what reading the outline does."""
    inside = inside_of(outline, grid)
    if outline is None:
        return StudyArea(grid, inside, grid.height * grid.width)
    counts = parallel_map(lambda window: int(np.count_nonzero(inside(window))), tiles(grid.shape, FILL_WINDOW))
    return StudyArea(grid, inside, sum(counts))


def inside_of(outline: FileTable | None, grid: Grid) -> Inside:
    """Which pixels of a grid lie inside an outline; all of them without one. Raises what reading the outline does."""
    if outline is None:
        return _everywhere
    return partial(burn_window, shapes_on(read_outline(outline, grid.crs).geometry, grid))


def _everywhere(window: Window) -> NDArray[np.bool_]:
    """That all pixels of a window, (h, w), lie inside, as where there is no outline."""
    return np.ones((window.height, window.width), bool)
