"""The grid of a site: from its images, its outline and what its file says."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import shapely
from rasterio.crs import CRS

from landslip.config.site_tables import FileTable, GridTable, ImageTable
from landslip.errors import GridError, LandslipError, SiteError
from landslip.geo.geodesy import ellipsoid
from landslip.geo.grid import Grid, Window, metric_fault
from landslip.geo.raster import FARTHEST, RasterInfo, read_info
from landslip.geo.warp import default_grid
from landslip.preparation.site_inputs import SiteImage, SiteInputs, fill_groups
from landslip.scenes.pansharpen import SHARPENED
from landslip.scenes.scene import Scene

if TYPE_CHECKING:
    import geopandas as gpd

EARTH_RADIUS = (6.3e6, 6.4e6)  # metres between which its radius at the equator lies
MOST_GRID_PIXELS = 2_000_000_000  # of a grid


def site_grid(inputs: SiteInputs) -> Grid:
    """The grid of a site: [grid] where given, else the first image's (or the DEM's) own, cut to the outline.

    Raises GridError where that is not a projected grid in metres, or does not meet the outline.
    """
    site, reference = inputs.site, _reference(inputs)
    crs = _grid_crs(site.grid, reference)
    fault = metric_fault(crs)
    if fault is not None:
        origin = "[grid] crs" if site.grid.crs else str(reference.path)
        raise GridError(
            f"{origin} cannot be the site's grid: {fault}. Give [grid] a projected crs in metres{_zone_of(reference)}, "
            "and a resolution."
        )
    if reference.crs == crs and not reference.rotated and site.grid.resolution is None:
        raster_grid = reference.grid
    else:
        raster_grid = default_grid(reference, crs, site.grid.resolution)
    if site.grid.extent is not None:
        raster_grid = _cut_to_extent(site.grid.extent, raster_grid, reference.path)
    grid = raster_grid if site.outline is None else _cut_to_outline(site.outline, raster_grid, reference.path)
    require_size(grid, "the site's grid", "Give an [outline], or a coarser [grid] resolution.")
    return grid


def require_size(grid: Grid, what: str, remedy: str) -> None:
    """Raise GridError for a grid of more than MOST_GRID_PIXELS."""
    if grid.height * grid.width > MOST_GRID_PIXELS:
        raise GridError(f"{what} would have {grid.describe()}, more than {MOST_GRID_PIXELS:,} in all. {remedy}")


def read_outline(outline: FileTable, crs: CRS) -> gpd.GeoDataFrame:
    """The study-area outline in `crs`: one or more polygons. Raises SiteError where it holds none."""
    from landslip.geo.vector import read_vector  # Takes long: not before a fault of the site file is told.

    frame = read_vector(outline.path, outline.layer, crs, stated=outline.crs)
    polygons = frame[frame.geom_type.isin(["Polygon", "MultiPolygon"])]
    if polygons.empty:
        raise SiteError(f"{outline.path} holds no polygon. The outline is the polygon of the study area.")
    return polygons


def sharpens(image: ImageTable, scene: Scene) -> bool:
    """Whether band 8 of an image's scene is there, wanted, and of use to one of its bands."""
    return scene.pan is not None and image.pansharpen is not False and bool(set(SHARPENED) & set(image.bands))


def _image_raster(image: SiteImage, grid: GridTable) -> Path:
    """The raster whose pixels are an image's own: the finest of a scene, and band 8 where it sharpens others."""
    scene = image.scene
    if scene is None:
        return image.files[0]
    widths = {band.path: image.grid_of(band.path).x_size for band in scene.bands.values()}
    finest = min(widths, key=lambda path: widths[path])
    if sharpens(image.table, scene) and (grid.resolution is None or grid.resolution < widths[finest]):
        return scene.pan.path if scene.pan else finest
    return finest


def _zone_of(info: RasterInfo) -> str:
    """The UTM zone that a raster lies in, as an example; empty where that cannot be told, or is no place on Earth."""
    if info.crs is None or info.rotated or not EARTH_RADIUS[0] < ellipsoid(info.crs).a < EARTH_RADIUS[1]:
        return ""
    import geopandas as gpd  # Takes long: not before a fault of the site file is told.

    try:
        zone = gpd.GeoSeries([shapely.box(*info.grid.bounds)], crs=info.crs.to_wkt()).estimate_utm_crs()
    except (ValueError, RuntimeError, LandslipError):  # There is none beyond 84 degrees north or 80 south.
        return ""
    return f', such as crs = "{zone.to_string()}" where it lies'


def _reference(inputs: SiteInputs) -> RasterInfo:
    """The raster whose pixels the grid takes, as large as all scenes of the first image together."""
    site, images = inputs.site, inputs.images
    path = _image_raster(images[0], site.grid) if images else site.dem.path if site.dem else None
    if path is None:
        rasters = [factor.path for factor in site.factor if factor.is_raster]
        if not rasters:
            raise SiteError(f"site {site.name!r} has no raster to take the grid from. Add an [[image]] or a [dem].")
        path = rasters[0]
    info = read_info(path)
    scenes = fill_groups(images)[0] if images else []
    return _with_others(info, scenes[1:], site.grid)


def _with_others(info: RasterInfo, others: Sequence[SiteImage], grid: GridTable) -> RasterInfo:
    """The first scene's raster, made larger by whole pixels so that scenes which fill it lie on it too."""
    if not others or info.crs is None or info.rotated:
        return info
    first_grid = info.grid
    part = Window(0, 0, *first_grid.shape)
    for image in others:
        try:
            other = read_info(_image_raster(image, grid))
        except LandslipError:  # `landslip check` names the scene that cannot be read.
            continue
        if other.crs == info.crs and not other.rotated:
            part = _together(part, _pixels_within(other.grid.bounds, first_grid))
    joint = first_grid.crop(part)
    return dataclasses.replace(info, transform=joint.transform, height=joint.height, width=joint.width)


def _together(a: Window, b: Window) -> Window:
    """The smallest window that covers two."""
    row, column = min(a.row, b.row), min(a.column, b.column)
    last_row, last_column = (max(a.row + a.height, b.row + b.height), max(a.column + a.width, b.column + b.width))
    return Window(row, column, last_row - row, last_column - column)


def _grid_crs(grid: GridTable, reference: RasterInfo) -> CRS:
    """The CRS that the site gives, else that of the raster whose pixels its grid takes."""
    if grid.crs is not None:
        try:
            return CRS.from_user_input(grid.crs)
        except ValueError as error:
            raise GridError(f"[grid] crs = {grid.crs!r} is not a CRS ({error}).") from error
    if reference.crs is None:
        return reference.grid.crs  # Raises, and says how the raster is given one.
    return reference.crs


def _cut_to_extent(extent: tuple[float, float, float, float], raster_grid: Grid, origin: Path) -> Grid:
    """The grid cut at the pixel borders nearest to an extent, so that two extents that meet share no pixel."""
    left, bottom, right, top = extent
    x, y = raster_grid.transform.c, raster_grid.transform.f
    column, last_column = (round((at - x) / raster_grid.x_size) for at in (left, right))
    row, last_row = (round((y - at) / raster_grid.y_size) for at in (top, bottom))
    window = Window(row, column, last_row - row, last_column - column)
    remedy = "Give left, bottom, right and top in metres of the grid's CRS."
    return _cut(raster_grid, window, "[grid] extent", extent, origin=origin, remedy=remedy)


def _cut_to_outline(outline: FileTable, raster_grid: Grid, origin: Path) -> Grid:
    """The smallest grid of whole pixels that covers the outline."""
    bounds = tuple(read_outline(outline, raster_grid.crs).total_bounds)
    if not all(abs(at) < FARTHEST for at in bounds):  # So written that NaN is no place either.
        listed = ", ".join(f"{at:.4g}" for at in bounds)
        raise GridError(
            f"{outline.path} reaches from and to {listed}, where nothing lies. Check its CRS, or draw it anew."
        )
    window, remedy = _pixels_within(bounds, raster_grid), "Check the CRS of both."
    return _cut(raster_grid, window, str(outline.path), bounds, origin=origin, remedy=remedy)


def _pixels_within(bounds: tuple[float, float, float, float], grid: Grid) -> Window:
    """The window of a grid's pixels, or of those beyond it, that covers bounds in its CRS."""
    left, bottom, right, top = bounds
    x, y = grid.transform.c, grid.transform.f
    nudge = 1e-6  # Else rounding would add a row or column to an outline that is drawn on pixel borders.
    column = math.floor((left - x) / grid.x_size + nudge)
    row = math.floor((y - top) / grid.y_size + nudge)
    last_column = math.ceil((right - x) / grid.x_size - nudge)
    last_row = math.ceil((y - bottom) / grid.y_size - nudge)
    return Window(row, column, last_row - row, last_column - column)


def _cut(
    raster_grid: Grid,
    window: Window,
    what: str,
    bounds: tuple[float, float, float, float],
    *,
    origin: Path,
    remedy: str,
) -> Grid:
    """The part of the grid of `origin` in a window; GridError, with the bounds of `what`, where they do not meet."""
    inside = window.clip(raster_grid.shape)
    if inside.height == 0 or inside.width == 0:
        left, bottom, right, top = bounds
        raise GridError(
            f"{what} (x {left:.0f} to {right:.0f}, y {bottom:.0f} to {top:.0f}) does not overlap {origin} "
            f"({raster_grid.describe()}). {remedy}"
        )
    return raster_grid.crop(inside)
