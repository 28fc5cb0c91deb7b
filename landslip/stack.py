"""The stack: all channels of a site on one grid, which channels make which factor, and where they are valid.

`channels` reads a site's inputs one after the other and yields each channel brought to the grid. Encoding `planes`
keeps aspect as sine and cosine and lithology as one plane per class; `paper` gives every factor one channel.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import geopandas as gpd
import numpy as np
from affine import Affine
from numpy.typing import NDArray

from landslip.errors import ChannelError, SiteError, VectorError
from landslip.factors.distance import distance
from landslip.factors.indices import dndvi, mndwi, ndvi
from landslip.factors.lithology import ordinal, planes
from landslip.factors.rivers import rivers_from_elevation
from landslip.factors.terrain import aspect_from, aspect_sin_cos, curvature, slope
from landslip.grid import Grid, Window, metric_fault
from landslip.images import read_with_plain, unit_of
from landslip.raster import covering_window, default_grid, read, read_band_tags, read_info, warp, warp_array
from landslip.run import ChannelChoice
from landslip.site import (
    ClassTable,
    DemTable,
    FactorTable,
    FileTable,
    RiversTable,
    Site,
    require_size,
)
from landslip.vector import burn, read_vector

Encoding = Literal["planes", "paper"]
Kind = Literal["continuous", "sine", "cosine", "class"]
KINDS, GROUPS = ("continuous", "sine", "cosine", "class"), ("band", "factor")
MOST_CLASSES = 100  # more values than this are hardly classes
Layer = tuple["Channel", NDArray[np.float32]]

TERRAIN_HALO = 8  # DEM pixels read beyond the site, so that no edge is wrong
FIRST_REACH = 64  # pixels beyond the site where rivers and faults are looked for first
MOST_PIXELS = 400_000_000  # of the widened grid that distances are taken on


@dataclass(frozen=True)
class Channel:
    """One plane the network sees.

    `factor` is the band or influencing factor that it belongs to (aspect_sin and aspect_cos make aspect); `group` is
    "band" or "factor"; sine, cosine and class planes are not z-scored.
    """

    name: str
    factor: str
    group: Literal["band", "factor"]
    unit: str = ""
    kind: Kind = "continuous"

    def __post_init__(self) -> None:
        texts = (self.name, self.factor, self.unit)
        if not all(isinstance(text, str) for text in texts) or self.group not in GROUPS or self.kind not in KINDS:
            raise ChannelError(
                f"channel {self.name!r} (factor {self.factor!r}, group {self.group!r}, kind {self.kind!r}) is none "
                f"that landslip knows: groups are {', '.join(GROUPS)}, kinds {', '.join(KINDS)}."
            )

    @property
    def standardised(self) -> bool:
        """Whether the channel is z-scored."""
        return self.kind == "continuous"

    def tags(self) -> dict[str, str]:
        """The channel as tags of a raster's band."""
        return {f"landslip_{key}": str(value) for key, value in asdict(self).items() if key != "name"}


@dataclass(frozen=True)
class StackInfo:
    """A stack raster's header: its grid and channels."""

    path: Path
    grid: Grid
    channels: tuple[Channel, ...]

    @property
    def valid_path(self) -> Path:
        """Where `prepare` puts the valid raster that belongs to the stack."""
        return self.path.with_name("valid.tif")


def read_stack_info(path: Path) -> StackInfo:
    """Read a stack's header; ChannelError where its bands carry no names."""
    info = read_info(path)
    unnamed = [str(i + 1) for i, name in enumerate(info.names) if not name]
    if unnamed:
        raise ChannelError(
            f"{path} is not a stack: band {', '.join(unnamed)} has no description. Make one with `landslip prepare`, "
            "or set the band descriptions to the channel names."
        )
    twice = sorted({str(name) for name in info.names if info.names.count(name) > 1})
    if twice:
        raise ChannelError(f"{path} has two channels called {', '.join(twice)}. Rename one band's description.")
    channels = []
    for name, tags in zip(info.names, read_band_tags(path), strict=True):
        own = {k.removeprefix("landslip_"): v for k, v in tags.items() if k.startswith("landslip_")}
        channels.append(Channel(name=str(name), **_known(own, str(name))))
    return StackInfo(path, info.grid, tuple(channels))


def _known(tags: dict[str, str], name: str) -> dict[str, Any]:
    if not tags:  # a stack made elsewhere: names only
        return {"factor": name, "group": "band"}
    return {key: tags[key] for key in ("factor", "group", "unit", "kind") if key in tags}


def choose_channels(channels: Sequence[Channel], choice: ChannelChoice, origin: Path) -> list[int]:
    """Positions of the chosen channels in a stack, in the stack's order.

    A choice names bands and factors (all channels of a factor go together). Raises ChannelError for an unknown name.
    """
    chosen: set[str] = set()
    groups: tuple[tuple[Literal["band", "factor"], Any], ...] = (("band", choice.bands), ("factor", choice.factors))
    for group, wanted in groups:
        known = list(dict.fromkeys(c.factor for c in channels if c.group == group))
        if wanted == "all":
            chosen |= set(known)
        elif wanted != "none":
            unknown = [name for name in wanted if name not in known]
            if unknown:
                raise ChannelError(
                    f"{origin} has no {group} {', '.join(unknown)}; its {group}s are {', '.join(known) or 'none'}."
                )
            chosen |= set(wanted)
    positions = [i for i, channel in enumerate(channels) if channel.factor in chosen]
    if not positions:
        raise ChannelError(f"[channels] chooses none of the channels of {origin}. Name bands, factors or both.")
    return positions


def channels(site: Site, grid: Grid, encoding: Encoding) -> Iterator[Layer]:
    """Yield every channel of a site with its values on `grid`, (H, W) float32 with NaN where undefined."""
    bands, plain = read_with_plain(site.image, grid)
    for name, values in bands.items():
        yield Channel(name, name, "band", unit_of(site.image, name)), values
    bands = plain  # indices are taken before sharpening
    if site.dem is not None:
        yield from terrain(site.dem, grid, encoding)
    if {"red", "nir"} <= bands.keys():
        yield Channel("ndvi", "ndvi", "factor"), ndvi(bands["red"], bands["nir"])
    if {"green", "swir1"} <= bands.keys():
        yield Channel("mndwi", "mndwi", "factor"), mndwi(bands["green"], bands["swir1"])
    if site.before:
        before = read_with_plain(site.before, grid)[1]
        change = dndvi(ndvi(before["red"], before["nir"]), ndvi(bands["red"], bands["nir"]))
        yield Channel("dndvi", "dndvi", "factor"), change
    del bands, plain
    if site.rivers is not None:
        yield (
            Channel("distance_to_river", "distance_to_river", "factor", "m"),
            river_distance(site.rivers, site.dem, grid),
        )
    if site.faults is not None:
        yield Channel("distance_to_fault", "distance_to_fault", "factor", "m"), feature_distance(site.faults, grid)
    if site.lithology is not None:
        yield from class_channels("lithology", site.lithology, grid, encoding)
    for factor in site.factor:
        yield from further_factor(factor, grid, encoding)


def read_dem(dem: DemTable, grid: Grid, halo: int = TERRAIN_HALO) -> tuple[NDArray[np.float32], Grid]:
    """Elevation (H, W) in metres around `grid`, on the metric grid that terrain is taken on, and that grid.

    The DEM's own pixels where its CRS is in metres and `dem_resolution` is not given; else one cubic warp to the
    CRS of `grid`. `halo` is in DEM pixels.
    """
    info = read_info(dem.path)
    source = info.grid
    if metric_fault(source.crs) is None and dem.dem_resolution is None:
        window = covering_window(source, grid, halo)
        _require_cover(window, dem, grid)
        require_size(source.crop(window), str(dem.path), "Give a coarser [dem] dem_resolution.")
        values = read(dem.path, [1], window, dem.nodata)[0]
        return values * np.float32(dem.scale), source.crop(window)
    _require_cover(covering_window(source, grid, 0), dem, grid)
    size = dem.dem_resolution or default_grid(info, grid.crs, None).x_size
    left, bottom, right, top = grid.bounds
    height, width = int(np.ceil((top - bottom) / size)), int(np.ceil((right - left) / size))
    around = Grid(grid.crs, Affine(size, 0, left, 0, -size, top), height, width).pad(halo)
    require_size(around, f"{dem.path} at {size:g} m", "Give a coarser [dem] dem_resolution.")
    values = warp(dem.path, around, [1], "cubic", dem.nodata)[0]
    return values * np.float32(dem.scale), around


def _require_cover(window: Window, dem: DemTable, grid: Grid) -> None:
    if window.height == 0 or window.width == 0:
        raise SiteError(f"{dem.path} does not overlap the site ({grid.describe()}). Check its CRS.")


def terrain(dem: DemTable, grid: Grid, encoding: Encoding) -> Iterator[Layer]:
    """Elevation, slope, curvature and aspect, taken at the DEM's resolution and brought to `grid`."""
    z, own = read_dem(dem, grid)
    size = own.x_size, own.y_size

    def on_grid(values: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(warp_array(values[None], own, grid)[0])

    yield Channel("elevation", "elevation", "factor", "m"), on_grid(z)
    yield Channel("slope", "slope", "factor", "degree"), on_grid(slope(z, *size, edges=dem.edges))
    yield Channel("curvature", "curvature", "factor", "1/100 m"), on_grid(curvature(z, *size, edges=dem.edges))
    sine, cosine = (on_grid(values) for values in aspect_sin_cos(z, *size, edges=dem.edges))
    if encoding == "planes":
        yield Channel("aspect_sin", "aspect", "factor", "", "sine"), sine
        yield Channel("aspect_cos", "aspect", "factor", "", "cosine"), cosine
    else:
        yield Channel("aspect", "aspect", "factor", "degree"), aspect_from(sine, cosine)


def river_distance(rivers: RiversTable, dem: DemTable | None, grid: Grid) -> NDArray[np.float32]:
    """Distance to the nearest river, (H, W) metres, from lines or from rivers derived from the DEM."""
    if rivers.path is not None:
        return feature_distance(FileTable(path=rivers.path, layer=rivers.layer), grid)
    if dem is None or rivers.from_dem_km2 is None:
        raise SiteError("[rivers] from_dem_km2 needs a [dem]")
    # Water comes from beyond the site: half its size again, as far as the DEM reaches.
    margin = max(grid.height * grid.y_size, grid.width * grid.x_size) / 2
    native = default_grid(read_info(dem.path), grid.crs, None).x_size
    z, own = read_dem(dem, grid, int(np.ceil(margin / (dem.dem_resolution or native))))
    found = rivers_from_elevation(z, own.transform, rivers.from_dem_km2)
    if not found.any():
        raise SiteError(
            f"{dem.path}: no pixel drains {rivers.from_dem_km2:g} km2, so no river is found. "
            "Lower [rivers] from_dem_km2."
        )
    return np.asarray(warp_array(distance(found, own.x_size, own.y_size)[None], own, grid)[0])


def feature_distance(source: FileTable, grid: Grid) -> NDArray[np.float32]:
    """Exact distance from each pixel's centre to the nearest feature burnt all-touched, (H, W) metres.

    Features outside the grid count: the grid is widened until nothing beyond it can be nearer.
    """
    reach = FIRST_REACH
    while True:
        wide = grid.pad(reach)
        if wide.height * wide.width > MOST_PIXELS:
            raise SiteError(
                f"{source.path}: the nearest feature is more than {reach // 4 * grid.x_size / 1000:.0f} km from the "
                "site. Leave the layer out, or give features that are nearer."
            )
        whole = read_vector(source.path, source.layer, grid.crs, wide.bounds)
        burnt = burn(whole.geometry, wide, "touched")
        if burnt.any():
            inner = Window(reach, reach, *grid.shape).slices
            found = distance(burnt, grid.x_size, grid.y_size)[inner]
            if float(found.max()) <= reach * min(grid.x_size, grid.y_size):
                return np.ascontiguousarray(found)
            reach = int(np.ceil(float(found.max()) / min(grid.x_size, grid.y_size))) + 1
        else:
            _require_lines(source)
            reach *= 4


def _require_lines(source: FileTable) -> None:
    frame: gpd.GeoDataFrame = read_vector(source.path, source.layer)
    if frame.empty:
        raise VectorError(f"{source.path} holds no geometry, so no distance to it is defined. Leave the layer out.")


def read_classes(table: ClassTable, grid: Grid) -> tuple[NDArray[np.int32], dict[int, str]]:
    """Class codes on `grid`, (H, W) int32 with -1 where undefined, and what each code stands for in the source."""
    if table.is_raster:
        values = warp(table.path, grid, [1], "nearest", table.nodata)[0]
        _require_classes(table, values)
        codes = np.where(np.isnan(values), -1, np.nan_to_num(values)).astype(np.int32)
        return codes, {int(code): str(int(code)) for code in np.unique(codes) if code >= 0}
    frame = read_vector(table.path, table.layer, grid.crs, grid.bounds)
    if table.field not in frame.columns:
        names = ", ".join(str(name) for name in frame.columns if name != "geometry")
        raise VectorError(f"{table.path} has no field {table.field!r}; its fields are {names}.")
    codes = np.full(grid.shape, -1, np.int32)
    texts = frame[table.field].map(lambda value: str(value).strip())
    meaning = dict(enumerate(sorted(texts.unique())))
    for code, text in meaning.items():
        codes[burn(frame.geometry[texts == text], grid)] = code
    return codes, meaning


def _require_classes(table: ClassTable, values: NDArray[np.float32]) -> None:
    found = np.unique(values[~np.isnan(values)])
    whole = found[(found == np.round(found)) & (found >= 0) & (found < 2**24)]
    if len(whole) < len(found) or len(found) > MOST_CLASSES:
        strange = found[~np.isin(found, whole)] if len(whole) < len(found) else found
        raise SiteError(
            f"{table.path} does not hold classes: {len(found)} different values, such as {strange[0]:g}. Classes are "
            f"at most {MOST_CLASSES} whole numbers from 0 up. Give a class raster, or state nodata where undefined."
        )


def class_table(table: ClassTable, meaning: dict[int, str]) -> tuple[dict[int, str], list[str]]:
    """({code: class}, classes in order): the site's own `classes`, or every value its own class."""
    if not table.classes:
        return meaning, list(dict.fromkeys(meaning.values()))
    known = {code: table.classes[text] for code, text in meaning.items() if text in table.classes}
    return known, list(dict.fromkeys(table.classes.values()))


def class_channels(name: str, table: ClassTable, grid: Grid, encoding: Encoding) -> Iterator[Layer]:
    """One plane per class (`planes`), or one channel of ordinals (`paper`). Unmapped classes are undefined."""
    codes, meaning = read_classes(table, grid)
    known, classes = class_table(table, meaning)
    if encoding == "paper":
        yield Channel(name, name, "factor", "class"), ordinal(codes, known, classes)
        return
    for label, plane in zip(classes, planes(codes, known, classes), strict=True):
        yield Channel(f"{name}_{_word(label)}", name, "factor", "", "class"), plane


def _word(text: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in text.lower()).strip("_")


def further_factor(factor: FactorTable, grid: Grid, encoding: Encoding) -> Iterator[Layer]:
    """A factor that the site names itself, continuous or in classes."""
    if factor.kind == "classes":
        yield from class_channels(factor.name, factor, grid, encoding)
        return
    values = warp(factor.path, grid, [factor.band], "bilinear", factor.nodata)[0]
    values = values * np.float32(factor.scale) + np.float32(factor.offset)
    yield Channel(factor.name, factor.name, "factor", factor.unit), values
