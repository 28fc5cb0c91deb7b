"""The tables of a site file: images, DEM, rivers, faults, lithology, landslides and other factors."""

from __future__ import annotations

import datetime
import difflib
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError
from rasterio.crs import CRS

from landslip.config.strict import Strict
from landslip.factors.table import FACTORS
from landslip.geo.archive import plain
from landslip.geo.raster import RASTER_SUFFIXES, edit_info
from landslip.scenes.scene import CLOUDED, Flag

ROLES = ("coastal", "blue", "green", "red", "nir", "swir1", "swir2")


def _plain(value: Any) -> Any:
    return plain(str(value)) if isinstance(value, str | Path) else value


def _known_crs(text: str) -> str:
    try:
        CRS.from_user_input(text)
    except ValueError as error:  # CRSError is one too.
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
InputPath = Annotated[Path, BeforeValidator(_plain)]
Number = Annotated[float, Field(allow_inf_nan=True)]  # files do state nodata = nan
Nodata = Annotated[tuple[Number, ...], BeforeValidator(partial(_one_or_more, wanted="a number, or a list of numbers"))]
Marks = Annotated[
    tuple[int, ...], BeforeValidator(partial(_one_or_more, wanted="a whole number, or a list of whole numbers"))
]


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
    """A file; `layer` is that of a vector file that has several, `crs` that of one that carries none."""

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
        keys = self.model_fields_set
        sources = [key for key in ("path", "files", "bundle") if key in keys]
        if len(sources) != 1:
            raise ValueError(f"give one of `path`, `files` and `bundle`, not {' and '.join(sources) or 'none of them'}")
        source = sources[0]
        misplaced = [key for key in _KEYS_OF if key in keys and source not in _KEYS_OF[key]]
        if misplaced:
            owners = " or ".join(f"`{name}`" for name in _KEYS_OF[misplaced[0]])
            raise ValueError(f"`{misplaced[0]}` belongs to an image with {owners}, not to one with `{source}`")
        if not self.bands:
            raise ValueError(f"`{source}` names no band: give `bands`")
        if source == "bundle" and not set(self.bands) <= set(ROLES):
            unknown = sorted(set(self.bands) - set(ROLES))
            raise ValueError(f"a bundle has no band {', '.join(unknown)}; its bands are {', '.join(ROLES)}")
        if source == "bundle" and set(self.bands.values()) != {1}:
            raise ValueError("the `bands` of a bundle are a list of roles, without numbers")
        if source == "files" and self.bands != dict.fromkeys(self.files, 1):
            raise ValueError("`files` name the bands themselves: leave `bands` out")
        if source == "files" and self.metadata is None and not {"scale", "offset"} <= keys:
            raise ValueError(
                "`files` need their scaling: give `metadata` (Sentinel-2's MTD_MSIL2A.xml), or both scale and offset "
                "(scale = 1, offset = 0 where the files hold reflectance). It is never assumed"
            )
        if self.metadata is not None and {"scale", "offset"} & keys:
            raise ValueError("give either `metadata` or scale and offset: scaling is applied once")
        return self

    def fills(self, other: ImageTable) -> bool:
        """Whether this image fills another where that is clouded: both are bundles, and give the same bands."""
        return self.bundle is not None and other.bundle is not None and self.bands.keys() == other.bands.keys()

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
    `relative_elevation`: elevation less its mean within 64 pixels of the DEM. `scales`: windows, in pixels of the DEM,
    that position on the slope, relief, roughness and the range of aspect are taken in.
    """

    path: InputPath
    dem_resolution: float | None = Field(None, gt=0)
    nodata: Nodata = ()
    scale: float = Field(1.0, gt=0)
    edges: Literal["undefined", "one-sided"] = "undefined"
    curvatures: tuple[Literal["plan", "profile"], ...] = ()
    relative_elevation: bool = False
    scales: tuple[Literal[5, 15, 31], ...] = ()

    @model_validator(mode="after")
    def _each_once(self) -> DemTable:
        if len(set(self.scales)) < len(self.scales):
            raise ValueError(f"scales {list(self.scales)} name a window twice")
        return self


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
            raise ValueError(f"factor name {self.name!r} is one that landslip derives itself; give yours another")
        return self
