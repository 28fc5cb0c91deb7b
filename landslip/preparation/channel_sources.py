"""The stack: all channels of a site on one grid, which channels make which factor, and where they are valid.

`channel_sources` lists what a site's channels are computed from. Each source is a function that gives its channels at
any window of the grid: the same values to the bit whatever the window, so that a stack of any size can be filled block
by block.
Encoding `planes` keeps aspect as sine and cosine and lithology as one plane per class; `paper` gives every factor one
channel.

What a stack's header says is asked by commands that must answer at once: geopandas is imported where vectors are read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from landslip.config.site import (
    ClassTable,
    DemTable,
    FactorTable,
    FileTable,
    ImageTable,
    RiversTable,
    Site,
    require_size,
)
from landslip.dataset.channels import Channel
from landslip.errors import SiteError, VectorError
from landslip.factors.distance import distance, distance_down, row_gaps
from landslip.factors.hydrology import rivers_from_elevation
from landslip.factors.indices import dndvi, mndwi, ndvi
from landslip.factors.lithology import ordinal, planes
from landslip.factors.terrain import aspect_from, surfaces
from landslip.geo.grid import Grid, Window, metric_fault, tiles
from landslip.geo.raster import read_categories, read_info
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
from landslip.preparation.images import (
    band_names,
    describe_resampling,
    only,
    read_images,
    read_with_plain,
    unit_of,
)
from landslip.runtime.parallel import parallel_map

if TYPE_CHECKING:
    import geopandas as gpd

    from landslip.geo.vector import Shapes

Encoding = Literal["planes", "paper"]
MOST_CLASSES = 100  # more values than this are hardly classes
Values = Callable[[Window], NDArray[np.float32]]

BLOCK = 1024  # side of the windows that a stack is filled by, pixels
COLUMNS = 256  # of the windows of whole columns that distances are filled by
FIRST_REACH = 64  # pixels beyond the site where rivers and faults are looked for first
NODES = 64  # along each side of the grid, from which the farthest place from any feature is judged
MOST_PIXELS = 4_000_000_000  # of the widened grid that distances are taken on
RIVER_BYTES = 48  # of memory for each DEM pixel while rivers are derived


@dataclass(frozen=True)
class ChannelSource:
    """Channels that are computed together.

    `begin` does what has to be done once, leaving what it keeps in the folder it is given, and returns the function
    that gives the channels' values at a window of the grid, (C, h, w) float32 with NaN where undefined. `columns`
    where that function wants windows of whole columns. `resampling` says how each input is brought to the grid.
    """

    name: str
    channels: tuple[Channel, ...]
    begin: Callable[[Path], Values]
    resampling: dict[str, str]
    columns: bool = False

    def windows(self, shape: tuple[int, int]) -> list[Window]:
        """Windows that tile a grid of `shape`, as this layer likes them."""
        if self.columns:
            return [Window(0, left, shape[0], COLUMNS).clip(shape) for left in range(0, shape[1], COLUMNS)]
        return list(tiles(shape, BLOCK))


def channel_sources(site: Site, grid: Grid, encoding: Encoding) -> list[ChannelSource]:
    """What a site's channels are computed from, in the order of the stack's channels."""
    found: list[ChannelSource] = []
    if site.image:
        found.append(band_source(site.image, grid))
    if site.dem is not None:
        found.append(terrain_source(site.dem, grid, encoding))
    indices = index_source(site, grid)
    if indices is not None:
        found.append(indices)
    if site.rivers is not None:
        found.append(river_source(site.rivers, site.dem, grid))
    if site.faults is not None:
        found.append(distance_source("distance_to_fault", site.faults, grid))
    if site.lithology is not None:
        found.append(class_source("lithology", site.lithology, grid, encoding))
    found += [further_source(factor, grid, encoding) for factor in site.factor]
    return found


def band_source(images: Sequence[ImageTable], grid: Grid) -> ChannelSource:
    """The optical bands."""
    channels = tuple(Channel(name, name, "band", unit_of(images, name)) for name in band_names(images))

    def at(window: Window) -> NDArray[np.float32]:
        return np.stack(list(read_images(images, grid.crop(window)).values()))

    return ChannelSource("bands", channels, lambda _: at, describe_resampling(images, grid))


def index_source(site: Site, grid: Grid) -> ChannelSource | None:
    """NDVI, MNDWI and dNDVI, as far as the bands allow, from bands that are not sharpened; None where none is."""
    bands = band_names(site.image)
    plants, water = {"red", "nir"} <= set(bands), {"green", "swir1"} <= set(bands)
    names = [name for name, there in (("ndvi", plants), ("mndwi", water), ("dndvi", bool(site.before))) if there]
    if not names:
        return None
    needed = (("red", "nir") if plants else ()) + (("green", "swir1") if water else ())
    images, before = only(site.image, needed), only(site.before, ("red", "nir"))

    def at(window: Window) -> NDArray[np.float32]:
        part = grid.crop(window)
        plain = read_with_plain(images, part)[1]
        found = []
        if plants:
            found.append(ndvi(plain["red"], plain["nir"]))
        if water:
            found.append(mndwi(plain["green"], plain["swir1"]))
        if before:
            earlier = read_with_plain(before, part)[1]
            found.append(dndvi(ndvi(earlier["red"], earlier["nir"]), found[0]))
        return np.stack(found)

    channels = tuple(Channel(name, name, "factor") for name in names)
    return ChannelSource(
        "indices", channels, lambda _: at, describe_resampling((*images, *before), grid, sharpened=False)
    )


def _resampling(paths: Sequence[Path], grid: Grid, method: str) -> dict[str, str]:
    """How rasters are brought to the grid, by the name of the file."""
    return {path.name: how_resampled(path, grid, method) for path in paths}


def dem_grid(dem: DemTable, grid: Grid, halo: int = 0) -> Grid:
    """The metric grid around `grid`, and `halo` pixels more on each side, that terrain is taken on.

    The DEM's own pixels, as far as they reach, where its CRS is in metres and `dem_resolution` is not given; else
    pixels of `dem_resolution`, or of about its own size, in the CRS of `grid`. Raises SiteError where the two do not
    meet.
    """
    info = read_info(dem.path)
    own = metric_fault(info.crs) is None and dem.dem_resolution is None
    window = covering_window(info, grid, halo if own else 0)
    if window.height == 0 or window.width == 0:
        raise SiteError(f"{dem.path} does not overlap the site ({grid.describe()}). Check its CRS.")
    if own:
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
        Channel("elevation", "elevation", "factor", "m"),
        Channel("slope", "slope", "factor", "degree"),
        Channel("curvature", "curvature", "factor", "1/100 m"),
        *(Channel(f"{kind}_curvature", f"{kind}_curvature", "factor", "1/m") for kind in dem.curvatures),
    ]
    wanted = [channel.name for channel in channels[1:]] + ["aspect_sin", "aspect_cos"]
    if encoding == "planes":
        channels.append(Channel("aspect_sin", "aspect", "factor", "", "sine"))
        channels.append(Channel("aspect_cos", "aspect", "factor", "", "cosine"))
    else:
        channels.append(Channel("aspect", "aspect", "factor", "degree"))
    own = dem_grid(dem, grid)

    def at(window: Window) -> NDArray[np.float32]:
        part = grid.crop(window)
        place = needed_window(own, part)
        if place.area > MOST_AT_ONCE // len(wanted) and window.area > 1:
            return in_quarters(lambda part: at(part.moved(window.row, window.column)), part.shape)
        needed = own.crop(place)
        z = read_dem(dem, needed.pad(1))  # the pixel more on each side that slopes take
        taken = surfaces(z, own.x_size, own.y_size, wanted, edges=dem.edges)
        values = warp_array(np.concatenate([z[None], taken])[:, 1:-1, 1:-1], needed, part)
        if encoding == "paper":
            values = np.concatenate([values[:-2], aspect_from(values[-2], values[-1])[None]])
        return np.asarray(values)

    how = how_resampled(dem.path, grid, "bilinear, after slopes")
    if not lies_on(dem.path, own):
        how = f"cubic to {own.x_size:g} m before slopes, bilinear after"
    return ChannelSource("terrain", tuple(channels), lambda _: at, {dem.path.name: how})


def catchment_grid(dem: DemTable, grid: Grid) -> Grid:
    """The DEM's metric grid that rivers on `grid` are derived on, which is held in memory at RIVER_BYTES a pixel.

    Water comes from beyond the site: half its size again on each side, as far as the DEM reaches.
    """
    margin = max(grid.height * grid.y_size, grid.width * grid.x_size) / 2
    own = dem_grid(dem, grid, int(np.ceil(margin / dem_grid(dem, grid).x_size)))
    require_size(own, str(dem.path), "Give a coarser [dem] dem_resolution.")
    return own


def river_source(rivers: RiversTable, dem: DemTable | None, grid: Grid) -> ChannelSource:
    """Distance to the nearest river: to lines, or to rivers derived from the DEM."""
    name = "distance_to_river"
    if rivers.path is not None:
        return distance_source(name, FileTable(path=rivers.path, layer=rivers.layer, crs=rivers.crs), grid)
    if dem is None or rivers.from_dem_km2 is None:
        raise SiteError("[rivers] from_dem_km2 needs a [dem]")
    area, source = rivers.from_dem_km2, dem

    def begin(folder: Path) -> Values:
        own = catchment_grid(source, grid)
        found = rivers_from_elevation(read_dem(source, own), own.transform, area)
        if not found.any():
            raise SiteError(
                f"{source.path}: no pixel drains {area:g} km2, so no river is found. Lower [rivers] from_dem_km2."
            )
        np.save(folder / f"{name}.npy", distance(found, own.x_size, own.y_size))

        def at(window: Window) -> NDArray[np.float32]:
            part = grid.crop(window)
            needed = needed_window(own, part).clip(own.shape)
            kept = np.load(folder / f"{name}.npy", mmap_mode="r")
            return warp_array(np.array(kept[needed.slices])[None], own.crop(needed), part)

        return at

    how = {dem.path.name: "bilinear, after distances"}
    return ChannelSource(name, (Channel(name, name, "factor", "m"),), begin, how)


def distance_source(name: str, source: FileTable, grid: Grid) -> ChannelSource:
    """Exact distance from each pixel's centre to the nearest feature burnt all-touched, in metres.

    Features outside the grid count: the grid is widened until nothing beyond it can be nearer. The gaps along its rows
    are kept in a file, 4 bytes a pixel, from which distances are taken some columns at a time.
    """

    def begin(folder: Path) -> Values:
        from landslip.geo.vector import SQUARE, burn_window

        shapes, inner = features_around(source, grid)
        wide = shapes.grid
        strips = [Window(row, 0, SQUARE, wide.width).clip(wide.shape) for row in range(0, wide.height, SQUARE)]
        places = [slice(left, left + COLUMNS) for left in range(0, grid.width, COLUMNS)]
        path = folder / f"{name}.gaps"
        path.touch()

        def fill(strip: Window) -> None:
            gaps = row_gaps(burn_window(shapes, strip))[:, inner.column : inner.column + grid.width]
            part = np.zeros((strip.height, COLUMNS), np.int32)
            with path.open("rb+", buffering=0) as file:
                for i, place in enumerate(places):
                    part[:, : gaps[:, place].shape[1]] = gaps[:, place]
                    file.seek((i * wide.height + strip.row) * COLUMNS * part.itemsize)
                    file.write(part.data)

        for _ in parallel_map(fill, strips):
            pass

        def at(window: Window) -> NDArray[np.float32]:
            kept = np.memmap(path, np.int32, "r", shape=(len(places), wide.height, COLUMNS))
            first, last = window.column // COLUMNS, (window.column + window.width - 1) // COLUMNS
            gaps = np.concatenate(list(kept[first : last + 1]), axis=1)
            across = slice(window.column - first * COLUMNS, window.column - first * COLUMNS + window.width)
            down = slice(inner.row + window.row, inner.row + window.row + window.height)
            return distance_down(gaps[:, across], grid.x_size, grid.y_size)[None, down]

        return at

    how = {source.path.name: "none: burnt onto the grid, every pixel that is touched"}
    return ChannelSource(name, (Channel(name, name, "factor", "m"),), begin, how, columns=True)


def features_around(source: FileTable, grid: Grid) -> tuple[Shapes, Window]:
    """The features that may be nearest to a pixel of the grid, on a wider grid that holds them, and the grid's window.

    SiteError where they are too far away for their distance to be taken.
    """
    from landslip.geo.vector import read_vector, shapes_on

    reach = FIRST_REACH
    while True:
        if (grid.height + 2 * reach) * (grid.width + 2 * reach) > MOST_PIXELS:
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
    # as far as that, and no farther than there are features
    left, bottom, right, top = grid.bounds
    x_first, y_first, x_last, y_last = frame.total_bounds
    beyond = (y_last - top) / grid.y_size, (left - x_first) / grid.x_size
    above, before = (int(np.clip(np.ceil(pixels), 0, needed)) + 1 for pixels in beyond)
    beyond = (bottom - y_first) / grid.y_size, (x_last - right) / grid.x_size
    below, behind = (int(np.clip(np.ceil(pixels), 0, needed)) + 1 for pixels in beyond)
    wide = grid.crop(Window(-above, -before, grid.height + above + below, grid.width + before + behind))
    return shapes_on(frame.geometry, wide, "touched"), Window(above, before, *grid.shape)


def _farthest(geometries: gpd.GeoSeries, grid: Grid) -> float:
    """Metres that no pixel of the grid is farther than from a feature's pixel: those at nodes, and half way between."""
    import shapely

    left, bottom, right, top = grid.bounds
    x, y = np.linspace(left, right, NODES), np.linspace(bottom, top, NODES)
    nodes = shapely.points(*(axis.ravel() for axis in np.meshgrid(x, y)))
    tree = shapely.STRtree(shapely.get_parts(geometries.to_numpy()))
    _, away = tree.query_nearest(nodes, return_distance=True, all_matches=False)
    between = np.hypot(right - left, top - bottom) / (NODES - 1) / 2
    return float(away.max() + between + np.hypot(grid.x_size, grid.y_size))


def _require_lines(source: FileTable) -> None:
    from landslip.geo.vector import read_vector

    frame: gpd.GeoDataFrame = read_vector(source.path, source.layer, stated=source.crs)
    if frame.empty:
        raise VectorError(f"{source.path} holds no geometry, so no distance to it is defined. Leave the layer out.")


def class_reader(table: ClassTable, grid: Grid) -> tuple[Callable[[Window], NDArray[np.int32]], dict[int, str]]:
    """A function that gives class codes at a window of the grid, and what each code on the grid stands for.

    Codes are (h, w) int32, -1 where undefined. A code of a raster stands for the raster's own name of it, else for
    itself.
    """
    from landslip.geo.vector import burn_window, read_vector, shapes_on

    if table.is_raster:
        called = read_categories(table.path)

        def stored(window: Window) -> NDArray[np.int32]:
            values = warp(table.path, grid.crop(window), [1], "nearest", table.nodata)[0]
            return np.where(np.isnan(values), -1, np.nan_to_num(values)).astype(np.int32)

        def different(window: Window) -> set[float]:
            values = warp(table.path, grid.crop(window), [1], "nearest", table.nodata)[0]
            found = np.unique(values[~np.isnan(values)])
            return set(found[: MOST_CLASSES + 1].tolist() + found[found != np.round(found)][:1].tolist())

        seen: set[float] = set()
        for found in parallel_map(different, tiles(grid.shape, BLOCK)):
            seen |= found
            _require_classes(table, np.array(sorted(seen), np.float32))
        return stored, {int(code): called.get(int(code), str(int(code))) for code in sorted(seen)}
    frame = read_vector(table.path, table.layer, grid.crs, grid.bounds, table.crs)
    if table.field not in frame.columns:
        names = ", ".join(str(name) for name in frame.columns if name != "geometry")
        raise VectorError(f"{table.path} has no field {table.field!r}; its fields are {names}.")
    texts = frame[table.field].map(lambda value: str(value).strip())
    meaning = dict(enumerate(sorted(texts.unique())))
    shapes = {code: shapes_on(frame.geometry[texts == text], grid) for code, text in meaning.items()}

    def burnt(window: Window) -> NDArray[np.int32]:
        codes = np.full((window.height, window.width), -1, np.int32)
        for code, own in shapes.items():
            codes[burn_window(own, window)] = code
        return codes

    return burnt, meaning


def _require_classes(table: ClassTable, found: NDArray[np.float32]) -> None:
    whole = found[(found == np.round(found)) & (found >= 0) & (found < 2**24)]
    if len(whole) < len(found) or len(found) > MOST_CLASSES:
        strange = found[~np.isin(found, whole)] if len(whole) < len(found) else found
        raise SiteError(
            f"{table.path} does not hold classes: {len(found)} different values, such as {strange[0]:g}. Classes are "
            f"at most {MOST_CLASSES} whole numbers from 0 up. Give a class raster, or state nodata where undefined."
        )


def class_table(table: ClassTable, meaning: dict[int, str]) -> tuple[dict[int, str], list[str]]:
    """({code: class}, classes in order): the site's own `classes`, or every value its own class.

    `classes` has a raster's values by code or by the raster's own name for it.
    """
    if not table.classes:
        return meaning, list(dict.fromkeys(meaning.values()))
    known: dict[int, str] = {}
    for code, text in meaning.items():
        keys = [key for key in ((str(code), text) if table.is_raster else (text,)) if key in table.classes]
        if keys:
            known[code] = table.classes[keys[0]]
    return known, list(dict.fromkeys(table.classes.values()))


def class_source(name: str, table: ClassTable, grid: Grid, encoding: Encoding) -> ChannelSource:
    """One plane per class (`planes`), or one channel of ordinals (`paper`). Unmapped classes are undefined."""
    codes, meaning = class_reader(table, grid)
    known, classes = class_table(table, meaning)
    channels = tuple(Channel(f"{name}_{_word(label)}", name, "factor", "", "class") for label in classes)
    if encoding == "paper":
        channels = (Channel(name, name, "factor", "class"),)

    def at(window: Window) -> NDArray[np.float32]:
        if encoding == "paper":
            return ordinal(codes(window), known, classes)[None]
        return planes(codes(window), known, classes)

    how = {table.path.name: "none: burnt onto the grid, pixels whose centre lies inside"}
    if table.is_raster:
        how = _resampling([table.path], grid, "nearest")
    return ChannelSource(name, channels, lambda _: at, how)


def _word(text: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in text.lower()).strip("_")


def further_source(factor: FactorTable, grid: Grid, encoding: Encoding) -> ChannelSource:
    """A factor that the site names itself, continuous or in classes."""
    if factor.kind == "classes":
        return class_source(factor.name, factor, grid, encoding)

    def at(window: Window) -> NDArray[np.float32]:
        values = warp(factor.path, grid.crop(window), [factor.band], "bilinear", factor.nodata)
        return np.asarray(values * np.float32(factor.scale) + np.float32(factor.offset))

    channel = Channel(factor.name, factor.name, "factor", factor.unit)
    return ChannelSource(factor.name, (channel,), lambda _: at, _resampling([factor.path], grid, "bilinear"))
