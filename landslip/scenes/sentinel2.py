"""What the metadata of a Sentinel-2 scene says: Level-2A, a .SAFE folder or its .zip.

Source: ESA, Sentinel-2 products specification document.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from landslip.errors import SiteError
from landslip.runtime.text import parse_number
from landslip.scenes.scene import SURFACE, Band, Quality, Scene, corrupt, date_of, require_reflectance
from landslip.scenes.scene_files import SENTINEL_METADATA, Folder

SENTINEL_BANDS = {
    "coastal": "B01", "blue": "B02", "green": "B03", "red": "B04", "nir": "B08", "swir1": "B11", "swir2": "B12",
}  # fmt: skip
SENTINEL_OFFSET_IDS = {  # band_id of BOA_ADD_OFFSET
    "B01": 0, "B02": 1, "B03": 2, "B04": 3, "B08": 7, "B11": 11, "B12": 12,
}  # fmt: skip
SCL_CLASSES = {"fill": (0,), "cirrus": (10,), "cloud": (8, 9), "shadow": (3,), "snow": (11,)}
SCL_SATURATED = 1  # or defective
FIRST_WITH_OFFSET = 4.0  # processing baseline from which DN carry an offset


@dataclass(frozen=True)
class SentinelScaling:
    """What MTD_MSIL2A.xml says: name, date, and per band the factor and offset to surface reflectance."""

    name: str
    date: datetime.date
    bands: Mapping[str, tuple[float, float]]


def sentinel(folder: Folder, roles: Sequence[str]) -> Scene:
    """The scene of a Sentinel-2 Level-2A bundle, bands as `roles` asks.

    Raises SiteError for metadata or bands that are missing, and for metadata that cannot be used.
    """
    metadata = folder.find(SENTINEL_METADATA)
    if metadata is None:
        raise SiteError(
            f"{folder.origin} lacks {SENTINEL_METADATA}, which says whether its values carry an offset (processing "
            "baseline 04.00 and later). Fetch it, or give the bands as `files` with scale and offset."
        )
    path = folder.origin / metadata
    scaling = read_sentinel_metadata(path, folder.text(metadata))
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
        bands[role] = Band(path=folder.origin / str(files[name]), scale=scale, offset=offset)
    classes = Quality(folder.origin / str(files["SCL"]), SCL_CLASSES, bits=False, saturated_class=SCL_SATURATED)
    return Scene(
        origin=folder.origin,
        name=scaling.name,
        date=scaling.date,
        unit=SURFACE,
        bands=bands,
        quality=classes,
        metadata=(path,),
    )


def read_sentinel_metadata(path: Path, text: str) -> SentinelScaling:
    """Scaling of a Sentinel-2 Level-2A product: reflectance = (DN + BOA_ADD_OFFSET) / BOA_QUANTIFICATION_VALUE.

    From processing baseline 04.00 the offset is stated for each band, and its absence is an error; before, there was
    none. Raises SiteError for text that says neither.
    """
    try:
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError) as error:
        raise corrupt(path, str(error)) from error
    texts: dict[str, str] = {}
    offsets: dict[str, float] = {}
    for element in root.iter():
        tag, content = element.tag.rpartition("}")[2], (element.text or "").strip()
        if tag == "BOA_ADD_OFFSET":
            offsets[str(element.get("band_id"))] = parse_number(content)
        else:
            texts.setdefault(tag, content)
    quantification = parse_number(texts.get("BOA_QUANTIFICATION_VALUE", ""))
    if not 0 < quantification < math.inf:
        raise corrupt(path, "it has no BOA_QUANTIFICATION_VALUE: is it of Level-2A?")
    baseline = parse_number(texts.get("PROCESSING_BASELINE", ""))
    if math.isnan(baseline) and not offsets:
        raise corrupt(path, "it has neither a PROCESSING_BASELINE nor a BOA_ADD_OFFSET")
    bands = {}
    for band, identifier in SENTINEL_OFFSET_IDS.items():
        if baseline < FIRST_WITH_OFFSET and not offsets:
            offset = 0.0
        elif math.isfinite(offsets.get(str(identifier), math.nan)):
            offset = offsets[str(identifier)]
        else:
            raise corrupt(
                path, f"processing baseline {texts.get('PROCESSING_BASELINE')} without BOA_ADD_OFFSET of {band}"
            )
        bands[band] = (1 / quantification, offset / quantification)
        require_reflectance(path, *bands[band], "BOA_QUANTIFICATION_VALUE and BOA_ADD_OFFSET")
    name = texts.get("PRODUCT_URI", "").removesuffix(".SAFE") or path.parent.name.removesuffix(".SAFE")
    return SentinelScaling(name, date_of(path, texts.get("PRODUCT_START_TIME", "")), bands)


def _sentinel_file(folder: Folder, band: str) -> str | None:
    """The band at its finest resolution, whatever format it was stored in."""
    endings = [f"_{band}_{size}m.{ending}" for size in (10, 20, 60) for ending in ("jp2", "tif", "tiff")]
    return folder.find(*endings)
