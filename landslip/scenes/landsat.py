"""What the metadata of a Landsat scene says: Landsat-8/9 OLI, Collection 2, Level-1 and Level-2, a folder or a .tar.

Sources: USGS, LSDS-1822 and LSDS-1328, data format control books.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from landslip.errors import SiteError
from landslip.runtime.text import parse_json, parse_number
from landslip.scenes.scene import (
    LANDSAT_MAXIMUM,
    LOWEST_SUN,
    SURFACE,
    TOA,
    Band,
    Quality,
    Scene,
    corrupt,
    date_of,
    require_reflectance,
)
from landslip.scenes.scene_files import Folder

LANDSAT_BANDS = {"coastal": 1, "blue": 2, "green": 3, "red": 4, "nir": 5, "swir1": 6, "swir2": 7}
LANDSAT_PAN = 8
QA_PIXEL_BITS = {"fill": (0,), "dilated_cloud": (1,), "cirrus": (2,), "cloud": (3,), "shadow": (4,), "snow": (5,)}
LANDSAT_ROOT = "LANDSAT_METADATA_FILE"
Groups = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class _MtlMetadata:
    """What the MTL file of a bundle says; SiteError, which names it, where it says nothing that can be used.

    `name` is that of the MTL file in the folder.
    """

    folder: Folder
    name: str
    groups: Groups

    @property
    def path(self) -> Path:
        return self.folder.origin / self.name

    @property
    def first_level(self) -> bool:
        """Whether the bundle is Level-1; else it is Level-2."""
        return self.text("PRODUCT_CONTENTS", "PROCESSING_LEVEL").startswith("L1")

    def text(self, group: str, key: str) -> str:
        if group not in self.groups or key not in self.groups[group]:
            raise corrupt(self.path, f"it has no {key} in a group {group}")
        return self.groups[group][key]

    def number(self, group: str, key: str) -> float:
        value = parse_number(self.text(group, key))
        if not math.isfinite(value):
            raise corrupt(self.path, f"{key} in {group} is {self.text(group, key)!r}, no number")
        return value

    def file(self, key: str) -> str:
        """The file that a key names, which lies beside the MTL, as its name in the folder."""
        return (PurePosixPath(self.name).parent / self.text("PRODUCT_CONTENTS", key)).as_posix()


def landsat(folder: Folder, roles: Sequence[str], pan: bool | None, saturation: bool) -> Scene:
    """The scene of a Landsat-8/9 bundle of Collection 2, Level-1 or Level-2; arguments as `read_bundle` has them.

    Raises SiteError for metadata of another satellite, level or collection, and for what lacks or is corrupt.
    """
    name = folder.find("_MTL.json", "_MTL.txt") or ""
    metadata = _MtlMetadata(folder, name, read_mtl(folder.origin / name, folder.text(name)))
    _require_product(metadata)
    if pan and not metadata.first_level:
        raise SiteError(
            f"{folder.origin} is Level-2, which has no band 8 to sharpen with. Leave pansharpen out; "
            "[grid] resolution = 15 gives pixels of 15 m without sharpening."
        )
    light = _light(metadata)
    numbers = {role: LANDSAT_BANDS[role] for role in roles}
    bands = {role: _band(metadata, number, light, saturated=number - 1) for role, number in numbers.items()}
    files = {metadata.file(f"FILE_NAME_BAND_{number}"): role for role, number in numbers.items()}
    remedy = "Fetch the bundle again, or name in `bands` those that are there."
    panchromatic = None
    if metadata.first_level and pan is not False:
        nodata = (0, LANDSAT_MAXIMUM) if saturation else (0,)
        panchromatic = _band(metadata, LANDSAT_PAN, light, nodata=nodata)
        files[metadata.file(f"FILE_NAME_BAND_{LANDSAT_PAN}")] = "band 8, for pansharpen"
        remedy += " pansharpen = false does without band 8."
    pixel, radsat = metadata.file("FILE_NAME_QUALITY_L1_PIXEL"), None
    files[pixel] = "quality of pixels"
    if saturation:
        radsat = metadata.file("FILE_NAME_QUALITY_L1_RADIOMETRIC_SATURATION")
        files[radsat] = "saturation; saturation = false does without"
    folder.require(files, remedy)
    return Scene(
        origin=folder.origin,
        name=metadata.text("PRODUCT_CONTENTS", "LANDSAT_PRODUCT_ID"),
        date=date_of(metadata.path, metadata.text("IMAGE_ATTRIBUTES", "DATE_ACQUIRED")),
        unit=TOA if metadata.first_level else SURFACE,
        bands=bands,
        quality=Quality(folder.origin / pixel, QA_PIXEL_BITS, bits=True),
        saturation=None if radsat is None else folder.origin / radsat,
        pan=panchromatic,
        metadata=(metadata.path,),
    )


def read_mtl(path: Path, text: str) -> Groups:
    """{group: {key: value}} of a Landsat MTL file, text or JSON by its name.

    Groups are kept apart, since the file of a Level-2 product repeats names under LEVEL1_... groups. Raises SiteError
    for text that is not whole or of Collection 1.
    """
    if "L1_METADATA_FILE" in text:  # It is the root of every MTL of Collection 1 and of no other.
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
    groups = parse_json(text)[LANDSAT_ROOT]
    return {str(group): {str(key): str(value) for key, value in values.items()} for group, values in groups.items()}


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


def _require_product(metadata: _MtlMetadata) -> None:
    """Raise SiteError for a bundle that is not of Landsat-8/9, Level-1 or Level-2, Collection 2."""
    spacecraft = metadata.text("IMAGE_ATTRIBUTES", "SPACECRAFT_ID")
    level = metadata.text("PRODUCT_CONTENTS", "PROCESSING_LEVEL")
    collection = metadata.text("PRODUCT_CONTENTS", "COLLECTION_NUMBER")
    if spacecraft in ("LANDSAT_8", "LANDSAT_9") and level[:2] in ("L1", "L2") and parse_number(collection) == 2:
        return
    raise SiteError(
        f"{metadata.path}: {spacecraft}, level {level}, collection {collection}. Bundles are Landsat 8 and 9, Level-1 "
        "or Level-2, Collection 2; give the bands of others as `files` with scale and offset."
    )


def _light(metadata: _MtlMetadata) -> float:
    """What reflectance by the factors of the metadata is divided by: the sine of the sun's height.

    Level-1 factors give reflectance without the sun's height (LSDS-1822, 2.6); Level-2 is corrected already, and 1.
    """
    if not metadata.first_level:
        return 1.0
    elevation = metadata.number("IMAGE_ATTRIBUTES", "SUN_ELEVATION")
    if not LOWEST_SUN < elevation <= 90:
        raise corrupt(metadata.path, f"SUN_ELEVATION is {elevation:g}: the sun was not above the ground")
    return math.sin(math.radians(elevation))


def _band(
    metadata: _MtlMetadata,
    number: int,
    light: float,
    *,
    saturated: int | None = None,
    nodata: tuple[float, ...] = (0,),
) -> Band:
    """A band by Landsat's number; `saturated` is its bit of the saturation raster."""
    group = "LEVEL1_RADIOMETRIC_RESCALING" if metadata.first_level else "LEVEL2_SURFACE_REFLECTANCE_PARAMETERS"
    factor, addend = f"REFLECTANCE_MULT_BAND_{number}", f"REFLECTANCE_ADD_BAND_{number}"
    scale, offset = metadata.number(group, factor) / light, metadata.number(group, addend) / light
    require_reflectance(metadata.path, scale, offset, f"{factor} and {addend}")
    path = metadata.folder.origin / metadata.file(f"FILE_NAME_BAND_{number}")
    return Band(path=path, scale=scale, offset=offset, nodata=nodata, saturated=saturated)
