"""Rasters of classes that other programs cannot make on the fly: aspect by direction, rocks, hits and misses.

A stack holds aspect as sine and cosine and a rock as a plane of 0 and 1, as a network wants them; people want one map
of each. They are cut from the rasters window by window, so memory does not grow with the site.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from landslip.dataset.channels import StackInfo
from landslip.dataset.label import LANDSLIDE, UNKNOWN
from landslip.factors.terrain import aspect_from
from landslip.geo.geotiff import create_raster, write_window
from landslip.geo.grid import Grid, same_grid, tiles
from landslip.geo.raster import open_raster, read_info, read_window
from landslip.plots.palette import (
    DIRECTIONS,
    FALSE_ALARMS,
    FLAT_COLOUR,
    HITS,
    MISSES,
    class_colour,
    directions,
)
from landslip.runtime.progress import track

NONE = 255  # the code of no class: undefined, or not judged
WINDOW_SIDE = 2048  # side of the windows that are read, pixels
MOST_CLASSES = 250  # classes of a map, which fit a byte beside NONE
Float = NDArray[np.float32]
Codes = NDArray[np.uint8]
Sources = tuple[tuple[Path, tuple[int, ...]], ...]


@dataclass(frozen=True, kw_only=True)
class ClassMap:
    """A raster of classes that can be written, with what it is made from and how.

    `sources`: the (path, bands) it is made from; `classes`: the (word, colour) of each code; `code` makes codes, (H, W)
    uint8, from the bands of all sources in order, (B, H, W) float32 with NaN where undefined.
    """

    name: str
    title: str
    grid: Grid
    sources: Sources
    classes: dict[int, tuple[str, str]]
    code: Callable[[Float], Codes]


def factor_maps(stack: StackInfo) -> Iterator[ClassMap]:
    """Maps of the factors that a stack holds in several channels each: aspect and classes."""
    for factor in dict.fromkeys(channel.factor for channel in stack.channels):
        members = [(band, channel) for band, channel in enumerate(stack.channels, start=1) if channel.factor == factor]
        kinds = {channel.kind: band for band, channel in members}
        title = factor.replace("_", " ")
        if {"sine", "cosine"} <= kinds.keys():
            looks = zip(("flat", *DIRECTIONS), (FLAT_COLOUR, *directions()), strict=True)
            sources: Sources = ((stack.path, (kinds["sine"], kinds["cosine"])),)
            classes = dict(enumerate(looks))
            yield ClassMap(
                name=factor, title=title, grid=stack.grid, sources=sources, classes=classes, code=_direction_codes
            )
        elif set(kinds) == {"class"} and len(members) <= MOST_CLASSES:
            words = [channel.name.removeprefix(f"{factor}_").replace("_", " ") for _, channel in members]
            classes = {i: (word, class_colour(i)) for i, word in enumerate(words)}
            sources = ((stack.path, tuple(band for band, _ in members)),)
            yield ClassMap(
                name=factor, title=title, grid=stack.grid, sources=sources, classes=classes, code=_class_codes
            )


def agreement_map(probability: Path, label: Path, threshold: float) -> ClassMap | None:
    """Hits, misses and false alarms of a probability raster cut at a threshold; None where the grids differ."""
    grid = read_info(probability).grid
    if not same_grid(grid, read_info(label).grid):
        return None

    def code(values: Float) -> Codes:
        mapped, labelled = values[0] >= np.float32(threshold), values[1] == LANDSLIDE
        codes = np.full(mapped.shape, NONE, np.uint8)
        for number, where in ((1, mapped & labelled), (2, ~mapped & labelled), (3, mapped & ~labelled)):
            codes[where] = number
        codes[np.isnan(values[:2]).any(axis=0) | (values[1] == UNKNOWN)] = NONE
        return codes

    classes = {1: ("hits", HITS), 2: ("misses", MISSES), 3: ("false alarms", FALSE_ALARMS)}
    sources = ((probability, (1,)), (label, (1,)))
    return ClassMap(
        name="hits_and_misses",
        title=f"hits and misses at {threshold:g}",
        grid=grid,
        sources=sources,
        classes=classes,
        code=code,
    )


def write_class_map(one: ClassMap, path: Path) -> None:
    """Write a map of classes as a cloud-optimized GeoTIFF of bytes; tags say what each code is."""
    tags = {f"class_{code}": word for code, (word, _) in one.classes.items()}
    windows = list(tiles(one.grid.shape, WINDOW_SIDE))
    with ExitStack() as files:
        rasters = [(files.enter_context(open_raster(source)), bands) for source, bands in one.sources]
        writer = create_raster(path, one.grid, "uint8", [one.title], NONE, tags=tags, overviews="nearest")
        out = files.enter_context(writer)
        for window in track(windows, len(windows), one.title, "window"):
            values = np.concatenate([read_window(raster, window, bands) for raster, bands in rasters])
            write_window(out, one.code(values)[None], window)


def direction_of(values: Float) -> Float:
    """The eighth of (2, H, W) sine and cosine of aspect: (H, W), 0 where flat, NaN where either is undefined."""
    eighths = eighth(aspect_from(values[0], values[1]))
    eighths[np.isnan(eighths) & ~np.isnan(values).any(axis=0)] = 0  # Flat ground has no direction, and is no gap.
    return eighths


def class_of(values: Float) -> Float:
    """Which of (C, H, W) planes of 0 and 1 holds a pixel, from 0, (H, W).

    NaN where a plane is undefined, or none holds the pixel.
    """
    planes: Float = np.argmax(np.nan_to_num(values, nan=-1), axis=0).astype(np.float32)
    planes[np.isnan(values).any(axis=0) | ~(np.nan_to_num(values) > 0.5).any(axis=0)] = np.nan
    return planes


def eighth(degrees: Float) -> Float:
    """The eighth of the compass that degrees lie in, 1 (around north) to 8; NaN where they are NaN."""
    return np.asarray(np.floor((degrees + 22.5) / 45) % 8 + 1, np.float32)


def _direction_codes(values: Float) -> Codes:
    return _as_bytes(direction_of(values))


def _class_codes(values: Float) -> Codes:
    return _as_bytes(class_of(values))


def _as_bytes(classes: Float) -> Codes:
    """Classes (H, W) as bytes, NONE where they are NaN."""
    return np.where(np.isnan(classes), NONE, np.nan_to_num(classes)).astype(np.uint8)
