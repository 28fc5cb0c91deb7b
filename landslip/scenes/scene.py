"""Scenes as they are downloaded: what the metadata of a bundle says of its bands, scaling, quality and date.

Landsat-8/9 OLI Collection 2, Level-1 and Level-2, a folder or a .tar (USGS, LSDS-1822 and LSDS-1328, data format
control books); Sentinel-2 Level-2A, a .SAFE folder or its .zip (ESA, Sentinel-2 products specification document). Only
metadata is read here; pixels are read by whoever takes a `Scene`, through raster.py. Nothing is ever unpacked.
"""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from landslip.errors import SiteError
from landslip.geo.archive import (
    MEMBERS,
    START,
    UNREADABLE,
    archive_of,
    decoded,
    names,
    own_file,
    text_in,
)
from landslip.runtime.text import parse_json

Flag = Literal["dilated_cloud", "cirrus", "cloud", "shadow", "snow"]
CLOUDED: tuple[Flag, ...] = ("dilated_cloud", "cirrus", "cloud", "shadow")  # masked where a site file says nothing

TOA, SURFACE = "TOA reflectance", "surface reflectance"  # units of channels

LANDSAT_BANDS = {"coastal": 1, "blue": 2, "green": 3, "red": 4, "nir": 5, "swir1": 6, "swir2": 7}
LANDSAT_PAN = 8
LANDSAT_MAXIMUM = 65535  # the DN that band 8, which QA_RADSAT says nothing of, saturates at
QA_PIXEL_BITS = {"fill": (0,), "dilated_cloud": (1,), "cirrus": (2,), "cloud": (3,), "shadow": (4,), "snow": (5,)}
LANDSAT_ROOT = "LANDSAT_METADATA_FILE"

SENTINEL_BANDS = {
    "coastal": "B01", "blue": "B02", "green": "B03", "red": "B04", "nir": "B08", "swir1": "B11", "swir2": "B12",
}  # fmt: skip
SENTINEL_OFFSET_IDS = {  # band_id of BOA_ADD_OFFSET
    "B01": 0, "B02": 1, "B03": 2, "B04": 3, "B08": 7, "B11": 11, "B12": 12,
}  # fmt: skip
SCL_CLASSES = {"fill": (0,), "cirrus": (10,), "cloud": (8, 9), "shadow": (3,), "snow": (11,)}
SCL_SATURATED = 1  # or defective
SENTINEL_METADATA = "MTD_MSIL2A.xml"
FIRST_WITH_OFFSET = 4.0  # processing baseline from which DN carry an offset

MOST_REFLECTANCE = 1000.0  # that a stored value can stand for, or an offset be: beyond it the metadata is altered
LOWEST_SUN = 0.01  # degrees
# GeoTIFF and BigTIFF in both byte orders, JPEG 2000
PICTURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"\0\0\0\x0cjP  \r\n\x87\n")


@dataclass(frozen=True)
class Band:
    """One band: value = stored x scale + offset, once. `saturated` is its bit of the saturation raster."""

    path: Path
    scale: float
    offset: float
    number: int = 1
    nodata: tuple[float, ...] = (0,)
    saturated: int | None = None


@dataclass(frozen=True)
class Quality:
    """The raster that says what a pixel shows: as bits of a number, or as one class. `meaning` names them.

    `saturated_class` is the class of pixels that are saturated in some band.
    """

    path: Path
    meaning: Mapping[str, tuple[int, ...]]
    bits: bool
    saturated_class: int | None = None

    def unusable(self, stored: NDArray[np.floating[Any]], flags: Sequence[str], saturation: bool) -> NDArray[np.bool_]:
        """(H, W) bool: fill, undefined, or marked as one of `flags`. `stored` is the raster (H, W), NaN undefined."""
        found = self.shows(stored, "fill")
        for flag in flags:
            found |= self.shows(stored, flag)
        if saturation and self.saturated_class is not None:
            found |= stored == self.saturated_class
        return found

    def shows(self, stored: NDArray[np.floating[Any]], flag: str) -> NDArray[np.bool_]:
        """(H, W) bool: where the raster says `flag`; fill also where it is undefined."""
        undefined = np.isnan(stored)
        codes = np.where(undefined, 0, stored).astype(np.uint16)
        found = np.zeros(stored.shape, bool)
        for code in self.meaning.get(flag, ()):
            found |= (codes >> np.uint16(code)) & np.uint16(1) == 1 if self.bits else codes == code
        return np.asarray(found | undefined if flag == "fill" else found & ~undefined)


@dataclass(frozen=True)
class Scene:
    """What a bundle holds, by its metadata: bands by role with their scaling, quality, name, date.

    `unit` is that of the bands once scaled; `pan` is band 8 where it is there and wanted; `files` are all that is read.
    """

    origin: Path
    name: str
    date: datetime.date | None
    unit: str
    bands: Mapping[str, Band]
    quality: Quality | None = None
    saturation: Path | None = None
    pan: Band | None = None
    metadata: tuple[Path, ...] = field(default=())

    @property
    def rasters(self) -> tuple[Path, ...]:
        """Every raster that is read, bands first."""
        others = (self.pan and self.pan.path, self.quality and self.quality.path, self.saturation)
        return (*(band.path for band in self.bands.values()), *(path for path in others if path))

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file that is read; of an archive, the archive."""
        return tuple(dict.fromkeys(own_file(path) for path in (*self.metadata, *self.rasters)))


def read_bundle(origin: Path, roles: Sequence[str], pan: bool | None = None, saturation: bool = True) -> Scene:
    """The scene in a folder or archive, by its metadata; bands as `roles` asks.

    `pan`: whether band 8 is wanted; None where it is wanted of a bundle that has one. Raises SiteError for a bundle
    that is neither Landsat-8/9 Collection 2 nor Sentinel-2 Level-2A, for corrupt metadata, and for missing files.
    """
    folder = _Folder(origin)
    folder.require_one_scene()
    scene = _scene_in(folder, roles, pan, saturation)
    if origin.is_dir():
        _require_pictures(scene.rasters)
    return scene


def _scene_in(folder: _Folder, roles: Sequence[str], pan: bool | None, saturation: bool) -> Scene:
    origin = folder.origin
    if folder.find("_MTL.json", "_MTL.txt"):
        return _landsat(folder, roles, pan, saturation)
    if pan:
        raise SiteError(f"{origin}: pansharpen needs band 8 of a Landsat Level-1 bundle. Leave pansharpen out.")
    if folder.find(SENTINEL_METADATA) or origin.name.upper().removesuffix(".ZIP").endswith(".SAFE"):
        return _sentinel(folder, roles)
    raise SiteError(
        f"{origin} holds neither *_MTL.json nor *_MTL.txt (Landsat-8/9 Collection 2) nor {SENTINEL_METADATA} "
        "(Sentinel-2 Level-2A): without metadata nobody knows its scaling. Fetch the bundle again, or give its bands "
        "as `files` with scale and offset."
    )


def _require_pictures(paths: Sequence[Path]) -> None:
    """Raise SiteError for a band that is no GeoTIFF or JPEG 2000: a VRT under such a name leads to any other file."""
    for path in paths:
        try:
            with path.open("rb") as file:
                begin = file.read(len(PICTURES[-1]))
        except OSError as error:
            raise SiteError(f"{path} cannot be read ({error.strerror or error}). Fetch the bundle again.") from error
        if not begin.startswith(PICTURES):
            raise SiteError(
                f"{path} cannot be read as a band: it is neither a GeoTIFF nor a JPEG 2000. Fetch the bundle again."
            )


class _Folder:
    """The files of a folder or of an archive, by where they lie; only metadata is read from it."""

    def __init__(self, origin: Path) -> None:
        self.origin = origin
        # neither what some systems put beside every file (._ and its name) nor what would lie outside the archive
        self.names = [
            name
            for name in self._names()
            if not name.rsplit("/", 1)[-1].startswith("._") and not name.startswith("/") and ".." not in name.split("/")
        ]

    def _names(self) -> list[str]:
        if self.origin.is_dir():
            return [path.relative_to(self.origin).as_posix() for path in sorted(self.origin.rglob("*"))[:MEMBERS]]
        if not self.origin.exists():
            raise SiteError(f"{self.origin} does not exist. {START}")
        try:
            if self.origin.suffix.lower() in (".tar", ".zip"):
                return names(self.origin)
        except UNREADABLE as error:
            raise SiteError(
                f"{self.origin} cannot be read as an archive ({error}): it is truncated or damaged. Fetch it again."
            ) from error
        if self.origin.name.lower().endswith((".tar.gz", ".tgz")):
            raise SiteError(f"{self.origin} is compressed: unpack it with gunzip, and give the .tar.")
        raise SiteError(f"{self.origin} is no bundle: give its folder, its .tar, or the .zip of a .SAFE folder.")

    def find(self, *endings: str) -> str | None:
        """The first file whose name ends so, those least deep first; an earlier ending is preferred."""
        for ending in endings:
            found = [name for name in self.names if name.rsplit("/", 1)[-1].endswith(ending)]
            if found:
                return min(found, key=lambda name: (name.count("/"), name))
        return None

    def require_one_scene(self) -> None:
        """Raise SiteError where there is metadata of several scenes, of which one would be taken by chance."""
        kinds = ("_MTL.json", "_MTL.txt", "/" + SENTINEL_METADATA)
        for kind in kinds:
            found = [name for name in self.names if f"/{name}".endswith(kind)]
            if len(found) > 1:
                raise SiteError(
                    f"{self.origin} holds several scenes ({found[0]}, {found[1]}). Give each an [[image]] of its own."
                )

    def text(self, name: str) -> str:
        """A file's text; SiteError where it cannot be read."""
        try:
            return decoded((self.origin / name).open("rb")) if self.origin.is_dir() else text_in(self.origin, name)
        except UNREADABLE as error:
            raise corrupt(self.origin / name, str(error)) from error

    def require(self, wanted: Mapping[str, str], remedy: str) -> None:
        """Raise SiteError that lists every one of {file: what it is} that is not there."""
        missing = [f"{name} ({what})" for name, what in wanted.items() if name not in self.names]
        if missing:
            raise SiteError(f"{self.origin} lacks {', '.join(missing)}. {remedy}")


def corrupt(path: Path, why: str) -> SiteError:
    """The one error for metadata that cannot be used."""
    return SiteError(f"{path} is no metadata that landslip can use ({' '.join(why.split())[:200]}). Fetch it again.")


def _number(text: str) -> float:
    """A number written as text; NaN where it is none."""
    try:
        return float(text)
    except ValueError:
        return math.nan


# ---- Landsat ----

Groups = Mapping[str, Mapping[str, str]]


def read_mtl(path: Path, text: str) -> Groups:
    """{group: {key: value}} of a Landsat MTL file, text or JSON by its name.

    Groups are kept apart, since the file of a Level-2 product repeats names under LEVEL1_... groups. Raises SiteError
    for text that is not whole or of Collection 1.
    """
    if "L1_METADATA_FILE" in text:  # the root of every MTL of Collection 1; Collection 2 has another
        raise SiteError(
            f"{path} is of Landsat Collection 1, and bundles are read from Collection 2 (_02_ in their names). Fetch "
            "that product of the scene, or give the bands as `files` with scale and offset."
        )
    try:
        groups = _mtl_json(text) if path.suffix.lower() == ".json" else _mtl_text(text)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise corrupt(path, str(error)) from error
    return groups


def _mtl_json(text: str) -> Groups:
    found = parse_json(text)
    return {
        str(group): {str(key): str(value) for key, value in values.items()}
        for group, values in found[LANDSAT_ROOT].items()
    }


def _mtl_text(text: str) -> Groups:
    """ODL: lines `KEY = value` between `GROUP = X` and `END_GROUP = X`, and END at the end of the file."""
    groups: dict[str, dict[str, str]] = {}
    within: list[str] = []
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.strip().strip("\0")
        if line == "END":
            break
        key, equals, value = (part.strip() for part in line.partition("="))
        if not line:
            continue
        if not equals:
            raise ValueError(f"line {number} is {line[:60]!r}")
        if key == "GROUP":
            within.append(value)
            if len(within) == 2:
                groups[value] = {}
        elif key == "END_GROUP":
            if not within or within.pop() != value:
                raise ValueError(f"line {number} ends a group {value} that was not begun")
        elif len(within) == 2:
            groups[within[-1]][key] = value.strip('"')
    else:
        raise ValueError("it has no END: it is cut short")
    if within:
        raise ValueError(f"group {within[-1]} has no end: it is cut short")
    return groups


def _landsat(folder: _Folder, roles: Sequence[str], pan: bool | None, saturation: bool) -> Scene:
    found = folder.find("_MTL.json", "_MTL.txt") or ""
    path = folder.origin / found
    groups = read_mtl(path, folder.text(found))

    def text(group: str, key: str) -> str:
        if group not in groups or key not in groups[group]:
            raise corrupt(path, f"it has no {key} in a group {group}")
        return groups[group][key]

    def number(group: str, key: str) -> float:
        value = _number(text(group, key))
        if not math.isfinite(value):
            raise corrupt(path, f"{key} in {group} is {text(group, key)!r}, no number")
        return value

    spacecraft, level = text("IMAGE_ATTRIBUTES", "SPACECRAFT_ID"), text("PRODUCT_CONTENTS", "PROCESSING_LEVEL")
    collection = text("PRODUCT_CONTENTS", "COLLECTION_NUMBER")
    if spacecraft not in ("LANDSAT_8", "LANDSAT_9") or level[:2] not in ("L1", "L2") or _number(collection) != 2:
        raise SiteError(
            f"{path}: {spacecraft}, level {level}, collection {collection}. Bundles are Landsat 8 and 9, Level-1 or "
            "Level-2, Collection 2; give the bands of others as `files` with scale and offset."
        )
    first_level = level.startswith("L1")
    if pan and not first_level:
        raise SiteError(
            f"{folder.origin} is Level-2, which has no band 8 to sharpen with. Leave pansharpen out; "
            "[grid] resolution = 15 gives pixels of 15 m without sharpening."
        )
    group = "LEVEL1_RADIOMETRIC_RESCALING" if first_level else "LEVEL2_SURFACE_REFLECTANCE_PARAMETERS"
    # Level-1 factors give reflectance without the sun's height (LSDS-1822, 2.6); Level-2 is corrected already.
    light = _sun(path, number("IMAGE_ATTRIBUTES", "SUN_ELEVATION")) if first_level else 1.0
    prefix = found.rpartition("/")[0]
    wanted: dict[str, str] = {}

    def file(key: str, what: str) -> Path:
        name = text("PRODUCT_CONTENTS", key)
        if re.fullmatch(r"[\w.-]+", name) is None or name.startswith("."):
            raise corrupt(path, f"{key} is {name!r}, no file name")
        inside = f"{prefix}/{name}" if prefix else name
        wanted[inside] = what
        return folder.origin / inside

    def band(n: int, what: str, saturated: int | None, nodata: tuple[float, ...] = (0,)) -> Band:
        scale, offset = (number(group, f"REFLECTANCE_{which}_BAND_{n}") / light for which in ("MULT", "ADD"))
        _require_reflectance(path, scale, offset, f"REFLECTANCE_MULT_BAND_{n} and REFLECTANCE_ADD_BAND_{n}")
        stored = file(f"FILE_NAME_BAND_{n}", what)
        return Band(stored, scale, offset, nodata=nodata, saturated=saturated)

    bands = {role: band(LANDSAT_BANDS[role], role, LANDSAT_BANDS[role] - 1) for role in roles}
    panchromatic = None
    if first_level and pan is not False:
        nodata = (0, LANDSAT_MAXIMUM) if saturation else (0,)
        panchromatic = band(LANDSAT_PAN, "band 8, for pansharpen", None, nodata)
    pixel = file("FILE_NAME_QUALITY_L1_PIXEL", "quality of pixels")
    radsat = (
        file("FILE_NAME_QUALITY_L1_RADIOMETRIC_SATURATION", "saturation; saturation = false does without")
        if saturation
        else None
    )
    remedy = "Fetch the bundle again, or name in `bands` those that are there."
    if panchromatic is not None:
        remedy += " pansharpen = false does without band 8."
    folder.require(wanted, remedy)
    return Scene(
        folder.origin,
        text("PRODUCT_CONTENTS", "LANDSAT_PRODUCT_ID"),
        date_of(path, text("IMAGE_ATTRIBUTES", "DATE_ACQUIRED")),
        TOA if first_level else SURFACE,
        bands,
        Quality(pixel, QA_PIXEL_BITS, bits=True),
        radsat,
        panchromatic,
        (path,),
    )


def _sun(path: Path, elevation: float) -> float:
    if not LOWEST_SUN < elevation <= 90:
        raise corrupt(path, f"SUN_ELEVATION is {elevation:g}: the sun was not above the ground")
    return math.sin(math.radians(elevation))


def _require_reflectance(path: Path, scale: float, offset: float, named: str) -> None:
    """Raise SiteError where the numbers `named` cannot make reflectance of what 16 bits hold."""
    if not (0 < scale * LANDSAT_MAXIMUM <= MOST_REFLECTANCE and abs(offset) <= MOST_REFLECTANCE):
        raise corrupt(path, f"{named} give {scale:g} x stored + {offset:g}, which is no reflectance")


def date_of(path: Path, text: str) -> datetime.date:
    """The date that a text begins with; SiteError names the file where it is none."""
    try:
        return datetime.date.fromisoformat(text[:10])
    except ValueError as error:
        raise corrupt(path, f"its date is {text!r}") from error


# ---- Sentinel-2 ----


@dataclass(frozen=True)
class SentinelScaling:
    """What MTD_MSIL2A.xml says: name, date, and per band the factor and offset to surface reflectance."""

    name: str
    date: datetime.date
    bands: Mapping[str, tuple[float, float]]


def read_sentinel_metadata(path: Path, text: str) -> SentinelScaling:
    """Scaling of a Sentinel-2 Level-2A product: reflectance = (DN + BOA_ADD_OFFSET) / BOA_QUANTIFICATION_VALUE.

    From processing baseline 04.00 the offset is stated for each band, and its absence is an error; before, there was
    none. Raises SiteError for text that says neither.
    """
    if "<!DOCTYPE" in text:  # the products have none, and entities can swell without end
        raise corrupt(path, "it declares a document type")
    try:
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError) as error:
        raise corrupt(path, str(error)) from error
    said: dict[str, str] = {}
    offsets: dict[str, float] = {}
    for element in root.iter():
        tag, content = element.tag.rpartition("}")[2], (element.text or "").strip()
        if tag == "BOA_ADD_OFFSET":
            offsets[str(element.get("band_id"))] = _number(content)
        else:
            said.setdefault(tag, content)
    quantification = _number(said.get("BOA_QUANTIFICATION_VALUE", ""))
    if not 0 < quantification < math.inf:
        raise corrupt(path, "it has no BOA_QUANTIFICATION_VALUE: is it of Level-2A?")
    baseline = _number(said.get("PROCESSING_BASELINE", ""))
    if math.isnan(baseline) and not offsets:
        raise corrupt(path, "it has neither a PROCESSING_BASELINE nor a BOA_ADD_OFFSET")
    bands = {}
    for band, number in SENTINEL_OFFSET_IDS.items():
        if baseline < FIRST_WITH_OFFSET and not offsets:
            offset = 0.0
        elif math.isfinite(offsets.get(str(number), math.nan)):
            offset = offsets[str(number)]
        else:
            raise corrupt(
                path, f"processing baseline {said.get('PROCESSING_BASELINE')} without BOA_ADD_OFFSET of {band}"
            )
        bands[band] = (1 / quantification, offset / quantification)
        _require_reflectance(path, *bands[band], "BOA_QUANTIFICATION_VALUE and BOA_ADD_OFFSET")
    name = said.get("PRODUCT_URI", "").removesuffix(".SAFE") or path.parent.name.removesuffix(".SAFE")
    return SentinelScaling(name, date_of(path, said.get("PRODUCT_START_TIME", "")), bands)


def _sentinel(folder: _Folder, roles: Sequence[str]) -> Scene:
    found = folder.find(SENTINEL_METADATA)
    if found is None:
        raise SiteError(
            f"{folder.origin} lacks {SENTINEL_METADATA}, which says whether its values carry an offset (processing "
            "baseline 04.00 and later). Fetch it, or give the bands as `files` with scale and offset."
        )
    path = folder.origin / found
    scaling = read_sentinel_metadata(path, folder.text(found))
    files = {band: _sentinel_file(folder, band) for band in (*(SENTINEL_BANDS[role] for role in roles), "SCL")}
    missing = [band for band, name in files.items() if name is None]
    if missing:
        raise SiteError(
            f"{folder.origin} lacks {', '.join(missing)} (looked for *_B02_10m.jp2 and its like). Fetch the bundle "
            "again, or name in `bands` those that are there."
        )
    bands = {}
    for role in roles:
        name = SENTINEL_BANDS[role]
        scale, offset = scaling.bands[name]
        bands[role] = Band(folder.origin / str(files[name]), scale, offset)
    scl = Quality(folder.origin / str(files["SCL"]), SCL_CLASSES, bits=False, saturated_class=SCL_SATURATED)
    return Scene(folder.origin, scaling.name, scaling.date, SURFACE, bands, scl, metadata=(path,))


def _sentinel_file(folder: _Folder, band: str) -> str | None:
    """The band at its finest resolution, whatever format it was stored in."""
    kinds = [f"_{band}_{size}m.{kind}" for size in (10, 20, 60) for kind in ("jp2", "tif", "tiff")]
    return folder.find(*kinds)


# ---- bands as files of their own ----


def listed_scene(
    files: Mapping[str, Path], scale: float, offset: float, metadata: Path | None, nodata: tuple[float, ...], unit: str
) -> Scene:
    """A scene of one file per band, scaled by `scale` and `offset` or as Sentinel-2's `metadata` says.

    Raises SiteError where the metadata is missing or corrupt, or a file's name says no band that it knows.
    """
    first = next(iter(files.values()))
    if metadata is None:
        bands = {role: Band(path, scale, offset, nodata=nodata) for role, path in files.items()}
        return Scene(first.parent, "", None, unit, bands)
    archive = archive_of(metadata)
    if archive is None and not metadata.exists():
        raise SiteError(f"{metadata} does not exist. {START}")
    try:
        text = (
            decoded(metadata.open("rb"))
            if archive is None
            else text_in(archive, metadata.relative_to(archive).as_posix())
        )
    except UNREADABLE as error:
        raise corrupt(metadata, str(error)) from error
    scaling = read_sentinel_metadata(metadata, text)
    bands = {}
    for role, path in files.items():
        named = re.search(r"_(B\d[\dA])(?=[_.])", path.name)
        if named is None or named[1] not in scaling.bands:
            raise SiteError(
                f"{path}: its name says no band ({', '.join(scaling.bands)}), so nobody knows its offset in "
                f"{metadata}. Give scale and offset instead of metadata."
            )
        bands[role] = Band(path, *scaling.bands[named[1]], nodata=nodata or (0,))
    return Scene(first.parent, scaling.name, scaling.date, unit or SURFACE, bands, metadata=(metadata,))
