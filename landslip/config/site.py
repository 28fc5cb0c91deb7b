"""Site files: the facts about a place, read from TOML into validated values, and the grid they stand for."""

from __future__ import annotations

import dataclasses
import datetime
import difflib
import math
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import shapely
from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError
from rasterio.crs import CRS

from landslip.config.strict import Strict, validated
from landslip.errors import GridError, LandslipError, SiteError
from landslip.geo.archive import plain
from landslip.geo.geodesy import ellipsoid
from landslip.geo.grid import Grid, Window, metric_fault
from landslip.geo.raster import FARTHEST, RASTER_SUFFIXES, RasterInfo, edit_info, read_info
from landslip.geo.warp import default_grid
from landslip.runtime.text import read_toml
from landslip.scenes.pansharpen import SHARPENED
from landslip.scenes.scene import CLOUDED, Flag, Scene, listed_scene, read_bundle

if TYPE_CHECKING:
    import geopandas as gpd

ROLES = ("coastal", "blue", "green", "red", "nir", "swir1", "swir2")
FACTORS = (
    "elevation",
    "slope",
    "aspect",
    "curvature",
    "plan_curvature",
    "profile_curvature",
    "ndvi",
    "mndwi",
    "dndvi",
    "distance_to_river",
    "distance_to_fault",
    "lithology",
)
LONGEST_NAME = 255  # bytes


def _nameable(path: Path) -> Path:
    if any(len(os.fsencode(part)) > LONGEST_NAME for part in path.parts):
        raise ValueError(f"no file system has names of more than {LONGEST_NAME} bytes")
    return path


def _plain(value: Any) -> Any:
    return plain(str(value)) if isinstance(value, str | Path) else value


def _known_crs(text: str) -> str:
    try:
        CRS.from_user_input(text)
    except ValueError as error:  # CRSError is one, and codes that are no numbers raise the bare one
        raise ValueError(f"{text!r} is no CRS. Write its code, such as EPSG:4326") from error
    return text


def _one_or_more(value: Any, wanted: str) -> Any:
    """A number as the list of one that it stands for; what is neither is refused with what is `wanted`."""
    if isinstance(value, int | float):
        return (value,)
    if not isinstance(value, list | tuple):
        raise PydanticCustomError("one_or_more", wanted)
    return value


_KEYS_OF = {  # keys of [[image]] that not every source takes
    "metadata": ("files",),
    "scale": ("path", "files"),
    "offset": ("path", "files"),
    "nodata": ("path", "files"),
    "unit": ("path", "files"),
    "mask": ("bundle",),
    "saturation": ("bundle",),
    "pansharpen": ("bundle",),
}
Code = Annotated[str, AfterValidator(_known_crs)]
InputPath = Annotated[Path, BeforeValidator(_plain), AfterValidator(_nameable)]
Number = Annotated[float, Field(allow_inf_nan=True)]  # files do state nodata = nan
Nodata = Annotated[tuple[Number, ...], BeforeValidator(partial(_one_or_more, wanted="a number, or a list of numbers"))]
Marks = Annotated[
    tuple[int, ...], BeforeValidator(partial(_one_or_more, wanted="a whole number, or a list of whole numbers"))
]
EARTH = (6.3e6, 6.4e6)  # its radius at the equator lies between, metres
MOST_PIXELS = 2_000_000_000  # of a grid


class GridTable(Strict):
    """[grid]: where left out, the first image's own CRS and pixels, cut to the outline.

    `extent` cuts it to a rectangle too: left, bottom, right and top in metres of the grid's CRS, the nearest pixels.
    """

    crs: str | None = None
    resolution: float | None = Field(None, gt=0, description="metres")
    extent: tuple[float, float, float, float] | None = None

    @field_validator("extent")
    @classmethod
    def _ordered(cls, extent: tuple[float, float, float, float] | None) -> tuple[float, float, float, float] | None:
        if extent is not None and not (extent[0] < extent[2] and extent[1] < extent[3]):
            raise ValueError(f"{list(extent)} is not left, bottom, right, top")
        return extent


class FileTable(Strict):
    """A file, with a layer where it is a vector file that has several; `crs` is that of one that carries none."""

    path: InputPath
    layer: str | None = None
    crs: Code | None = None

    @model_validator(mode="after")
    def _crs_of_features(self) -> FileTable:
        if self.crs is not None and self.is_raster:
            raise ValueError(f"crs is for vector files. A raster is given its own: {edit_info(self.path, self.crs)}")
        return self

    @property
    def is_raster(self) -> bool:
        """Whether the name is that of a raster."""
        return self.path.suffix.lower() in RASTER_SUFFIXES


class ImageTable(Strict):
    """[[image]]: optical bands by role (or any name), from one of three sources.

    - `path` and `bands`: a file with several bands; value = stored x scale + offset, applied once. `unit` names what
      that is; left out, it is "reflectance" where values are scaled or both keys are given, else "stored".
    - `files`: a file per band, scaled by `scale` and `offset`, both given, or as Sentinel-2's `metadata` says.
    - `bundle`: a Landsat-8/9 or Sentinel-2 scene as downloaded, scaled as its metadata says; `bands` lists the roles
      that are taken, all seven where it is left out. `mask` says which pixels of its quality raster are undefined,
      besides fill; `saturation`, whether saturated ones are; `pansharpen`, whether band 8 gives green and red its
      detail (left out: yes, where there is a band 8 and the site's pixels are smaller than 30 m).

    Bundles with the same bands are one image: where the first is clouded the next fills it. `scene` and `date` are what
    the inventory says the landslides were seen in; a bundle says them itself.
    """

    path: InputPath | None = None
    bundle: InputPath | None = None
    files: dict[str, InputPath] = {}
    bands: dict[str, int] = {}
    metadata: InputPath | None = None
    scale: float = 1.0
    offset: float = 0.0
    nodata: Nodata = ()
    unit: str = ""
    mask: tuple[Flag, ...] = CLOUDED
    saturation: bool = True
    pansharpen: bool | None = None
    scene: str = ""
    date: datetime.date | None = None

    @model_validator(mode="before")
    @classmethod
    def _bands_of_the_source(cls, table: Any) -> Any:
        """Bands by name and number for every source, so that the rest need not ask which it is."""
        if not isinstance(table, dict):
            return table
        roles = table.get("bands", ROLES)
        if "bundle" in table and isinstance(roles, list | tuple) and all(isinstance(role, str) for role in roles):
            return {**table, "bands": dict.fromkeys(roles, 1)}
        if isinstance(table.get("files"), dict) and "bands" not in table:
            return {**table, "bands": dict.fromkeys(table["files"], 1)}
        return table

    @model_validator(mode="after")
    def _one_source(self) -> ImageTable:
        given = self.model_fields_set
        sources = [key for key in ("path", "files", "bundle") if key in given]
        if len(sources) != 1:
            raise ValueError(f"give one of `path`, `files` and `bundle`, not {' and '.join(sources) or 'none of them'}")
        source = sources[0]
        strange = [key for key in _KEYS_OF if key in given and source not in _KEYS_OF[key]]
        if strange:
            owners = " or ".join(f"`{name}`" for name in _KEYS_OF[strange[0]])
            raise ValueError(f"`{strange[0]}` belongs to an image with {owners}, not to one with `{source}`")
        if not self.bands:
            raise ValueError(f"`{source}` names no band: give `bands`")
        if source == "bundle" and not set(self.bands) <= set(ROLES):
            strange = sorted(set(self.bands) - set(ROLES))
            raise ValueError(f"a bundle has no band {', '.join(strange)}; its bands are {', '.join(ROLES)}")
        if source == "bundle" and set(self.bands.values()) != {1}:
            raise ValueError("the `bands` of a bundle are a list of roles, without numbers")
        if source == "files" and self.bands != dict.fromkeys(self.files, 1):
            raise ValueError("`files` name the bands themselves: leave `bands` out")
        if source == "files" and self.metadata is None and not {"scale", "offset"} <= given:
            raise ValueError(
                "`files` need their scaling: give `metadata` (Sentinel-2's MTD_MSIL2A.xml), or both scale and offset "
                "(scale = 1, offset = 0 where the files hold reflectance). It is never assumed"
            )
        if self.metadata is not None and {"scale", "offset"} & given:
            raise ValueError("give either `metadata` or scale and offset: scaling is applied once")
        return self

    @field_validator("bands")
    @classmethod
    def _names(cls, bands: dict[str, int]) -> dict[str, int]:
        for name, number in bands.items():
            if not name.isidentifier() or name != name.lower():
                raise ValueError(f"band name {name!r} must be lower-case letters, digits and underscores")
            if name in FACTORS or name.startswith(("aspect_", "lithology_")):
                raise ValueError(f"band name {name!r} is the name of a factor; give the band another")
            near = difflib.get_close_matches(name.replace("_", ""), ROLES, 1, 0.8 if name.isalpha() else 0.9)
            if near and name not in ROLES:
                raise ValueError(f"unknown role {name!r}: did you mean {near[0]!r}?")
            if number < 1:
                raise ValueError(f"band {name} = {number}: bands are counted from 1")
        return bands


class DemTable(Strict):
    """[dem]: elevation, stored x `scale` in metres. `dem_resolution` (metres) where the file repeats coarser pixels.

    `curvatures`: "plan" and "profile" (Zevenbergen & Thorne), taken beside the standard curvature.
    """

    path: InputPath
    dem_resolution: float | None = Field(None, gt=0)
    nodata: Nodata = ()
    scale: float = Field(1.0, gt=0)
    edges: Literal["undefined", "one-sided"] = "undefined"
    curvatures: tuple[Literal["plan", "profile"], ...] = ()


class RiversTable(Strict):
    """[rivers]: lines, or rivers derived from the DEM where at least `from_dem_km2` drain through a pixel."""

    path: InputPath | None = None
    layer: str | None = None
    crs: Code | None = None
    from_dem_km2: float | None = Field(None, gt=0)

    @model_validator(mode="after")
    def _one_source(self) -> RiversTable:
        if (self.path is None) == (self.from_dem_km2 is None):
            raise ValueError("give either `path` or `from_dem_km2`")
        return self


class ClassTable(FileTable):
    """Classes as a raster of codes or as polygons with a field; `classes` maps each to a class of the map.

    Left out, each is a class of its own, called by the name that the raster itself has for a code, where it has one.
    """

    field: str | None = None
    classes: dict[str, str] = {}
    nodata: Nodata = ()

    @model_validator(mode="after")
    def _field_of_polygons(self) -> ClassTable:
        if not self.is_raster and self.field is None:
            raise ValueError(f"{self.path} holds polygons: give the `field` that names their class")
        return self


class LandslidesTable(FileTable):
    """[landslides]: outlines, or a mask (1 landslide, 0 not, 255 or nodata unknown).

    Of an inventory that was reviewed, what was accepted, redrawn or drawn is landslide, what is still open unknown.
    `landslide`: the values of a mask that mean landslide, one or several, where it is not 1; all others then mean other
    ground, but for nodata and a 255 that is not among them.
    """

    burn: Literal["centre", "majority", "touched"] = "centre"
    landslide: Marks = ()

    @model_validator(mode="after")
    def _values_of_a_mask(self) -> LandslidesTable:
        if self.landslide and not self.is_raster:
            raise ValueError(f"`landslide` names values of a mask, and {self.path} is not a raster: leave it out")
        return self


class FactorTable(ClassTable):
    """[[factor]]: a further factor by name, continuous or in classes."""

    name: str
    kind: Literal["continuous", "classes"] = "continuous"
    unit: str = ""
    scale: float = 1.0
    offset: float = 0.0
    band: int = Field(1, ge=1)

    @model_validator(mode="after")
    def _field_of_polygons(self) -> FactorTable:
        if not self.is_raster:
            if self.kind == "continuous":
                raise ValueError(f"factor {self.name}: {self.path} is not a raster; only classes can be polygons")
            if self.field is None:
                raise ValueError(f"factor {self.name}: {self.path} holds polygons: give the `field` of their class")
        if not self.name.isidentifier() or self.name != self.name.lower():
            raise ValueError(f"factor name {self.name!r} must be lower-case letters, digits and underscores")
        if self.name in FACTORS or self.name in ROLES:
            raise ValueError(f"factor name {self.name!r} is taken by landslip itself; give it another")
        return self


class Site(Strict):
    """One study area: its inputs and its outline. All paths are resolved when it is read."""

    name: str = Field(min_length=1)
    data: InputPath | None = Field(None, description="folder that the paths below start at")
    grid: GridTable = GridTable()
    outline: FileTable | None = None
    image: tuple[ImageTable, ...] = ()
    before: tuple[ImageTable, ...] = ()
    dem: DemTable | None = None
    rivers: RiversTable | None = None
    faults: FileTable | None = None
    lithology: ClassTable | None = None
    landslides: LandslidesTable | None = None
    factor: tuple[FactorTable, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Site:
        if not self.image and self.dem is None and not self.factor:
            raise ValueError("a site needs an [[image]], a [dem] or a [[factor]]: there is nothing to map from")
        names = list(dict.fromkeys(name for image in self.image for name in image.bands)) + [
            f.name for f in self.factor
        ]
        twice = sorted({name for name in names if names.count(name) > 1})
        for images in (self.image, self.before):
            sets = [tuple(group[0].bands) for group in one_image(images)]
            twice += sorted({name for bands in sets for name in bands if sum(name in other for other in sets) > 1})
        if twice:
            raise ValueError(
                f"named twice: {', '.join(dict.fromkeys(twice))}. Only bundles that give the same bands fill each other"
            )
        if self.rivers is not None and self.rivers.from_dem_km2 is not None and self.dem is None:
            raise ValueError("[rivers] from_dem_km2 needs a [dem]")
        if self.before:
            bands = [name for image in self.before for name in image.bands]
            missing = [role for role in ("red", "nir") if role not in bands or role not in names]
            if missing:
                raise ValueError(f"[[before]] adds dNDVI, which needs {' and '.join(missing)} before and after")
        return self

    def inputs(self) -> list[tuple[str, Path]]:
        """(what it is, path) of every input file, in the order of the site file."""
        found: list[tuple[str, Path]] = []
        for which, images in (("image", self.image), ("before", self.before)):
            for i, image in enumerate(images):
                found.extend((f"{which}[{i}]", path) for path in _files_of(image))
        for what in ("outline", "dem", "rivers", "faults", "lithology", "landslides"):
            table = getattr(self, what)
            if table is not None and table.path is not None:
                found.append((what, table.path))
        found.extend((f"factor {f.name}", f.path) for f in self.factor)
        return found


def read_site(path: Path | str, data: Path | str | None = None) -> Site:
    """Read a site file. Paths in it start at its `data` folder, else at its own folder; `data` overrides both.

    A file in an archive is `archive.zip/file`, or as GDAL has it. Raises SiteError that lists every fault of the file.
    """
    path = Path(path)
    site = validated(Site, read_toml(path, SiteError), path, SiteError)
    if data is not None:
        try:
            data = Path(plain(str(data)))
        except ValueError as error:
            raise SiteError(f"--data: {error}.") from error
    root = path.parent if site.data is None else path.parent / site.data
    return _resolve(site, root if data is None else Path(data))


def one_image(images: Sequence[ImageTable]) -> list[list[ImageTable]]:
    """Images in groups: bundles that give the same bands fill each other, in the order given; others stand alone."""
    groups: list[list[ImageTable]] = []
    for image in images:
        same = [g for g in groups if image.bundle and g[0].bundle and g[0].bands.keys() == image.bands.keys()]
        if same:
            same[0].append(image)
        else:
            groups.append([image])
    return groups


def scene_of(image: ImageTable) -> Scene | None:
    """The scene that a bundle or `files` make; None for an image that is one file.

    Raises SiteError for missing files and corrupt metadata.
    """
    if image.bundle is not None:
        return read_bundle(image.bundle, tuple(image.bands), image.pansharpen, image.saturation)
    if image.files:
        return listed_scene(image.files, image.scale, image.offset, image.metadata, image.nodata, image.unit)
    return None


def _files_of(image: ImageTable) -> tuple[Path, ...]:
    """The files of an image; of a bundle that cannot be read, which `check` says, the bundle."""
    if image.path is not None:
        return (image.path,)
    try:
        scene = scene_of(image)
    except LandslipError:
        scene = None
    named = tuple(path for path in (image.bundle, *image.files.values(), image.metadata) if path is not None)
    return named if scene is None else scene.files


def _resolve_image(image: ImageTable, root: Path) -> ImageTable:
    """Paths from `root`; the scene's name and date where the site file leaves them to the metadata."""
    paths: dict[str, Any] = {
        key: root / value for key in ("path", "bundle", "metadata") if (value := getattr(image, key))
    }
    paths["files"] = {role: root / path for role, path in image.files.items()}
    image = image.model_copy(update=paths)
    try:
        scene = scene_of(image)
    except LandslipError:  # named by `check`, with whatever else is wrong
        scene = None
    if scene is None:
        return image
    return image.model_copy(update={"scene": image.scene or scene.name, "date": image.date or scene.date})


def _resolve(site: Site, root: Path) -> Site:
    def resolved(table: Any) -> Any:
        if isinstance(table, tuple):
            return tuple(resolved(item) for item in table)
        if isinstance(table, ImageTable):
            return _resolve_image(table, root)
        if isinstance(table, BaseModel) and getattr(table, "path", None) is not None:
            return table.model_copy(update={"path": root / table.path})  # type: ignore[attr-defined]
        return table

    return site.model_copy(update={name: resolved(getattr(site, name)) for name in Site.model_fields})


def site_grid(site: Site) -> Grid:
    """The grid of a site: [grid] where given, else the first image's (or the DEM's) own, cut to the outline.

    Raises GridError where that is not a projected grid in metres, or does not meet the outline.
    """
    reference = _reference(site)
    crs = _grid_crs(site, reference)
    fault = metric_fault(crs)
    if fault is not None:
        origin = "[grid] crs" if site.grid.crs else str(reference.path)
        raise GridError(
            f"{origin} cannot be the site's grid: {fault}. Give [grid] a projected crs in metres{_zone_of(reference)}, "
            "and a resolution."
        )
    if reference.crs == crs and not reference.rotated and site.grid.resolution is None:
        whole = reference.grid
    else:
        whole = default_grid(reference, crs, site.grid.resolution)
    if site.grid.extent is not None:
        whole = _cut_to_extent(site.grid.extent, whole, reference.path)
    grid = whole if site.outline is None else _cut_to_outline(site.outline, whole, reference.path)
    require_size(grid, "the site's grid", "Give an [outline], or a coarser [grid] resolution.")
    return grid


def _zone_of(info: RasterInfo) -> str:
    """The UTM zone that a raster lies in, as an example; empty where that cannot be told, or is no place on Earth."""
    if info.crs is None or info.rotated or not EARTH[0] < ellipsoid(info.crs).a < EARTH[1]:
        return ""
    import geopandas as gpd  # here, so that a fault of the site file is told before geopandas is there

    try:
        zone = gpd.GeoSeries([shapely.box(*info.grid.bounds)], crs=info.crs.to_wkt()).estimate_utm_crs()
    except (ValueError, RuntimeError, LandslipError):  # beyond 84 degrees north or 80 south there is none
        return ""
    return f', such as crs = "{zone.to_string()}" where it lies'


def require_size(grid: Grid, what: str, remedy: str) -> None:
    """Raise GridError for a grid of more than MOST_PIXELS."""
    if grid.height * grid.width > MOST_PIXELS:
        raise GridError(f"{what} would have {grid.describe()}, more than {MOST_PIXELS:,} in all. {remedy}")


def read_outline(outline: FileTable, crs: CRS) -> gpd.GeoDataFrame:
    """The study-area outline in `crs`: one or more polygons."""
    from landslip.geo.vector import (
        read_vector,  # here, so that a fault of the site file is told before geopandas is there
    )

    frame = read_vector(outline.path, outline.layer, crs, stated=outline.crs)
    polygons = frame[frame.geom_type.isin(["Polygon", "MultiPolygon"])]
    if polygons.empty:
        raise SiteError(f"{outline.path} holds no polygon. The outline is the polygon of the study area.")
    return polygons


def _reference(site: Site) -> RasterInfo:
    """The raster whose pixels the grid takes, as large as all scenes of the first image together."""
    path = image_raster(site.image[0], site.grid) if site.image else site.dem.path if site.dem else None
    if path is None:
        rasters = [factor.path for factor in site.factor if factor.is_raster]
        if not rasters:
            raise SiteError(f"site {site.name!r} has no raster to take the grid from. Add an [[image]] or a [dem].")
        path = rasters[0]
    info = read_info(path)
    scenes = one_image(site.image)[0] if site.image else []
    return _with_others(info, scenes[1:], site.grid)


def _with_others(info: RasterInfo, others: Sequence[ImageTable], grid: GridTable) -> RasterInfo:
    """The first scene's raster, made larger by whole pixels so that scenes which fill it lie on it too."""
    if not others or info.crs is None or info.rotated:
        return info
    own = info.grid
    part = Window(0, 0, *own.shape)
    for image in others:
        try:
            other = read_info(image_raster(image, grid))
        except LandslipError:  # named by `check`
            continue
        if other.crs == info.crs and not other.rotated:
            part = _together(part, _pixels_within(other.grid.bounds, own))
    whole = own.crop(part)
    return dataclasses.replace(info, transform=whole.transform, height=whole.height, width=whole.width)


def _together(a: Window, b: Window) -> Window:
    row, column = min(a.row, b.row), min(a.column, b.column)
    last_row, last_column = (max(a.row + a.height, b.row + b.height), max(a.column + a.width, b.column + b.width))
    return Window(row, column, last_row - row, last_column - column)


def image_raster(image: ImageTable, grid: GridTable) -> Path:
    """The raster whose pixels are an image's own: the finest of a scene, and band 8 where it sharpens others."""
    scene = scene_of(image)
    if scene is None:
        return Path(str(image.path))
    finest = min((band.path for band in scene.bands.values()), key=lambda path: read_info(path).transform.a)
    if sharpens(image, scene) and (grid.resolution is None or grid.resolution < read_info(finest).transform.a):
        return scene.pan.path if scene.pan else finest
    return finest


def sharpens(image: ImageTable, scene: Scene) -> bool:
    """Whether band 8 of an image's scene is there, wanted, and of use to one of its bands."""
    return scene.pan is not None and image.pansharpen is not False and bool(set(SHARPENED) & set(image.bands))


def _grid_crs(site: Site, reference: RasterInfo) -> CRS:
    if site.grid.crs is not None:
        try:
            return CRS.from_user_input(site.grid.crs)
        except ValueError as error:
            raise GridError(f"[grid] crs = {site.grid.crs!r} is not a CRS ({error}).") from error
    if reference.crs is None:
        return reference.grid.crs  # which it has not, and says how it is given one
    return reference.crs


def _cut_to_extent(extent: tuple[float, float, float, float], whole: Grid, origin: Path) -> Grid:
    """The grid cut at the pixel borders nearest to an extent, so that two extents that meet share no pixel."""
    left, bottom, right, top = extent
    x, y = whole.transform.c, whole.transform.f
    column, last_column = (round((at - x) / whole.x_size) for at in (left, right))
    row, last_row = (round((y - at) / whole.y_size) for at in (top, bottom))
    window = Window(row, column, last_row - row, last_column - column)
    remedy = "Give left, bottom, right and top in metres of the grid's CRS."
    return _cut(whole, window, "[grid] extent", extent, origin, remedy)


def _cut_to_outline(outline: FileTable, whole: Grid, origin: Path) -> Grid:
    bounds = tuple(read_outline(outline, whole.crs).total_bounds)
    if not all(abs(at) < FARTHEST for at in bounds):  # NaN too
        told = ", ".join(f"{at:.4g}" for at in bounds)
        raise GridError(
            f"{outline.path} reaches from and to {told}, where nothing lies. Check its CRS, or draw it anew."
        )
    return _cut(whole, _pixels_within(bounds, whole), str(outline.path), bounds, origin, "Check the CRS of both.")


def _pixels_within(bounds: tuple[float, float, float, float], grid: Grid) -> Window:
    """The window of a grid's pixels, or of those beyond it, that covers bounds in its CRS."""
    left, bottom, right, top = bounds
    x, y = grid.transform.c, grid.transform.f
    nudge = 1e-6  # an outline drawn on pixel borders takes no further pixel
    column = math.floor((left - x) / grid.x_size + nudge)
    row = math.floor((y - top) / grid.y_size + nudge)
    last_column = math.ceil((right - x) / grid.x_size - nudge)
    last_row = math.ceil((y - bottom) / grid.y_size - nudge)
    return Window(row, column, last_row - row, last_column - column)


def _cut(
    whole: Grid, window: Window, what: str, bounds: tuple[float, float, float, float], origin: Path, remedy: str
) -> Grid:
    """The part of the grid of `origin` in a window; GridError, with the bounds of `what`, where they do not meet."""
    inside = window.clip(whole.shape)
    if inside.height == 0 or inside.width == 0:
        left, bottom, right, top = bounds
        raise GridError(
            f"{what} (x {left:.0f} to {right:.0f}, y {bottom:.0f} to {top:.0f}) does not overlap {origin} "
            f"({whole.describe()}). {remedy}"
        )
    return whole.crop(inside)
