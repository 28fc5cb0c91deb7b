"""What the bands of a set of patches are: names, units, scaling. A model trained on them maps scenes that agree.

That is stated, in this order, by
- `--channels`: names in order; a TOML file with the words of a site file (`PatchTable`); or the stack.tif of the
  prepared site that the patches were cut from, with all its channels;
- `patches.toml` in the folder of the patches;
- the band names, units and tags of GeoTIFF patches;
- the number of bands: gray, RGB, Landslide4Sense's 14.

A unit is never guessed. Bands of which nothing states a unit have the unit "-"; values of 8 bits, which are made to be
looked at, have the unit "display". No model that is trained on either maps a scene.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from landslip.config.site_tables import ImageTable, Nodata
from landslip.config.strict import Strict, validated
from landslip.dataset.channels import DISPLAY, UNSTATED, Channel, Kind, channels_of, read_stack_info
from landslip.errors import PatchError
from landslip.factors.table import FACTORS
from landslip.geo.grid import metric_fault
from landslip.geo.raster import read_band_tags, read_info
from landslip.patches.files import GEOTIFF, image_shape, in_8_bits, read_image
from landslip.runtime.progress import plural, say
from landslip.runtime.text import read_toml

PATCH_TABLE = "patches.toml"  # in the folder of the patches
DEFAULT_RESOLUTION = 10.0  # metres, where nothing states a pixel's side
MOST_OBLONG = 1e-3  # share by which a pixel's height may differ from its width

# Sentinel-2's B1 to B12 without B8A (github.com/iarai/Landslide4Sense-2022, issue 3), then slope and DEM of ALOS PALSAR
LANDSLIDE4SENSE = (
    "coastal", "blue", "green", "red", "red_edge_1", "red_edge_2", "red_edge_3", "nir", "water_vapour", "cirrus",
    "swir1", "swir2", "slope", "elevation",
)  # fmt: skip
NAMES_BY_COUNT = {1: ("gray",), 3: ("red", "green", "blue"), 14: LANDSLIDE4SENSE}
# The makers of Landslide4Sense divided every band by its mean (issues 2 and 4 there), so that 1 is that mean, whatever
# it was. sites/landslide4sense.toml multiplies by the numbers that they give.
OF_THE_MEAN = "mean of Landslide4Sense"
ASPECT_PLANES: dict[str, tuple[str, Kind]] = {"aspect_sin": ("aspect", "sine"), "aspect_cos": ("aspect", "cosine")}


class PatchImageTable(Strict):
    """[[image]]: optical bands by role (or any name) and number; value = stored x scale + offset.

    `unit` is that of the values once scaled: "reflectance" where scale or offset are given, "stored" where not.
    """

    bands: dict[str, int] = Field(min_length=1)
    scale: float | None = None
    offset: float | None = None
    nodata: Nodata = ()
    unit: str = ""

    @field_validator("bands")
    @classmethod
    def _names(cls, bands: dict[str, int]) -> dict[str, int]:
        return ImageTable._names(bands)


class PatchFactorTable(Strict):
    """[[factor]]: one band that is an influencing factor, or a plane of one; value = stored x scale + offset.

    `kind` is "sine" or "cosine" for the two planes of an aspect, "class" for a plane of 0 and 1 of a factor in classes,
    and `factor` what it is a plane of; aspect_sin, aspect_cos and lithology_... say both by their names.
    """

    name: str
    band: int = Field(ge=1)
    scale: float = 1.0
    offset: float = 0.0
    nodata: Nodata = ()
    unit: str = ""
    factor: str = ""
    kind: Kind | None = None

    @model_validator(mode="after")
    def _known(self) -> PatchFactorTable:
        _require_name(self.name)
        if not self.unit and self.name in FACTORS and FACTORS[self.name].unit:
            raise ValueError(
                f'factor {self.name} has no unit: give it, "{FACTORS[self.name].unit}" as `landslip prepare` does'
            )
        return self

    def channel(self) -> Channel:
        """The factor as a channel."""
        by_name = _channel_named(self.name, self.unit)
        return Channel(self.name, self.factor or by_name.factor, "factor", self.unit, self.kind or by_name.kind)


class PatchMaskTable(Strict):
    """[landslides]: which value of a mask is landslide, and which is unknown; any other is neither."""

    landslide: int | None = None
    unknown: int | None = None

    @model_validator(mode="after")
    def _differ(self) -> PatchMaskTable:
        if self.landslide is not None and self.landslide == self.unknown:
            raise ValueError(f"{self.landslide} cannot be both landslide and unknown")
        return self


class PatchTable(Strict):
    """patches.toml: what the bands and masks of a set hold. Bands count from 1; those not named are left out."""

    resolution: float | None = Field(None, gt=0, description="side of a pixel, metres")
    image: tuple[PatchImageTable, ...] = ()
    factor: tuple[PatchFactorTable, ...] = ()
    landslides: PatchMaskTable = PatchMaskTable()

    @model_validator(mode="after")
    def _named_once(self) -> PatchTable:
        names = [name for image in self.image for name in image.bands] + [factor.name for factor in self.factor]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"named twice: {', '.join(twice)}")
        return self

    def bands(self) -> tuple[PatchBand, ...]:
        """The bands that are taken, images first."""
        bands = []
        for image in self.image:
            scaled = image.scale is not None or image.offset is not None
            unit = image.unit or ("reflectance" if scaled else "stored")
            scale, offset = 1.0 if image.scale is None else image.scale, image.offset or 0.0
            for name, number in image.bands.items():
                bands.append(PatchBand(Channel(name, name, "band", unit), number, scale, offset, image.nodata))
        for factor in self.factor:
            bands.append(PatchBand(factor.channel(), factor.band, factor.scale, factor.offset, factor.nodata))
        return tuple(bands)


@dataclass(frozen=True)
class PatchBand:
    """A channel, the band of a patch that holds it (from 1), and value = stored x scale + offset but for `nodata`."""

    channel: Channel
    number: int
    scale: float = 1.0
    offset: float = 0.0
    nodata: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Content:
    """What patches hold: bands, the side of a pixel in metres, and the values of a mask.

    `landslide` and `unknown` are None where the masks themselves show what they are. `cut` is True where the patches
    were cut from a prepared site, so that its label says what a mask means. `described_in` is the file that states all
    this, None where none does.
    """

    bands: tuple[PatchBand, ...]
    resolution: float
    landslide: int | None = None
    unknown: int | None = None
    cut: bool = False
    described_in: Path | None = None

    @property
    def channels(self) -> tuple[Channel, ...]:
        """The channels of the stack that the patches become."""
        return tuple(band.channel for band in self.bands)

    def read(self, path: Path) -> NDArray[np.float32]:
        """(C, H, W) float32 of a patch's image: the channels, scaled, NaN where undefined."""
        stored = read_image(path)
        values = np.empty((len(self.bands), *stored.shape[1:]), np.float32)
        for out, band in zip(values, self.bands, strict=True):
            stored_band = stored[band.number - 1]
            out[:] = stored_band
            if (band.scale, band.offset) != (1.0, 0.0):
                out[:] = stored_band * np.float32(band.scale) + np.float32(band.offset)
            for missing in band.nodata:
                out[stored_band == np.float32(missing)] = np.nan
        return values

    def facts(self) -> list[dict[str, object]]:
        """The bands as manifest.json lists them."""
        return [{**asdict(band), "channel": band.channel.name} for band in self.bands]


def read_content(
    folder: Path, first: Path, told: Sequence[str] | Path = (), resolution: float | None = None
) -> Content:
    """What the patches of `folder` hold, by `told` (names, or a file) or as the module's docstring says.

    `first` is the image of one of them; `resolution` is the side of a pixel in metres. Raises PatchError where what is
    stated does not fit that image, or a name or table is at fault.
    """
    count, image_size = image_shape(first)[0], None if resolution else _size_of(first)
    if isinstance(told, Path) and told.suffix.lower() in GEOTIFF:
        stack = read_stack_info(told)
        _require_count(len(stack.channels), count, first, f"{told} has {len(stack.channels)} channels")
        bands = tuple(PatchBand(channel, number) for number, channel in enumerate(stack.channels, 1))
        size = resolution or _square(stack.grid.x_size, stack.grid.y_size, told)
        return Content(bands=bands, resolution=size, cut=True, described_in=told)
    if told and not isinstance(told, Path):
        bands = _by_name(told, first, count)
        return Content(bands=bands, resolution=resolution or image_size or _default_resolution())
    path = told if isinstance(told, Path) else folder / PATCH_TABLE
    if path == told or path.exists():
        table = validated(PatchTable, read_toml(path, PatchError), path, PatchError)
        bands = table.bands() or _undescribed(first, count)
        last = max(bands, key=lambda band: band.number)
        if last.number > count:
            raise PatchError(
                f"{path}: {last.channel.name} = {last.number}, but {first} has {plural(count, 'band')}. Count from 1."
            )
        size, mask = resolution or table.resolution or image_size or _default_resolution(), table.landslides
        return Content(bands=bands, resolution=size, landslide=mask.landslide, unknown=mask.unknown, described_in=path)
    bands = _undescribed(first, count)
    return Content(bands=bands, resolution=resolution or image_size or _default_resolution())


def _channel_named(name: str, unit: str) -> Channel:
    """A channel by its name alone: a factor where `landslip prepare` has one so called, else a band."""
    factor, kind = ASPECT_PLANES.get(name, (name, "continuous"))
    if name.startswith("lithology_"):
        factor, kind = "lithology", "class"
    return Channel(name, factor, "factor" if factor in FACTORS else "band", unit, kind)


def geotiff_channels(path: Path) -> tuple[Channel, ...]:
    """The channels that a GeoTIFF's band names, units and tags tell of; () for one without band names, or no GeoTIFF.

    Tags are those of a stack that `landslip prepare` wrote, and say all. Without them an 8-bit band has the unit
    "display", and one that states none "-".
    """
    if path.suffix.lower() not in GEOTIFF:
        return ()
    info = read_info(path)
    if not all(info.names):
        return ()
    channels, tags, units = channels_of(path, info.names), read_band_tags(path), info.units
    described = []
    for channel, band_tags, unit, dtype in zip(channels, tags, units, info.dtypes, strict=True):
        if not any(key.startswith("landslip_") for key in band_tags):
            channel = _channel_named(channel.name, unit or (DISPLAY if dtype == "uint8" else UNSTATED))
        described.append(channel)
    return tuple(described)


def _require_name(name: str) -> None:
    """Raise ValueError for what is no name of a channel."""
    if not name.isidentifier() or name != name.lower():
        raise ValueError(f"{name!r} is not a name in lower-case letters, digits and underscores")


def _by_name(names: Sequence[str], first: Path, count: int) -> tuple[PatchBand, ...]:
    """Bands of which only the names are known, in the order of the file."""
    _require_count(len(names), count, first, f"{len(names)} names were given")
    unit = DISPLAY if in_8_bits(first) else UNSTATED
    for name in names:
        if not name.isidentifier() or name != name.lower() or list(names).count(name) > 1:
            raise PatchError(
                f"--channels: {name!r} is not a name of its own in lower-case letters, digits and underscores."
            )
    return tuple(PatchBand(_channel_named(name, unit), number) for number, name in enumerate(names, 1))


def _require_count(stated: int, count: int, first: Path, what: str) -> None:
    """Raise PatchError where `what` states another number of bands than a patch has."""
    if stated != count:
        raise PatchError(
            f"{first} has {plural(count, 'band')}, and {what}. Name them in order (--channels red,green,blue,nir), say "
            f"which is which in {PATCH_TABLE} beside them, or give the stack that they were cut from (--channels "
            "STACK.tif)."
        )


def _undescribed(first: Path, count: int) -> tuple[PatchBand, ...]:
    """The bands of a set that no file describes: as a GeoTIFF patch has them, else by their number."""
    channels = geotiff_channels(first)
    if channels:
        return tuple(PatchBand(channel, number) for number, channel in enumerate(channels, 1))
    names = NAMES_BY_COUNT.get(count, ())
    if not names:
        _require_count(0, count, first, "it is not known which")
    if count == len(LANDSLIDE4SENSE):
        return tuple(PatchBand(_channel_named(name, OF_THE_MEAN), number) for number, name in enumerate(names, 1))
    return _by_name(names, first, count)


def _size_of(first: Path) -> float | None:
    """The side of a georeferenced patch's pixels in metres; None where it does not say."""
    if first.suffix.lower() not in GEOTIFF:
        return None
    info = read_info(first)
    if info.crs is None or info.rotated or metric_fault(info.crs) is not None:
        return None
    return _square(info.transform.a, -info.transform.e, first)


def _square(width: float, height: float, path: Path) -> float:
    """The side of a square pixel in metres; PatchError where it is none."""
    if abs(width - height) > MOST_OBLONG * width:
        raise PatchError(
            f"{path} has pixels of {width:g} x {height:g} m, and those of patches are squares. Resample the "
            "patches, or say with --resolution what side to take."
        )
    return width


def _default_resolution() -> float:
    """The side of a pixel in metres where nothing states it, with a warning."""
    say(
        f"warning: nothing says how large a pixel is, so {DEFAULT_RESOLUTION:g} m are taken; --resolution says "
        "otherwise."
    )
    return DEFAULT_RESOLUTION
