"""Lithology and other factors in classes: one plane for each class, or one channel of ordinals."""

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
from landslip.geo.rasterize import burn_window, shapes_on
from landslip.geo.warp import warp
from landslip.preparation.source import FILL_WINDOW, ChannelSource, Encoding, resampling_of
from landslip.runtime.parallel import parallel_map

MOST_CLASSES = 100  # more values than this are hardly classes


def class_reader(table: ClassTable, grid: Grid) -> tuple[Callable[[Window], NDArray[np.int32]], dict[int, str]]:
    """A function that gives class codes at a window of the grid, and what each code on the grid stands for.

    Codes are (h, w) int32, -1 where undefined. A code of a raster stands for the raster's own name of it, else for
    itself. Raises SiteError for a raster of something else than classes, VectorError for polygons without the field.
    """
    from landslip.geo.vector import read_vector

    if table.is_raster:
        category_names = read_categories(table.path)

        def stored(window: Window) -> NDArray[np.int32]:
            values = warp(table.path, grid.crop(window), [1], "nearest", table.nodata)[0]
            return np.where(np.isnan(values), -1, np.nan_to_num(values)).astype(np.int32)

        def distinct_at(window: Window) -> set[float]:
            values = warp(table.path, grid.crop(window), [1], "nearest", table.nodata)[0]
            distinct = np.unique(values[~np.isnan(values)])
            # No more than what shows that these are no classes: too many of them, or one that is no whole number.
            return set(distinct[: MOST_CLASSES + 1].tolist() + distinct[distinct != np.round(distinct)][:1].tolist())

        values: set[float] = set()
        for distinct in parallel_map(distinct_at, tiles(grid.shape, FILL_WINDOW)):
            values |= distinct
            _require_classes(table, np.array(sorted(values), np.float32))
        return stored, {int(code): category_names.get(int(code), str(int(code))) for code in sorted(values)}
    frame = read_vector(table.path, table.layer, grid.crs, grid.bounds, table.crs)
    if table.field not in frame.columns:
        names = ", ".join(str(name) for name in frame.columns if name != "geometry")
        raise VectorError(f"{table.path} has no field {table.field!r}; its fields are {names}.")
    texts = frame[table.field].map(lambda value: str(value).strip())
    meaning = dict(enumerate(sorted(texts.unique())))
    shapes = {code: shapes_on(frame.geometry[texts == text], grid) for code, text in meaning.items()}

    def burnt(window: Window) -> NDArray[np.int32]:
        codes = np.full((window.height, window.width), -1, np.int32)
        for code, of_class in shapes.items():
            codes[burn_window(of_class, window)] = code
        return codes

    return burnt, meaning


def class_table(table: ClassTable, meaning: dict[int, str]) -> tuple[dict[int, str], list[str]]:
    """The class of each code, and the classes in order: the site file's `classes`, else every value is a class itself.

    The site file names a raster's values by code, or by the raster's own name for it. `meaning` has the names by code.
    """
    if not table.classes:
        return meaning, list(dict.fromkeys(meaning.values()))
    class_of: dict[int, str] = {}
    for code, text in meaning.items():
        keys = [key for key in ((str(code), text) if table.is_raster else (text,)) if key in table.classes]
        if keys:
            class_of[code] = table.classes[keys[0]]
    return class_of, list(dict.fromkeys(table.classes.values()))


def class_source(name: str, table: ClassTable, grid: Grid, encoding: Encoding) -> ChannelSource:
    """One plane per class (`planes`), or one channel of ordinals (`paper`). Unmapped classes are undefined."""
    codes, meaning = class_reader(table, grid)
    class_of, classes = class_table(table, meaning)
    channels = tuple(Channel(f"{name}_{_word(label)}", name, "factor", "", "class") for label in classes)
    if encoding == "paper":
        channels = (Channel(name, name, "factor", "class"),)

    def at(window: Window) -> NDArray[np.float32]:
        if encoding == "paper":
            return ordinal(codes(window), class_of, classes)[None]
        return planes(codes(window), class_of, classes)

    resampling = {table.path.name: "none: burnt onto the grid, pixels whose centre lies inside"}
    if table.is_raster:
        resampling = resampling_of([table.path], grid, "nearest")
    return ChannelSource(name, channels, lambda _: at, resampling)


def _require_classes(table: ClassTable, values: NDArray[np.float32]) -> None:
    """Raise SiteError where a raster's values are no whole numbers from 0 up, or too many for classes."""
    codes = values[(values == np.round(values)) & (values >= 0) & (values < 2**24)]
    if len(codes) < len(values) or len(values) > MOST_CLASSES:
        strange = values[~np.isin(values, codes)] if len(codes) < len(values) else values
        raise SiteError(
            f"{table.path} does not hold classes: {len(values)} different values, such as {strange[0]:g}. Classes are "
            f"at most {MOST_CLASSES} whole numbers from 0 up. Give a class raster, or state nodata where undefined."
        )


def _word(text: str) -> str:
    """The name of a class as a channel's name can hold it: lower case, with underscores for all but letters."""
    return "".join(c if c.isalnum() else "_" for c in text.lower()).strip("_")
