"""Scenes as they are downloaded: what the metadata of a bundle says of its bands, scaling, quality and date.

Landsat-8/9 OLI Collection 2, Level-1 and Level-2, a folder or a .tar (USGS, LSDS-1822 and LSDS-1328, data format
control books); Sentinel-2 Level-2A, a .SAFE folder or its .zip (ESA, Sentinel-2 products specification document). Only
metadata is read here; pixels are read by whoever takes a `Scene`, through raster.py. Nothing is ever unpacked.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from landslip.errors import SiteError
from landslip.geo.archive import (
    own_file,
)

Flag = Literal["dilated_cloud", "cirrus", "cloud", "shadow", "snow"]
CLOUDED: tuple[Flag, ...] = ("dilated_cloud", "cirrus", "cloud", "shadow")  # masked where a site file says nothing

TOA, SURFACE = "TOA reflectance", "surface reflectance"  # units of channels

LANDSAT_MAXIMUM = 65535  # the DN that band 8, which QA_RADSAT says nothing of, saturates at
MOST_REFLECTANCE = 1000.0  # that a stored value can stand for, or an offset be: beyond it the metadata is altered
LOWEST_SUN = 0.01  # degrees


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


def require_reflectance(path: Path, scale: float, offset: float, named: str) -> None:
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


# ---- bands as files of their own ----
