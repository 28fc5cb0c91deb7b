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
    FLAT,
    HITS,
    MISSES,
    class_colour,
    directions,
)
from landslip.runtime.progress import track

NONE = 255  # no class: undefined, or not judged
SIDE = 2048  # pixels a side that are read at once
MOST = 250  # classes that fit a byte beside NONE

Float = NDArray[np.float32]
Codes = NDArray[np.uint8]


@dataclass(frozen=True)
class ClassMap:
    """A raster of classes to be: (path, bands) it is made from, the words and colours of its codes, and how to code.

    `code` makes (H, W) uint8 of (B, H, W) float32, the bands of all sources in order, NaN where undefined.
    """

    name: str
    title: str
    grid: Grid
    sources: tuple[tuple[Path, tuple[int, ...]], ...]
    classes: dict[int, tuple[str, str]]
    code: Callable[[Float], Codes]


def factor_maps(stack: StackInfo) -> Iterator[ClassMap]:
    """Maps of the factors that a stack holds in several channels each: aspect and classes."""
    for factor in dict.fromkeys(channel.factor for channel in stack.channels):
        own = [(band, channel) for band, channel in enumerate(stack.channels, start=1) if channel.factor == factor]
        kinds = {channel.kind: band for band, channel in own}
        title = factor.replace("_", " ")
        if {"sine", "cosine"} <= kinds.keys():
            named = zip(("flat", *DIRECTIONS), (FLAT, *directions()), strict=True)
            sources = ((stack.path, (kinds["sine"], kinds["cosine"])),)
            classes = dict(enumerate(named))
            yield ClassMap(factor, title, stack.grid, sources, classes, lambda v: _coded(direction_of(v)))
        elif set(kinds) == {"class"} and len(own) <= MOST:
            words = [channel.name.removeprefix(f"{factor}_").replace("_", " ") for _, channel in own]
            classes = {i: (word, class_colour(i)) for i, word in enumerate(words)}
            bands = tuple(band for band, _ in own)
            yield ClassMap(factor, title, stack.grid, ((stack.path, bands),), classes, lambda v: _coded(class_of(v)))


def agreement_map(probability: Path, label: Path, threshold: float) -> ClassMap | None:
    """Hits, misses and false alarms of a probability raster cut at a threshold; None where the grids differ."""
    grid = read_info(probability).grid
    if not same_grid(grid, read_info(label).grid):
        return None

    def code(values: Float) -> Codes:
        mapped, drawn = values[0] >= np.float32(threshold), values[1] == LANDSLIDE
        found = np.full(mapped.shape, NONE, np.uint8)
        for number, where in ((1, mapped & drawn), (2, ~mapped & drawn), (3, mapped & ~drawn)):
            found[where] = number
        found[np.isnan(values[:2]).any(axis=0) | (values[1] == UNKNOWN)] = NONE
        return found

    classes = {1: ("hits", HITS), 2: ("misses", MISSES), 3: ("false alarms", FALSE_ALARMS)}
    sources = ((probability, (1,)), (label, (1,)))
    return ClassMap("hits_and_misses", f"hits and misses at {threshold:g}", grid, sources, classes, code)


def eighth(degrees: Float) -> Float:
    """1 to 8 by the eighth of the compass that degrees lie in, 1 around north; NaN where they are."""
    return np.asarray(np.floor((degrees + 22.5) / 45) % 8 + 1, np.float32)


def direction_of(values: Float) -> Float:
    """The eighth of (2, H, W) sine and cosine of aspect: (H, W), 0 where flat, NaN where either is undefined."""
    found = eighth(aspect_from(values[0], values[1]))
    found[np.isnan(found) & ~np.isnan(values).any(axis=0)] = 0  # flat ground has no direction, and is no hole
    return found


def class_of(values: Float) -> Float:
    """Which of (C, H, W) planes of 0 and 1 holds a pixel, from 0: (H, W), NaN where one is undefined or none does."""
    found: Float = np.argmax(np.nan_to_num(values, nan=-1), axis=0).astype(np.float32)
    found[np.isnan(values).any(axis=0) | ~(np.nan_to_num(values) > 0.5).any(axis=0)] = np.nan
    return found


def _coded(found: Float) -> Codes:
    """Classes as bytes, NONE where there is none."""
    return np.where(np.isnan(found), NONE, np.nan_to_num(found)).astype(np.uint8)


def write_class_map(one: ClassMap, path: Path) -> None:
    """Write a map of classes as a cloud-optimized GeoTIFF of bytes; tags say what each code is."""
    tags = {f"class_{code}": word for code, (word, _) in one.classes.items()}
    windows = list(tiles(one.grid.shape, SIDE))
    with ExitStack() as held:
        rasters = [(held.enter_context(open_raster(source)), bands) for source, bands in one.sources]
        out = held.enter_context(create_raster(path, one.grid, "uint8", [one.title], NONE, tags, overviews="nearest"))
        for window in track(windows, len(windows), one.title, "window"):
            values = np.concatenate([read_window(raster, window, bands) for raster, bands in rasters])
            write_window(out, one.code(values)[None], window)
