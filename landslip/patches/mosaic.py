"""Patches laid out as one raster, with a gap around each, and the rasters of a prepared folder written from them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS

from landslip.dataset.channels import Channel
from landslip.dataset.label import LANDSLIDE, OTHER, UNKNOWN
from landslip.dataset.split import NONE
from landslip.geo.geotiff import STORED_TILE, create_raster, write_window
from landslip.geo.grid import Grid, Window
from landslip.geo.tiling import HALO
from landslip.patches.content import Content
from landslip.patches.files import read_mask
from landslip.patches.folders import Patch
from landslip.preparation.channel_summary import ChannelSummary
from landslip.runtime.progress import track

NOWHERE = CRS.from_wkt('LOCAL_CS["mosaic of patches, coordinates mean no place",UNIT["metre",1]]')
TAGS = {"georeferenced": "no: a mosaic of patches, whose coordinates mean no place"}


@dataclass(frozen=True)
class Mosaic:
    """Patches of `side` pixels in cells of `pitch` pixels, row by row."""

    count: int
    side: int

    @property
    def pitch(self) -> int:
        """Side of a cell: the patch and a gap of at least HALO, in whole patches."""
        return self.side * (1 + math.ceil(HALO / self.side))

    @property
    def columns(self) -> int:
        """Cells in a row: about as many as there are rows."""
        return math.ceil(math.sqrt(self.count))

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) of the mosaic in pixels."""
        return math.ceil(self.count / self.columns) * self.pitch, self.columns * self.pitch

    def window(self, i: int) -> Window:
        """The window of the mosaic that patch `i`, counted from 0, takes."""
        return Window(i // self.columns * self.pitch, i % self.columns * self.pitch, self.side, self.side)

    def within(self, strip: Window) -> range:
        """The patches that may meet a strip of whole rows."""
        first, last = strip.row // self.pitch, (strip.row + strip.height - 1) // self.pitch
        return range(first * self.columns, min((last + 1) * self.columns, self.count))


@dataclass(kw_only=True)
class MosaicStatistics:
    """Minimum, maximum and total, (C,), of every channel over the valid pixels, added up patch by patch.

    `undefined`, (C,), counts the pixels without a value; `pixels`, `valid` and `landslide` those of all patches.
    """

    minimum: NDArray[np.float64]
    maximum: NDArray[np.float64]
    total: NDArray[np.float64]
    undefined: NDArray[np.int64]
    pixels: int = 0
    valid: int = 0
    landslide: int = 0

    @classmethod
    def empty(cls, count: int) -> MosaicStatistics:
        """Statistics of so many channels before any patch is added."""
        return cls(
            minimum=np.full(count, np.nan),
            maximum=np.full(count, np.nan),
            total=np.zeros(count),
            undefined=np.zeros(count, np.int64),
        )

    def add(self, values: NDArray[np.float32], valid: NDArray[np.bool_], label: NDArray[np.uint8]) -> None:
        """Add (C, h, w) values with their valid pixels and label."""
        self.pixels += valid.size
        self.valid += int(valid.sum())
        self.landslide += int(np.count_nonzero((label == LANDSLIDE) & valid))
        self.undefined += np.isnan(values).sum((1, 2))
        on_valid = values[:, valid]
        if on_valid.size:
            self.minimum = np.fmin(self.minimum, on_valid.min(1))
            self.maximum = np.fmax(self.maximum, on_valid.max(1))
            self.total += on_valid.sum(1, dtype=np.float64)

    def summaries(self, channels: Sequence[Channel]) -> list[ChannelSummary]:
        """A summary per channel, as `landslip prepare` gives."""
        mean = self.total / self.valid if self.valid else np.full(len(channels), np.nan)
        rows = zip(channels, self.minimum, self.maximum, mean, self.undefined / self.pixels, strict=True)
        return [ChannelSummary(channel, *map(float, figures)) for channel, *figures in rows]


def write_rasters(
    patches: Sequence[Patch],
    mosaic: Mosaic,
    grid: Grid,
    content: Content,
    folder: Path,
) -> MosaicStatistics:
    """Write stack.tif, valid.tif, label.tif and split.tif, a row of tiles at a time."""
    channels, count = content.channels, len(content.channels)
    statistics = MosaicStatistics.empty(count)
    # "unknown": patches of one set may be neighbours, or overlap, and no file says so.
    split_tags = {"split": "given", "leaky": "unknown", "guard": "0", **TAGS}
    names = [channel.name for channel in channels]
    with ExitStack() as files:
        # The stack is compressed, as a site's is not: three quarters of it are gap, which then takes no space.
        stack, valid, label, split = (
            files.enter_context(create_raster(folder / name, grid, dtype, bands, nodata, tags=tags))
            for name, dtype, bands, nodata, tags in (
                ("stack.tif", "float32", names, float("nan"), TAGS),
                ("valid.tif", "uint8", ["valid"], None, TAGS),
                ("label.tif", "uint8", ["label"], UNKNOWN, TAGS),
                ("split.tif", "uint8", ["part"], None, split_tags),
            )
        )
        for band, channel in enumerate(channels, start=1):
            stack.update_tags(band, **channel.tags())
        strips = [
            Window(row, 0, STORED_TILE, grid.width).clip(grid.shape) for row in range(0, grid.height, STORED_TILE)
        ]
        for strip in track(strips, len(strips), "import", "strip"):
            shape = (strip.height, strip.width)
            values = np.full((count, *shape), np.nan, np.float32)
            truth, parts = np.full(shape, UNKNOWN, np.uint8), np.full(shape, NONE, np.uint8)
            for i in mosaic.within(strip):
                place = mosaic.window(i)
                row, bottom = max(place.row, strip.row), min(place.row + place.height, strip.row + strip.height)
                if row >= bottom:
                    continue
                shared = Window(row, place.column, bottom - row, place.width)
                in_patch, in_strip = shared.within(place), shared.within(strip)
                image = content.read(patches[i].image)[:, *in_patch]
                values[:, *in_strip] = image
                truth[in_strip] = _label(patches[i], content, mosaic.side)[in_patch]
                parts[in_strip] = patches[i].part
                statistics.add(image, _defined(image), truth[in_strip])
            write_window(stack, values, strip)
            write_window(valid, _defined(values).astype(np.uint8)[None], strip)
            write_window(label, truth[None], strip)
            write_window(split, parts[None], strip)
    return statistics


def _defined(values: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Where all channels, (C, h, w), have a value: (h, w)."""
    return np.asarray(~np.isnan(values).any(axis=0))


def _label(patch: Patch, content: Content, side: int) -> NDArray[np.uint8]:
    """The label of a patch, (side, side): 1 landslide, 0 not, 255 unknown, as everywhere without a mask."""
    if patch.mask is None:
        return np.full((side, side), UNKNOWN, np.uint8)
    mask = read_mask(patch.mask)
    label = np.where(mask == content.landslide, LANDSLIDE, OTHER).astype(np.uint8)
    if content.unknown is not None:
        label[mask == content.unknown] = UNKNOWN
    return label
