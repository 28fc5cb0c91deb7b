"""Make a landslide map and an inventory of polygons from a probability raster.

A landslide is a piece of pixels at or above the threshold that hang together by sides or corners, over the whole
raster at once, so that no border of a window or tile cuts it. Memory follows the tile, not the raster: a landslide is
written once no tile to come can hold any of it. All outlines are held only where ids of an earlier inventory are kept,
or vertices taken off, for which each must be seen beside all others.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from os.path import realpath  # Path.resolve fails where a link leads to itself
from pathlib import Path

import geopandas as gpd
import numpy as np

from landslip.dataset.channels import read_stack_info
from landslip.errors import OutputError, RunError
from landslip.geo.geopackage import (
    fill_styles,
    open_parquet_writer,
    open_vector_writer,
    require_geopackage_name,
)
from landslip.geo.geotiff import create_raster, require_geotiff_name
from landslip.geo.grid import Grid, require_metric, require_same_grid
from landslip.geo.raster import RasterInfo, read_info, require_probability
from landslip.geo.vector import layer_names
from landslip.inventory.measure import Found, Measured, fill_map, find, landslide_frame, measure
from landslip.inventory.previous import kept_as_read, read_earlier, refuse_lost_reviews
from landslip.metrics.confusion import stated_threshold
from landslip.plots.qgis_style import COLOURS, NOT_VALID, inventory_style, map_style, review_style
from landslip.review.review_tables import LAYER, REVIEWS
from landslip.runtime.atomic import atomic_write, refuse_existing, scratch_file
from landslip.runtime.disk import require_name
from landslip.runtime.locks import exclusive_lock

SMALLEST = 4  # pixels of the smallest landslide kept, where no area is given
MANY = 5000  # landslides written at a time


@dataclass(frozen=True)
class Summary:
    """What an inventory holds. Areas in square metres; `share` of the valid area, NaN where nothing is valid.

    `kept` of the landslides have the id of an earlier inventory.
    """

    count: int
    area_m2: float
    valid_area_m2: float
    share: float
    threshold: float
    threshold_source: str
    min_area: float
    removed: int
    removed_area_m2: float
    kept: int = 0


def make_inventory(
    probability: Path | str,
    out_gpkg: Path | str,
    threshold: float | None = None,
    min_area: float | None = None,
    map_path: Path | None = None,
    overwrite: bool = False,
    stack_path: Path | None = None,
    previous: Path | None = None,
    simplify: float | None = None,
) -> Summary:
    """Write the landslide map (GeoTIFF) and its polygons (GeoPackage, GeoParquet) of a probability raster in [0, 1].

    `threshold` is the raster's tag, or 0.5, where not given; pieces smaller than `min_area` square metres of the grid
    (default: 4 pixels) are taken out of map and polygons. The map, beside the polygons unless `map_path` is given, is
    uint8: 1 landslide, 0 not, 255 outside valid. docs/inventory.md says what the columns of the polygons are; those
    that need factors are NULL without `stack_path`, a stack on the same grid. Ids, and what was reviewed, are kept from
    `previous` (default: the file that is replaced) where outlines overlap. `simplify` metres takes vertices off the
    polygons, not off the map. A CSV beside the polygons has count, area and share (the paper's Table I).

    All outputs appear, or none. Raises GridError for rasters that are not on one metric grid, RasterError for values
    outside [0, 1], RunError for an impossible threshold, area or tolerance, OutputError for outputs that exist.
    """
    probability, out_gpkg = Path(probability), Path(out_gpkg)
    require_name(out_gpkg)
    map_path = out_gpkg.with_suffix(".tif") if map_path is None else map_path
    _check_outputs(probability, out_gpkg, map_path, overwrite)
    info = read_info(probability)
    require_probability(info)
    grid = info.grid
    require_metric(grid, str(probability))
    at, source = stated_threshold(threshold, info.tags.get("threshold"), probability.name)
    min_area = SMALLEST * grid.pixel_area if min_area is None else min_area
    if not (math.isfinite(min_area) and min_area >= 0):
        raise RunError(f"the smallest area kept, {min_area}, is not an area in square metres. Give 0 or more.")
    if simplify is not None and not (math.isfinite(simplify) and simplify > 0):
        raise RunError(f"--simplify {simplify:g} is not a length in metres. Give more than 0, or leave it out.")
    stack = None if stack_path is None else read_stack_info(stack_path)
    if stack is not None:
        require_same_grid(stack.grid, str(stack.path), grid, str(probability))
    if previous is not None and realpath(previous) == realpath(out_gpkg):
        previous = None
    earlier = read_earlier(previous or out_gpkg, grid, asked=previous is not None)
    if previous is not None:
        refuse_lost_reviews(out_gpkg, previous)

    tags = _tags(info, at, source, min_area)
    with exclusive_lock(out_gpkg), scratch_file(out_gpkg, "ids") as ids_path, ExitStack() as outputs:
        found = find(probability, grid, at, min_area, ids_path)
        measured = Measured.of(found, stack)
        most = MANY if earlier is None and simplify is None else max(len(found.pixels), 1)
        parts = measure(probability, ids_path, found, grid, at, stack, measured, most)
        frames: Iterable[gpd.GeoDataFrame] = (
            landslide_frame(measured, *part, found, grid, earlier, info, stack, simplify) for part in parts
        )
        if earlier is not None:
            frames = [*frames]  # one; nobody who reviews is to wait for it
            if previous is None:
                outputs.enter_context(kept_as_read(earlier))
        # entered one inside the other: all get their names once all are whole
        aside = outputs.enter_context(atomic_write(out_gpkg, overwrite))
        parquet = outputs.enter_context(atomic_write(out_gpkg.with_suffix(".parquet"), overwrite))
        base = None if earlier is None else earlier.base
        count, area, kept = 0, 0.0, 0
        with (
            open_vector_writer(aside, out_gpkg, LAYER, base, multi=True) as add_to_vector,
            open_parquet_writer(parquet) as add_to_parquet,
        ):
            for frame in frames:
                add_to_vector(frame)
                add_to_parquet(frame)
                count, area = count + len(frame), area + float(frame["area_m2"].sum())
                kept += 0 if earlier is None else int(frame["id"].isin(earlier.ids).sum())
        reviewed = earlier is not None and earlier.base is not None and REVIEWS in layer_names(earlier.base)
        fill_styles(aside, out_gpkg, {LAYER: inventory_style()} | ({REVIEWS: review_style()} if reviewed else {}))
        summary = _summary(count, area, found, grid, at, source, min_area, kept)
        table = outputs.enter_context(atomic_write(out_gpkg.with_suffix(".csv"), overwrite))
        table.write_text(_table(summary), encoding="utf-8")
        style = outputs.enter_context(atomic_write(map_path.with_suffix(".qml"), overwrite))
        style.write_text(map_style(), encoding="utf-8")
        dataset = outputs.enter_context(
            create_raster(map_path, grid, "uint8", ["landslide"], NOT_VALID, tags, True, overwrite, "nearest")
        )
        dataset.write_colormap(1, COLOURS)
        fill_map(dataset, probability, ids_path, found, grid)
    return summary


def begin_inventory(out_gpkg: Path, raster: Path) -> None:
    """Write an inventory (GeoPackage) of no landslide, in the CRS of a raster, for landslides that are to be drawn.

    Layer, columns and style are those of `make_inventory`, so that whatever reads an inventory reads this one. Raises
    OutputError where the file exists or cannot be written, GridError for a grid that is not metric.
    """
    require_name(out_gpkg)
    require_geopackage_name(out_gpkg)
    refuse_existing(out_gpkg, False)
    info = read_info(raster)
    require_metric(info.grid, str(raster))
    found = Found(np.zeros(1, np.int32), np.zeros(0, np.int64), 0, 0.0, 0, 0)
    empty = landslide_frame(Measured.of(found, None), slice(0, 0), [], found, info.grid, None, info, None, None)
    with atomic_write(out_gpkg) as aside:
        with open_vector_writer(aside, out_gpkg, LAYER, multi=True) as add_to_vector:
            add_to_vector(empty)
        fill_styles(aside, out_gpkg, {LAYER: inventory_style()})


def stack_of(probability: Path) -> Path | None:
    """The stack of the run folder that RUN/map/probability.tif lies in; None where there is none."""
    path = probability.absolute().parent.parent / "prepared" / "stack.tif"
    return path if path.exists() else None


def _check_outputs(probability: Path, out_gpkg: Path, map_path: Path, overwrite: bool) -> None:
    paths = (probability, out_gpkg, map_path)
    if len({realpath(path) for path in paths}) < len(paths):
        raise OutputError(
            f"the probability raster {probability}, the inventory {out_gpkg} and the map {map_path} must be three "
            "files. Give the inventory or the map another name."
        )
    require_geopackage_name(out_gpkg)
    require_geotiff_name(map_path)
    beside = (out_gpkg.with_suffix(".parquet"), out_gpkg.with_suffix(".csv"), map_path.with_suffix(".qml"))
    for path in (out_gpkg, map_path, *beside):
        refuse_existing(path, overwrite)


def _tags(info: RasterInfo, threshold: float, source: str, min_area: float) -> dict[str, str]:
    # What the probability raster says of its model and stack stays true of the map.
    kept = {key: value for key, value in info.tags.items() if key not in ("AREA_OR_POINT", "OVR_RESAMPLING_ALG")}
    return kept | {"threshold": str(threshold), "threshold_source": source, "min_area": f"{min_area:g}"}


def _summary(
    count: int,
    area: float,
    found: Found,
    grid: Grid,
    threshold: float,
    source: str,
    min_area: float,
    kept: int,
) -> Summary:
    landslide = int(found.pixels.sum())
    return Summary(
        count,
        area,
        found.valid_area,
        landslide / found.valid if found.valid else math.nan,
        threshold,
        source,
        min_area,
        found.removed,
        found.removed_pixels * grid.pixel_area,
        kept,
    )


def _table(summary: Summary) -> str:
    """The figures of the paper's Table I, one line below their names."""
    values = {
        "landslides": f"{summary.count}",
        "area_km2": f"{summary.area_m2 / 1e6:.6f}",
        "mapped_km2": f"{summary.valid_area_m2 / 1e6:.6f}",
        "share_percent": "" if math.isnan(summary.share) else f"{100 * summary.share:.4f}",
        "threshold": f"{summary.threshold}",
        "min_area_m2": f"{summary.min_area:g}",
    }
    return f"{','.join(values)}\n{','.join(values.values())}\n"
