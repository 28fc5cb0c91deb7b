"""Channels from the DEM: elevation, slope, curvature, aspect, and the distance to rivers that are derived from it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from landslip.config.site_tables import DemTable, FileTable, RiversTable
from landslip.dataset.channels import Channel, factor_channel
from landslip.errors import SiteError
from landslip.factors.distance import distance
from landslip.factors.hydrology import rivers_from_elevation
from landslip.factors.relief import position, relief, roughness
from landslip.factors.terrain import aspect_from, surfaces
from landslip.geo.grid import Grid, Window, metric_fault
from landslip.geo.raster import read_info
from landslip.geo.warp import (
    MOST_AT_ONCE,
    covering_window,
    default_grid,
    how_resampled,
    in_quarters,
    lies_on,
    needed_window,
    warp,
    warp_array,
)
from landslip.preparation.distance_sources import distance_source
from landslip.preparation.site_grid import require_size
from landslip.preparation.source import ChannelSource, Encoding, Values

RELATIVE_TO = 64  # pixels of the DEM around one, whose mean elevation its own is taken relative to
RIVER_BYTES = 48  # of memory for each DEM pixel while rivers are derived


def dem_grid(dem: DemTable, grid: Grid, halo: int = 0) -> Grid:
    """The metric grid that terrain is computed on, which covers `grid` and `halo` pixels more on each side.

    It has the DEM's own pixels, as far as they reach, where its CRS is in metres and the site gives no
    `dem_resolution`. Else it has pixels of that size, or of about the DEM's own, in the CRS of `grid`. Raises SiteError
    where the DEM and `grid` do not meet.
    """
    info = read_info(dem.path)
    keeps_pixels = metric_fault(info.crs) is None and dem.dem_resolution is None
    window = covering_window(info, grid, halo if keeps_pixels else 0)
    if window.height == 0 or window.width == 0:
        raise SiteError(f"{dem.path} does not overlap the site ({grid.describe()}). Check its CRS.")
    if keeps_pixels:
        return info.grid.crop(window)
    size = dem.dem_resolution or default_grid(info, grid.crs, None).x_size
    left, bottom, right, top = grid.bounds
    height, width = int(np.ceil((top - bottom) / size)), int(np.ceil((right - left) / size))
    around = Grid(grid.crs, Affine(size, 0, left, 0, -size, top), height, width).pad(halo)
    require_size(around, f"{dem.path} at {size:g} m", "Give a coarser [dem] dem_resolution.")
    return around


def read_dem(dem: DemTable, part: Grid) -> NDArray[np.float32]:
    """Elevation in metres, (H, W), on a part of the DEM's metric grid, or beyond it; cubic where it is resampled."""
    return np.asarray(warp(dem.path, part, [1], "cubic", dem.nodata)[0] * np.float32(dem.scale))


def terrain_source(dem: DemTable, grid: Grid, encoding: Encoding) -> ChannelSource:
    """Elevation, slope, curvature and aspect, taken at the DEM's resolution and brought to `grid`."""
    channels = [
        *map(factor_channel, ("elevation", "slope", "curvature")),
        *(factor_channel(f"{kind}_curvature") for kind in dem.curvatures),
    ]
    names = [channel.name for channel in channels[1:]] + ["aspect_sin", "aspect_cos"]
    if encoding == "planes":
        channels.append(Channel("aspect_sin", "aspect", "factor", "", "sine"))
        channels.append(Channel("aspect_cos", "aspect", "factor", "", "cosine"))
    else:
        channels.append(Channel("aspect", "aspect", "factor", "degree"))
    native = dem_grid(dem, grid)

    def planes(z: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.concatenate([z[None], surfaces(z, native.x_size, native.y_size, names, edges=dem.edges)])

    on_dem = _taken_on_dem(dem, native, grid, planes, planes_held=len(names), halo=1)

    def at(window: Window) -> NDArray[np.float32]:
        values = on_dem(window)
        if encoding == "paper":
            values = np.concatenate([values[:-2], aspect_from(values[-2], values[-1])[None]])
        return np.asarray(values)

    return ChannelSource("terrain", tuple(channels), lambda _: at, {dem.path.name: _resampling(dem, native, grid)})


def relief_factors(dem: DemTable) -> list[str]:
    """The factors of `relief_source` that a site asks for, in the order of its planes."""
    names = ["relative_elevation"] if dem.relative_elevation else []
    for side in dem.scales:
        names += [f"position_{side}", f"relief_{side}", f"roughness_{side}"]
        names += [f"aspect_sin_range_{side}", f"aspect_cos_range_{side}"]
    return names


def relief_source(dem: DemTable, grid: Grid) -> ChannelSource:
    """Relative elevation, and position, relief, roughness and the range of aspect at each scale, as the site asks.

    They are taken from the pixels of the DEM that are there, so that none is undefined where its slope is not.
    """
    native, names = dem_grid(dem, grid), relief_factors(dem)
    halo = max([RELATIVE_TO if dem.relative_elevation else 0, *(side // 2 + 1 for side in dem.scales)])

    def planes(z: NDArray[np.float32]) -> NDArray[np.float32]:
        made = [position(z, 2 * RELATIVE_TO + 1)] if dem.relative_elevation else []
        wanted = ["slope", "aspect_sin", "aspect_cos"] if dem.scales else []
        slopes = surfaces(z, native.x_size, native.y_size, wanted, edges=dem.edges)
        for side in dem.scales:
            slope, sine, cosine = slopes
            made += [position(z, side), relief(z, side), roughness(slope, side), relief(sine, side)]
            made.append(relief(cosine, side))
        return np.stack(made)

    at = _taken_on_dem(dem, native, grid, planes, planes_held=len(names) + 6, halo=halo)
    return ChannelSource(
        "relief", tuple(map(factor_channel, names)), lambda _: at, {dem.path.name: _resampling(dem, native, grid)}
    )


def _taken_on_dem(
    dem: DemTable,
    native: Grid,
    grid: Grid,
    planes: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    *,
    planes_held: int,
    halo: int,
) -> Values:
    """What `planes` makes of elevation on the DEM's own grid, brought to windows of `grid`.

    `planes` is given (H, W) elevation with `halo` pixels more on each side and returns (N, H, W); so many `planes_held`
    are in memory at once.
    """

    def at(window: Window) -> NDArray[np.float32]:
        part = grid.crop(window)
        place = needed_window(native, part)
        if place.area > MOST_AT_ONCE // planes_held and window.area > 1:
            return in_quarters(lambda part: at(part.moved(window.row, window.column)), part.shape)
        needed = native.crop(place)
        values = planes(read_dem(dem, needed.pad(halo)))[:, halo:-halo, halo:-halo]
        return warp_array(values, needed, part)

    return at


def _resampling(dem: DemTable, native: Grid, grid: Grid) -> str:
    """How terrain is brought from the DEM to the grid, in words."""
    if lies_on(dem.path, native):
        return how_resampled(dem.path, grid, "bilinear, after slopes")
    return f"cubic to {native.x_size:g} m before slopes, bilinear after"


def catchment_grid(dem: DemTable, grid: Grid) -> Grid:
    """The DEM's metric grid that rivers on `grid` are derived on, all at once, at RIVER_BYTES of memory a pixel.

    It reaches beyond the site by half its size on each side, as far as the DEM does, because water comes from there.
    """
    margin = max(grid.height * grid.y_size, grid.width * grid.x_size) / 2
    catchment = dem_grid(dem, grid, int(np.ceil(margin / dem_grid(dem, grid).x_size)))
    require_size(catchment, str(dem.path), "Give a coarser [dem] dem_resolution.")
    return catchment


def river_source(rivers: RiversTable, dem: DemTable | None, grid: Grid) -> ChannelSource:
    """Distance to the nearest river: to lines, or to rivers derived from the DEM."""
    name = "distance_to_river"
    if rivers.path is not None:
        return distance_source(name, FileTable(path=rivers.path, layer=rivers.layer, crs=rivers.crs), grid)
    if dem is None or rivers.from_dem_km2 is None:
        raise SiteError("[rivers] from_dem_km2 needs a [dem]")
    area, source = rivers.from_dem_km2, dem

    def begin(folder: Path) -> Values:
        catchment = catchment_grid(source, grid)
        channel_pixels = rivers_from_elevation(read_dem(source, catchment), catchment.transform, area)
        if not channel_pixels.any():
            raise SiteError(
                f"{source.path}: no pixel drains {area:g} km2, so no river is found. Lower [rivers] from_dem_km2."
            )
        np.save(folder / f"{name}.npy", distance(channel_pixels, catchment.x_size, catchment.y_size))

        def at(window: Window) -> NDArray[np.float32]:
            part = grid.crop(window)
            needed = needed_window(catchment, part).clip(catchment.shape)
            distances = np.load(folder / f"{name}.npy", mmap_mode="r")
            return warp_array(np.array(distances[needed.slices])[None], catchment.crop(needed), part)

        return at

    resampling = {dem.path.name: "bilinear, after distances"}
    return ChannelSource(name, (factor_channel(name),), begin, resampling)
