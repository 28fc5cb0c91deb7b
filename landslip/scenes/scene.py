"""A scene as it was downloaded: its bands with their scaling, its quality raster, its name and date.

What is read from metadata is checked here by the functions at the end. Pixels are read by whoever takes a `Scene`,
through raster.py.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from landslip.errors import SiteError
from landslip.geo.archive import own_file

Flag = Literal["dilated_cloud", "cirrus", "cloud", "shadow", "snow"]

CLOUDED: tuple[Flag, ...] = ("dilated_cloud", "cirrus", "cloud", "shadow")  # masked where a site file says nothing

TOA, SURFACE = "TOA reflectance", "surface reflectance"  # units of bands
LANDSAT_MAXIMUM = 65535  # the DN that band 8, which QA_RADSAT says nothing of, saturates at
MOST_REFLECTANCE = 1000.0  # that a stored value can stand for, or an offset be: beyond it the metadata is altered
LOWEST_SUN = 0.01  # degrees


@dataclass(frozen=True, kw_only=True)
class Band:
    """One band of a file: reflectance = stored x scale + offset, applied once.

    `number` is the band's in the file, from 1; `saturated` its bit of the saturation raster, None where it has none.
    """

    path: Path
    scale: float
    offset: float
    number: int = 1
    nodata: tuple[float, ...] = (0,)
    saturated: int | None = None


@dataclass(frozen=True)
class Quality:
    """The raster that says what a pixel shows, cloud or snow, say.

    It does so with the bits of a number (`bits`), or else with one class; `meaning` gives the bits or classes of each
    word. `saturated_class` is the class of pixels that are saturated in some band.
    """

    path: Path
    meaning: Mapping[str, tuple[int, ...]]
    bits: bool
    saturated_class: int | None = None

    def unusable(self, stored: NDArray[np.floating[Any]], flags: Sequence[str], saturation: bool) -> NDArray[np.bool_]:
        """(H, W) bool: fill, undefined, or marked as one of `flags`. `stored` is the raster (H, W), NaN undefined."""
        mask = self.shows(stored, "fill")
        for flag in flags:
            mask |= self.shows(stored, flag)
        if saturation and self.saturated_class is not None:
            mask |= stored == self.saturated_class
        return mask

    def shows(self, stored: NDArray[np.floating[Any]], flag: str) -> NDArray[np.bool_]:
        """(H, W) bool: where the raster says `flag`; fill also where it is undefined."""
        undefined = np.isnan(stored)
        codes = np.where(undefined, 0, stored).astype(np.uint16)
        mask = np.zeros(stored.shape, bool)
        for code in self.meaning.get(flag, ()):
            mask |= (codes >> np.uint16(code)) & np.uint16(1) == 1 if self.bits else codes == code
        return np.asarray(mask | undefined if flag == "fill" else mask & ~undefined)


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What a bundle holds, by its metadata: bands by role, each with its scaling, quality, name and date.

    `unit` is that of the bands once scaled; `quality` and `saturation` are None where a bundle has no such raster or it
    is not asked for; `pan` is band 8 where it is there and wanted; `metadata` the files that all this was read from.
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
    def first_raster(self) -> Path:
        """The raster of the first band, which stands for the pixels of them all."""
        return next(iter(self.bands.values())).path

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
    """The error for metadata that cannot be used, and why."""
    return SiteError(f"{path} is no metadata that landslip can use ({' '.join(why.split())[:200]}). Fetch it again.")


def require_reflectance(path: Path, scale: float, offset: float, named: str) -> None:
    """Raise SiteError for a scaling that cannot make reflectance of what 16 bits hold; `named` says where it stands."""
    if not (0 < scale * LANDSAT_MAXIMUM <= MOST_REFLECTANCE and abs(offset) <= MOST_REFLECTANCE):
        raise corrupt(path, f"{named} give {scale:g} x stored + {offset:g}, which is no reflectance")


def date_of(path: Path, text: str) -> datetime.date:
    """The date that a text begins with; SiteError names the file where it is none."""
    try:
        return datetime.date.fromisoformat(text[:10])
    except ValueError as error:
        raise corrupt(path, f"its date is {text!r}") from error
