"""A made-up site with known landslides, by a stated rule.

Eroded terrain with rivers, faults and folded rocks; seven Landsat-8-like bands; landslides; and look-alikes, which
are bare, of the same shapes and sizes, and can be told from landslides by terrain and geology alone.

The rule (`EFFECTS` states how strongly each factor acts). Ground can fail where all four hold:

- slope of at least `MIN_SLOPE` degrees;
- rock that is not hard. In soft rock landslides start `ROCK_WEIGHT` times as often as in soft and hard rock;
- a river within `RIVER_REACH` metres;
- a fault within `FAULT_REACH` metres.

Landslides lie where ground can fail; bare fields (gentle ground), outcrops (hard rock) and clearings (too far from
river or fault) lie where it cannot. Both keep a margin from the slope and the distances of the rule, and a small
share of their pixels crosses it. Roads and river bars are further look-alikes. Curvature takes no part in the rule
but a landslide leaves a hollow at its head and a lobe at its toe, of metres. Aspect and elevation have no effect;
elevation is related to landslides only because rivers run low.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd
import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from scipy import ndimage

from landslip.demo.bodies import Bodies, Body, body_sizes
from landslip.demo.land_cover import (
    BANDS,
    STORED_SCALE,
    halved,
    illumination,
    land_cover,
    lay_bare,
    lay_roads,
    paste,
    reflectance,
)
from landslip.demo.landscape import MARGIN, Landscape, halved_grid, make_landscape, onto
from landslip.demo.terrain import LITHOLOGY, ROCKS, Float, Mask, noise
from landslip.errors import GridError
from landslip.factors.terrain import slope
from landslip.geo.geopackage import write_vector
from landslip.geo.geotiff import write_raster
from landslip.geo.grid import Grid
from landslip.geo.polygonize import trace
from landslip.runtime.atomic import refuse_existing
from landslip.runtime.text import write_text

MIN_SLOPE = 16.0  # degrees
RIVER_REACH = 900.0  # metres
FAULT_REACH = 2000.0  # metres
ROCK_WEIGHT = 3.0
SLOPE_MARGIN = 1.5  # degrees either side of MIN_SLOPE
REACH_MARGIN = 0.05  # share of a reach either side of it

# Strength of each factor's effect: 3 decides most, 0 none; equal where either may come first, by where the faults run.
EFFECTS = {
    "slope": 3.0,
    "lithology": 2.0,
    "distance_to_river": 1.0,
    "distance_to_fault": 1.0,
    "curvature": 0.0,
    "elevation": 0.0,
    "aspect": 0.0,
}

LOOK_ALIKES = {"field": 1, "outcrop": 2, "clearing": 3, "road": 4, "bar": 5}  # codes of SyntheticSite.look_alikes

EPSG = 32649
ORIGIN = (465_600.0, 3_429_900.0)  # x, y of the upper left corner: 31.00 N 110.64 E
SURVEY_NOISE = 0.5  # of the DEM, metres
LANDSLIDES_PER_KM2 = 74 / 116.29  # Site 1 of the paper
LANDSLIDE_SHARE = 0.065  # of the outline's area, of which about a tenth finds no ground that holds it


@dataclass(frozen=True, kw_only=True)
class SyntheticSite:
    """A made-up site. Arrays are (row, column) on `grid` unless said otherwise, and vectors in the grid's CRS.

    bands: reflectance in [0, 1], float32; coastal to nir on `grid`, swir1 and swir2 at twice its pixel size.
    dem: elevation in metres, float32, on `dem_grid`, twice the pixel size and `MARGIN` pixels beyond the site.
    elevation, distance_to_river, distance_to_fault (metres), slope (degrees): float32, of the finished terrain.
    lithology: uint8, codes of LITHOLOGY. label: bool, True on landslides. look_alikes: uint8, codes of LOOK_ALIKES.
    inside: bool, True in the outline. rivers, faults: lines. rocks: polygons with `rock`. landslides: polygons with
    `id` and `area` (square metres). outline: one polygon.
    """

    name: str
    grid: Grid
    dem_grid: Grid
    bands: dict[str, NDArray[np.float32]]
    dem: NDArray[np.float32]
    elevation: NDArray[np.float32]
    slope: NDArray[np.float32]
    distance_to_river: NDArray[np.float32]
    distance_to_fault: NDArray[np.float32]
    lithology: NDArray[np.uint8]
    label: Mask
    look_alikes: NDArray[np.uint8]
    inside: Mask
    rivers: gpd.GeoDataFrame
    faults: gpd.GeoDataFrame
    rocks: gpd.GeoDataFrame
    landslides: gpd.GeoDataFrame
    outline: gpd.GeoDataFrame


def generate(seed: int = 2021, shape: tuple[int, int] = (616, 976), resolution: float = 15.0) -> SyntheticSite:
    """Make a site of `shape` (rows, columns) pixels of `resolution` metres; the same seed gives the same site.

    The defaults are the size of the paper's Site 1 (Gao et al. 2021, Table I), and so are the number of landslides
    per area and their share of it. Raises GridError for an odd or small shape.
    """
    grid = site_grid(shape, resolution)
    # One generator goes through all steps: their order is part of what a seed means.
    rng = np.random.default_rng(seed)
    ground = make_landscape(rng, grid)
    slides, others = _place_bodies(rng, ground)
    ids, relief = np.zeros(shape, np.int32), np.zeros(shape)
    for number, body in enumerate(slides, start=1):
        ids[body.rows, body.columns] = number
        relief[body.rows, body.columns] = body.relief
    dem = survey(rng, ground.z, relief)
    look_alikes = np.zeros(shape, np.uint8)
    for kind, bodies in others.items():
        for body in bodies:
            look_alikes[body.rows, body.columns] = LOOK_ALIKES[kind]
    cover = land_cover(rng, ground.steepness, ground.water)
    _lay_roads_and_bars(rng, ground, cover, ids > 0, look_alikes)
    lay_bare(rng, cover, [*slides, *(body for bodies in others.values() for body in bodies)])
    light = illumination(onto(dem, ground.dem_grid, grid).astype(np.float64), resolution)
    bands = reflectance(rng, cover, light)
    return finished_site(f"Made-up site {seed}", ground, bands=bands, dem=dem, ids=ids, look_alikes=look_alikes)


def site_grid(shape: tuple[int, int], resolution: float) -> Grid:
    """The grid of a made-up site. Raises GridError for an odd or small shape."""
    if min(shape) < 128 or shape[0] % 2 or shape[1] % 2:
        raise GridError(f"a made-up site cannot have {shape[0]} x {shape[1]} pixels. Give even numbers from 128 up.")
    return Grid(CRS.from_epsg(EPSG), Affine(resolution, 0, ORIGIN[0], 0, -resolution, ORIGIN[1]), *shape)


def finished_site(
    name: str,
    ground: Landscape,
    *,
    bands: dict[str, NDArray[np.float32]],
    dem: NDArray[np.float32],
    ids: NDArray[np.int32],
    look_alikes: NDArray[np.uint8],
) -> SyntheticSite:
    """A site on a landscape; `ids` are the numbers of its landslides on the grid, 0 elsewhere, the rest as there."""
    grid, dem_grid = ground.grid, ground.dem_grid
    return SyntheticSite(
        name=name,
        grid=grid,
        dem_grid=dem_grid,
        bands=bands,
        dem=dem,
        elevation=onto(dem, dem_grid, grid),
        slope=onto(slope(dem, dem_grid.x_size, dem_grid.y_size, edges="one-sided"), dem_grid, grid),
        distance_to_river=ground.to_river,
        distance_to_fault=ground.to_fault,
        lithology=ground.lithology,
        label=ids > 0,
        look_alikes=look_alikes,
        inside=ground.inside,
        rivers=ground.rivers,
        faults=ground.faults,
        rocks=ground.rocks,
        landslides=_outlines_of(ids, grid),
        outline=ground.outline,
    )


def write_site(site: SyntheticSite, folder: Path, overwrite: bool = False) -> Path:
    """Write the files that a user would have into `folder`, and return its site.toml.

    Reflectance is stored as uint16 x 10,000 with 0 for nodata, elevation as float32 with -9999. Raises OutputError
    where the files exist already (unless `overwrite`) or cannot be written.
    """
    images = {"image_15m.tif": (site.grid, BANDS[:5]), "image_30m.tif": (halved_grid(site.grid), BANDS[5:])}
    vectors = {
        "outline.gpkg": site.outline,
        "rivers.gpkg": site.rivers,
        "faults.gpkg": site.faults,
        "lithology.gpkg": site.rocks,
        "landslides.gpkg": site.landslides,
    }
    for name in (*images, "dem.tif", *vectors, "site.toml"):
        refuse_existing(folder / name, overwrite)
    for name, (grid, names) in images.items():
        stored = np.stack([np.rint(site.bands[band] / STORED_SCALE) for band in names]).astype(np.uint16)
        write_raster(folder / name, stored, grid, names, nodata=0, overwrite=overwrite)
    dem = site.dem[None]
    write_raster(folder / "dem.tif", dem, site.dem_grid, ["elevation"], nodata=-9999.0, overwrite=overwrite)
    for name, frame in vectors.items():
        write_vector(folder / name, frame, overwrite=overwrite)
    path = folder / "site.toml"
    write_text(path, _site_toml(site), overwrite)
    return path


def _can_fail(
    slope_degrees: NDArray[np.floating], lithology: NDArray[np.uint8], to_river: NDArray[np.floating],
    to_fault: NDArray[np.floating], leeway: float = 0.0,
) -> Mask:  # fmt: skip
    """Where the module's rule lets ground fail; arrays of one shape, as in SyntheticSite.

    `leeway` is the number of margins (SLOPE_MARGIN, REACH_MARGIN) by which the rule is relaxed, or tightened where it
    is negative.
    """
    reach = 1 + leeway * REACH_MARGIN
    return np.asarray(
        (slope_degrees >= MIN_SLOPE - leeway * SLOPE_MARGIN)
        & (lithology != LITHOLOGY["hard"])
        & (to_river <= RIVER_REACH * reach)
        & (to_fault <= FAULT_REACH * reach)
    )


def _site_toml(site: SyntheticSite) -> str:
    """The site file of what `write_site` writes."""

    def numbered(names: tuple[str, ...]) -> str:
        return ", ".join(f"{name} = {number}" for number, name in enumerate(names, start=1))

    classes = ", ".join(f'"{rock}" = "{klass}"' for rock, (klass, _) in ROCKS.items())
    images = "".join(
        f'\n[[image]]\npath = "{name}"\nbands = {{ {numbered(names)} }}\nscale = 0.0001\n'
        for name, names in (("image_15m.tif", BANDS[:5]), ("image_30m.tif", BANDS[5:]))
    )
    return (
        f'name = "{site.name}"\n\n[outline]\npath = "outline.gpkg"\n{images}\n[dem]\npath = "dem.tif"\n\n'
        '[rivers]\npath = "rivers.gpkg"\n\n[faults]\npath = "faults.gpkg"\n\n[lithology]\npath = "lithology.gpkg"\n'
        f'field = "rock"\nclasses = {{ {classes} }}\n\n[landslides]\npath = "landslides.gpkg"\n'
    )


def _place_bodies(rng: np.random.Generator, ground: Landscape) -> tuple[list[Body], dict[str, list[Body]]]:
    """Landslides where the rule lets ground fail, and the bare look-alikes of each kind where it does not."""
    grid, steepness, lithology = ground.grid, ground.steepness, ground.lithology
    failing = _can_fail(steepness, lithology, ground.to_river, ground.to_fault, -1) & ground.inside & ~ground.water
    reach = 1 + REACH_MARGIN
    in_reach = (ground.to_river <= RIVER_REACH * reach) & (ground.to_fault <= FAULT_REACH * reach)
    hard = lithology == LITHOLOGY["hard"]
    weight = np.where(lithology == LITHOLOGY["soft"], 1.0, 1.0 / ROCK_WEIGHT)
    bodies = Bodies(rng, ground.surface, grid.x_size, ~ground.inside | ground.water)
    count = max(3, round(LANDSLIDES_PER_KM2 * ground.inside.sum() * grid.pixel_area / 1e6))
    area = LANDSLIDE_SHARE * ground.inside.sum() * grid.pixel_area
    slides = bodies.place(failing, weight, body_sizes(rng, count, area))
    slid_area = sum(len(body.rows) for body in slides) * grid.pixel_area
    others = {}
    for kind, share, where in (
        ("field", 0.40, steepness < MIN_SLOPE - SLOPE_MARGIN),
        ("outcrop", 0.28, hard & (steepness > MIN_SLOPE)),
        ("clearing", 0.27, ~hard & ~in_reach & (steepness > MIN_SLOPE)),
    ):
        sizes = body_sizes(rng, round(share * count), share * slid_area)
        others[kind] = bodies.place(where & ~ground.water, np.ones(grid.shape), sizes)
    return slides, others


def survey(rng: np.random.Generator, z: Float, relief: Float) -> NDArray[np.float32]:
    """The DEM: the terrain `z` with the relief of landslides, which is on the site's pixels, and the survey's noise."""
    dem = z.copy()
    dem[MARGIN:-MARGIN, MARGIN:-MARGIN] += halved(ndimage.gaussian_filter(relief, 1))
    # Filtered by 2 pixels, white noise keeps a deviation of 1 / (4 sqrt(pi)): it is scaled up to SURVEY_NOISE again.
    dem += SURVEY_NOISE * 4 * np.sqrt(np.pi) * ndimage.gaussian_filter(rng.standard_normal(z.shape), 2)
    return dem.astype(np.float32)


def _lay_roads_and_bars(
    rng: np.random.Generator, ground: Landscape, cover: dict[str, Float], label: Mask, look_alikes: NDArray[np.uint8]
) -> None:
    """Lay roads and river bars over the covers, and enter them among the look-alikes, where no body lies."""
    free = ~label & (look_alikes == 0) & ground.inside & ~ground.water
    road = lay_roads(ground.surface) & free
    bar = ground.banks & free & (ground.steepness < 10) & (noise(rng, ground.grid.shape, 20, 3) > 0.3)
    look_alikes[road], look_alikes[bar] = LOOK_ALIKES["road"], LOOK_ALIKES["bar"]
    paste(cover, 0.6 * road, {"road": 1.0})
    paste(cover, 0.8 * bar, {"soil": 0.5, "rock": 0.5})


def _outlines_of(ids: NDArray[np.int32], grid: Grid) -> gpd.GeoDataFrame:
    """Outlines of landslides numbered in `ids`, (row, column), with `area`.

    Corners are cut by half a pixel, which no pixel's centre crosses.
    """
    frame = trace(ids, grid)

    def cut(ring: shapely.LinearRing) -> Float:
        corner = np.asarray(ring.coords)[:-1]
        before, after = np.roll(corner, 1, 0) - corner, np.roll(corner, -1, 0) - corner
        step = 0.5 * grid.x_size
        points = [corner + step * edge / np.hypot(*edge.T)[:, None] for edge in (before, after)]
        return np.asarray(np.stack(points, 1).reshape(-1, 2))

    rings = [[cut(ring) for ring in (g.exterior, *g.interiors)] for g in frame.geometry]
    polygons = [shapely.Polygon(outer, inner).buffer(0) for outer, *inner in rings]
    frame = frame.set_geometry(gpd.GeoSeries(polygons, crs=frame.crs))
    frame["area"] = frame.area
    return frame
