"""Lithology and other classes, one plane each."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from landslip.config.site_tables import ClassTable
from landslip.dataset.channels import Channel
from landslip.errors import SiteError, VectorError
from landslip.factors.lithology import ordinal, planes
from landslip.geo.grid import Grid, Window, tiles
from landslip.geo.raster import read_categories
from landslip.geo.warp import warp
from landslip.preparation.source import BLOCK, ChannelSource, Encoding, resampling_of
from landslip.runtime.parallel import parallel_map

MOST_CLASSES = 100  # more values than this are hardly classes


def class_reader(table: ClassTable, grid: Grid) -> tuple[Callable[[Window], NDArray[np.int32]], dict[int, str]]:
    """A function that gives class codes at a window of the grid, and what each code on the grid stands for.

    Codes are (h, w) int32, -1 where undefined. A code of a raster stands for the raster's own name of it, else for
    itself.
    """
    from landslip.geo.rasterize import burn_window, shapes_on
    from landslip.geo.vector import read_vector

    if table.is_raster:
        called = read_categories(table.path)

        def stored(window: Window) -> NDArray[np.int32]:
            values = warp(table.path, grid.crop(window), [1], "nearest", table.nodata)[0]
            return np.where(np.isnan(values), -1, np.nan_to_num(values)).astype(np.int32)

        def different(window: Window) -> set[float]:
            values = warp(table.path, grid.crop(window), [1], "nearest", table.nodata)[0]
            found = np.unique(values[~np.isnan(values)])
            return set(found[: MOST_CLASSES + 1].tolist() + found[found != np.round(found)][:1].tolist())

        seen: set[float] = set()
        for found in parallel_map(different, tiles(grid.shape, BLOCK)):
            seen |= found
            _require_classes(table, np.array(sorted(seen), np.float32))
        return stored, {int(code): called.get(int(code), str(int(code))) for code in sorted(seen)}
    frame = read_vector(table.path, table.layer, grid.crs, grid.bounds, table.crs)
    if table.field not in frame.columns:
        names = ", ".join(str(name) for name in frame.columns if name != "geometry")
        raise VectorError(f"{table.path} has no field {table.field!r}; its fields are {names}.")
    texts = frame[table.field].map(lambda value: str(value).strip())
    meaning = dict(enumerate(sorted(texts.unique())))
    shapes = {code: shapes_on(frame.geometry[texts == text], grid) for code, text in meaning.items()}

    def burnt(window: Window) -> NDArray[np.int32]:
        codes = np.full((window.height, window.width), -1, np.int32)
        for code, own in shapes.items():
            codes[burn_window(own, window)] = code
        return codes

    return burnt, meaning


def class_table(table: ClassTable, meaning: dict[int, str]) -> tuple[dict[int, str], list[str]]:
    """({code: class}, classes in order): the site's own `classes`, or every value its own class.

    `classes` has a raster's values by code or by the raster's own name for it.
    """
    if not table.classes:
        return meaning, list(dict.fromkeys(meaning.values()))
    known: dict[int, str] = {}
    for code, text in meaning.items():
        keys = [key for key in ((str(code), text) if table.is_raster else (text,)) if key in table.classes]
        if keys:
            known[code] = table.classes[keys[0]]
    return known, list(dict.fromkeys(table.classes.values()))


def class_source(name: str, table: ClassTable, grid: Grid, encoding: Encoding) -> ChannelSource:
    """One plane per class (`planes`), or one channel of ordinals (`paper`). Unmapped classes are undefined."""
    codes, meaning = class_reader(table, grid)
    known, classes = class_table(table, meaning)
    channels = tuple(Channel(f"{name}_{_word(label)}", name, "factor", "", "class") for label in classes)
    if encoding == "paper":
        channels = (Channel(name, name, "factor", "class"),)

    def at(window: Window) -> NDArray[np.float32]:
        if encoding == "paper":
            return ordinal(codes(window), known, classes)[None]
        return planes(codes(window), known, classes)

    how = {table.path.name: "none: burnt onto the grid, pixels whose centre lies inside"}
    if table.is_raster:
        how = resampling_of([table.path], grid, "nearest")
    return ChannelSource(name, channels, lambda _: at, how)


def _require_classes(table: ClassTable, found: NDArray[np.float32]) -> None:
    whole = found[(found == np.round(found)) & (found >= 0) & (found < 2**24)]
    if len(whole) < len(found) or len(found) > MOST_CLASSES:
        strange = found[~np.isin(found, whole)] if len(whole) < len(found) else found
        raise SiteError(
            f"{table.path} does not hold classes: {len(found)} different values, such as {strange[0]:g}. Classes are "
            f"at most {MOST_CLASSES} whole numbers from 0 up. Give a class raster, or state nodata where undefined."
        )


def _word(text: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in text.lower()).strip("_")
