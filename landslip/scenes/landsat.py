"""What the metadata of a Landsat scene says."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from landslip.errors import SiteError
from landslip.runtime.text import parse_json
from landslip.scenes.scene import (
    LANDSAT_MAXIMUM,
    LOWEST_SUN,
    SURFACE,
    TOA,
    Band,
    Quality,
    Scene,
    _number,
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


def landsat(folder: Folder, roles: Sequence[str], pan: bool | None, saturation: bool) -> Scene:
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
        require_reflectance(path, scale, offset, f"REFLECTANCE_MULT_BAND_{n} and REFLECTANCE_ADD_BAND_{n}")
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
