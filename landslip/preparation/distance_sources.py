"""The exact distance to the nearest river, fault or other feature, as a channel."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from landslip.config.site_tables import FileTable
from landslip.dataset.channels import Channel
from landslip.errors import SiteError, VectorError
from landslip.factors.distance import distance_down, row_gaps
from landslip.geo.grid import Grid, Window
from landslip.geo.rasterize import SQUARE, Shapes, burn_window, shapes_on
from landslip.preparation.source import FILL_COLUMNS, ChannelSource, Values
from landslip.runtime.parallel import parallel_map

if TYPE_CHECKING:
    import geopandas as gpd

FIRST_REACH = 64  # pixels beyond the site where rivers and faults are looked for first
JUDGED_NODES = 64  # along each side of the grid, from which the farthest place from any feature is judged
MOST_WIDENED_PIXELS = 4_000_000_000  # of the widened grid that distances are taken on


def distance_source(name: str, source: FileTable, grid: Grid) -> ChannelSource:
    """Exact distance in metres from each pixel's centre to that of the nearest pixel which a feature touches.

    Features outside the grid count: the grid is widened until nothing beyond it can be nearer. The gaps along its rows
    lie in a file, 4 bytes a pixel, from which distances are taken some columns at a time.
    """

    def begin(folder: Path) -> Values:
        shapes, inner = _features_around(source, grid)
        wide = shapes.grid
        strips = [Window(row, 0, SQUARE, wide.width).clip(wide.shape) for row in range(0, wide.height, SQUARE)]
        places = [slice(left, left + FILL_COLUMNS) for left in range(0, grid.width, FILL_COLUMNS)]
        path = folder / f"{name}.gaps"
        path.touch()

        def fill(strip: Window) -> None:
            gaps = row_gaps(burn_window(shapes, strip))[:, inner.column : inner.column + grid.width]
            part = np.zeros((strip.height, FILL_COLUMNS), np.int32)
            with path.open("rb+", buffering=0) as file:
                for i, place in enumerate(places):
                    part[:, : gaps[:, place].shape[1]] = gaps[:, place]
                    file.seek((i * wide.height + strip.row) * FILL_COLUMNS * part.itemsize)
                    file.write(part.data)

        for _ in parallel_map(fill, strips):
            pass

        def at(window: Window) -> NDArray[np.float32]:
            gaps_file = np.memmap(path, np.int32, "r", shape=(len(places), wide.height, FILL_COLUMNS))
            first, last = window.column // FILL_COLUMNS, (window.column + window.width - 1) // FILL_COLUMNS
            gaps = np.concatenate(list(gaps_file[first : last + 1]), axis=1)
            across = slice(window.column - first * FILL_COLUMNS, window.column - first * FILL_COLUMNS + window.width)
            down = slice(inner.row + window.row, inner.row + window.row + window.height)
            return distance_down(gaps[:, across], grid.x_size, grid.y_size)[None, down]

        return at

    resampling = {source.path.name: "none: burnt onto the grid, every pixel that is touched"}
    return ChannelSource(name, (Channel(name, name, "factor", "m"),), begin, resampling, columns=True)


def _features_around(source: FileTable, grid: Grid) -> tuple[Shapes, Window]:
    """The features that may be nearest to a pixel of the grid, on a wider grid, and the window of the grid in that.

    Raises SiteError where they are so far away that the wider grid would be too large.
    """
    from landslip.geo.vector import read_vector

    reach = FIRST_REACH
    while True:
        if (grid.height + 2 * reach) * (grid.width + 2 * reach) > MOST_WIDENED_PIXELS:
            raise SiteError(
                f"{source.path}: the nearest feature is more than {reach // 4 * grid.x_size / 1000:.0f} km from the "
                "site. Leave the layer out, or give features that are nearer."
            )
        frame = read_vector(source.path, source.layer, grid.crs, grid.pad(reach).bounds, source.crs)
        if frame.empty:
            _require_lines(source)
            reach *= 4
            continue
        needed = int(np.ceil(_farthest(frame.geometry, grid) / min(grid.x_size, grid.y_size))) + 1
        if needed <= reach:
            break
        reach = needed
    # The grid is widened as far as that, and no farther than there are features.
    left, bottom, right, top = grid.bounds
    x_first, y_first, x_last, y_last = frame.total_bounds
    beyond = (y_last - top) / grid.y_size, (left - x_first) / grid.x_size
    above, before = (int(np.clip(np.ceil(pixels), 0, needed)) + 1 for pixels in beyond)
    beyond = (bottom - y_first) / grid.y_size, (x_last - right) / grid.x_size
    below, behind = (int(np.clip(np.ceil(pixels), 0, needed)) + 1 for pixels in beyond)
    wide = grid.crop(Window(-above, -before, grid.height + above + below, grid.width + before + behind))
    return shapes_on(frame.geometry, wide, "touched"), Window(above, before, *grid.shape)


def _farthest(geometries: gpd.GeoSeries, grid: Grid) -> float:
    """A distance in metres that no pixel of the grid has more than to the nearest feature's pixel.

    The largest at JUDGED_NODES x JUDGED_NODES places, and what a pixel between them can lie farther away.
    """
    import shapely

    left, bottom, right, top = grid.bounds
    x, y = np.linspace(left, right, JUDGED_NODES), np.linspace(bottom, top, JUDGED_NODES)
    nodes = shapely.points(*(axis.ravel() for axis in np.meshgrid(x, y)))
    tree = shapely.STRtree(shapely.get_parts(geometries.to_numpy()))
    _, away = tree.query_nearest(nodes, return_distance=True, all_matches=False)
    between = np.hypot(right - left, top - bottom) / (JUDGED_NODES - 1) / 2
    return float(away.max() + between + np.hypot(grid.x_size, grid.y_size))


def _require_lines(source: FileTable) -> None:
    """Raise VectorError for a layer that holds nothing at all, anywhere."""
    from landslip.geo.vector import read_vector

    frame: gpd.GeoDataFrame = read_vector(source.path, source.layer, stated=source.crs)
    if frame.empty:
        raise VectorError(f"{source.path} holds no geometry, so no distance to it is defined. Leave the layer out.")
