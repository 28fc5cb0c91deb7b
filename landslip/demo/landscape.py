"""The landscape of a made-up site before any landslide: terrain, rivers, faults, rocks and the study area."""

from __future__ import annotations

from dataclasses import dataclass

import geopandas as gpd
import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from scipy import ndimage

from landslip.demo.terrain import Float, Mask, eroded_terrain, fault_lines, folded_beds, noise, river_lines, rock_bodies
from landslip.factors.distance import distance
from landslip.factors.terrain import slope
from landslip.geo.grid import Grid, Window
from landslip.geo.rasterize import burn
from landslip.geo.warp import warp_array

MARGIN = 40  # DEM pixels around the site
OUTLINE_SHARE = 0.85  # of the rectangle


@dataclass(frozen=True, kw_only=True)
class Landscape:
    """A made-up site before any landslide; names as in SyntheticSite, and arrays (row, column).

    `z` is elevation in metres on `dem_grid`, `surface` the same smoothed on `grid`, `steepness` its slope in degrees;
    `water` and `banks` are those of the larger rivers.
    """

    grid: Grid
    dem_grid: Grid
    z: Float
    surface: Float
    steepness: NDArray[np.float32]
    water: Mask
    banks: Mask
    to_river: NDArray[np.float32]
    to_fault: NDArray[np.float32]
    lithology: NDArray[np.uint8]
    inside: Mask
    rivers: gpd.GeoDataFrame
    faults: gpd.GeoDataFrame
    rocks: gpd.GeoDataFrame
    outline: gpd.GeoDataFrame


def make_landscape(rng: np.random.Generator, grid: Grid) -> Landscape:
    """Beds, terrain eroded from them, rivers, faults, rocks and the outline of the study area."""
    dem_grid = halved_grid(grid).pad(MARGIN)
    bed, strike = folded_beds(rng, dem_grid)
    hardness = np.interp(bed, [0.0, 0.5, 0.72, 0.8], [0.9, 0.95, 1.0, 1.2])
    gain = np.exp(0.4 * noise(rng, dem_grid.shape, 70, 4)) * hardness
    z = eroded_terrain(rng, gain, dem_grid.x_size)
    rivers = river_lines(z, dem_grid)
    water, banks = _water(rivers, grid)
    faults = fault_lines(rng, grid, strike)
    rocks, lithology = rock_bodies(onto(bed, dem_grid, grid), grid)
    outline, inside = _outline(rng, grid)
    surface = ndimage.gaussian_filter(onto(z, dem_grid, grid).astype(np.float64), 3)
    return Landscape(
        grid=grid,
        dem_grid=dem_grid,
        z=z,
        surface=surface,
        steepness=slope(surface, grid.x_size, grid.x_size, edges="one-sided"),
        water=water,
        banks=banks,
        to_river=_distance_to(rivers, grid),
        to_fault=_distance_to(faults, grid),
        lithology=lithology,
        inside=inside,
        rivers=rivers,
        faults=faults,
        rocks=rocks,
        outline=outline,
    )


def onto(values: NDArray[np.floating], source: Grid, grid: Grid) -> NDArray[np.float32]:
    """Values (row, column) on the grid `source`, brought to another grid."""
    return np.asarray(warp_array(values[None].astype(np.float32), source, grid)[0])


def halved_grid(grid: Grid) -> Grid:
    """The grid of pixels twice as large."""
    return Grid(grid.crs, grid.transform @ Affine.scale(2), grid.height // 2, grid.width // 2)


def _water(rivers: gpd.GeoDataFrame, grid: Grid) -> tuple[Mask, Mask]:
    """Where the larger rivers' water stands, and their banks."""
    water, banks = np.zeros(grid.shape, bool), np.zeros(grid.shape, bool)
    for at_least, half_width in ((5.0, 12.0), (25.0, 35.0), (70.0, 60.0)):
        channel = rivers.geometry[rivers.km2 >= at_least].buffer(half_width)
        water |= burn(channel, grid)
        banks |= burn(channel.buffer(50.0), grid)
    return water, banks & ~water


def _distance_to(lines: gpd.GeoDataFrame, grid: Grid) -> NDArray[np.float32]:
    """Metres from each pixel to the nearest of some lines, (row, column)."""
    pad = 8 * MARGIN  # Pixels, so many that what lies beyond is out of every reach of the rule.
    wide = grid.pad(pad)
    pixels = burn(lines.geometry, wide, "touched")
    inner = Window(pad, pad, *grid.shape).slices
    return np.ascontiguousarray(distance(pixels, grid.x_size, grid.y_size)[inner])


def _outline(rng: np.random.Generator, grid: Grid) -> tuple[gpd.GeoDataFrame, Mask]:
    """An irregular polygon that covers OUTLINE_SHARE of the grid."""
    turn = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    wobble = ndimage.gaussian_filter1d(rng.standard_normal(72), 2, mode="wrap")
    wobble /= np.abs(wobble).max()
    box = (np.abs(np.cos(turn)) ** 7 + np.abs(np.sin(turn)) ** 7) ** (-1 / 7)  # a rectangle with round corners
    left, bottom, right, top = grid.bounds
    centre, reach = ((left + right) / 2, (bottom + top) / 2), ((right - left) / 2, (top - bottom) / 2)
    rectangle = shapely.box(left, bottom, right, top).buffer(-2 * grid.x_size, join_style="mitre")
    low, high = 0.5, 1.5
    for _ in range(30):
        radius = (low + high) / 2 * box * (1 + 0.10 * wobble)
        points = np.column_stack(
            [centre[0] + reach[0] * radius * np.cos(turn), centre[1] + reach[1] * radius * np.sin(turn)]
        )
        polygon = shapely.Polygon(points).intersection(rectangle)
        too_small = polygon.area < OUTLINE_SHARE * (right - left) * (top - bottom)
        low, high = ((low + high) / 2, high) if too_small else (low, (low + high) / 2)
    return gpd.GeoDataFrame({"id": [1]}, geometry=[polygon], crs=grid.crs.to_wkt()), burn([polygon], grid)
