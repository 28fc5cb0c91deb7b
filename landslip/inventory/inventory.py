"""Make a landslide map and an inventory of polygons from a probability raster.

A landslide is a piece of pixels at or above the threshold that hang together by sides or corners, over the whole
raster at once, so that no border of a window or tile cuts it. Memory follows the tile, not the raster: a landslide is
written once no tile to come can hold any of it. All outlines are in memory at once only where ids of an earlier
inventory are kept or vertices are taken off, because each must then be seen beside all others.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from os.path import realpath  # Path.resolve fails where a link leads to itself
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np

from landslip.dataset.channels import StackInfo, read_stack_info
from landslip.errors import OutputError, RunError
from landslip.geo.geopackage import fill_styles, open_parquet_writer, open_vector_writer, require_geopackage_name
from landslip.geo.geotiff import create_raster, require_geotiff_name
from landslip.geo.grid import Grid, require_metric, require_same_grid
from landslip.geo.raster import RasterInfo, read_info, require_probability
from landslip.geo.vector import layer_names
from landslip.inventory.measure import LandslidePieces, Measured, fill_map, find, landslide_frame, measure
from landslip.inventory.previous import Earlier, earlier_inventory, keep_as_read
from landslip.metrics.confusion import stated_threshold
from landslip.plots.qgis_style import MAP_COLOURS, NOT_VALID, inventory_style, map_style, review_style
from landslip.review.review_tables import LAYER, REVIEW_LAYER
from landslip.runtime.atomic import atomic_write, refuse_existing, scratch_file
from landslip.runtime.disk import require_name
from landslip.runtime.locks import exclusive_lock

SMALLEST = 4  # pixels of the smallest landslide that counts, where no area is given
MANY = 5000  # landslides that are held at a time between measuring and writing


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What an inventory holds: its landslides and their area, of what valid area, and by what threshold.

    Areas are in square metres; `share` is that of the valid pixels, NaN where none is valid. `removed` pieces were
    smaller than `min_area`; `kept` of the landslides have the id of an earlier inventory.
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
    *,
    map_path: Path | None = None,
    overwrite: bool = False,
    stack_path: Path | None = None,
    previous: Path | None = None,
    simplify: float | None = None,
) -> Summary:
    """Write the landslide map (GeoTIFF) and its polygons (GeoPackage, GeoParquet) of a probability raster in [0, 1].

    `threshold` is the raster's tag, or 0.5, where not given. Pieces smaller than `min_area` square metres of the grid
    (default: 4 pixels) are taken out of map and polygons. The map, written to `map_path` or beside the polygons, is
    uint8: 1 landslide, 0 not, 255 where there is no probability. A CSV beside the polygons has count, area and share
    (the paper's Table I).

    docs/inventory.md says what the columns of the polygons are. Those that need factors are NULL without `stack_path`,
    a stack on the same grid. Ids, and what was reviewed, are kept from the inventory `previous` (default: the file that
    is replaced) where outlines overlap. `simplify` metres takes vertices off the polygons, not off the map.

    All outputs appear, or none. Raises GridError for rasters that are not on one metric grid, RasterError for values
    outside [0, 1], RunError for an impossible threshold, area or tolerance, OutputError for outputs that exist.
    """
    probability, out_gpkg = Path(probability), Path(out_gpkg)
    require_name(out_gpkg)
    map_path = out_gpkg.with_suffix(".tif") if map_path is None else map_path
    _require_outputs(probability, out_gpkg, map_path, overwrite)
    info = read_info(probability)
    require_probability(info)
    require_metric(info.grid, str(probability))
    stated = stated_threshold(threshold, info.tags.get("threshold"), probability.name)
    min_area = SMALLEST * info.grid.pixel_area if min_area is None else min_area
    _require_possible(min_area, simplify)
    stack = None if stack_path is None else _stack_on(stack_path, info)
    earlier = earlier_inventory(out_gpkg, previous, info.grid)
    with exclusive_lock(out_gpkg), scratch_file(out_gpkg, "ids") as ids_path, ExitStack() as outputs:
        pieces = find(info, stated[0], min_area, ids_path)
        measured = Measured.of(pieces, stack)
        frames = _frames(info, stated[0], ids_path, measured, earlier=earlier, simplify=simplify)
        if earlier is not None:
            frames = [*frames]  # Measured before the lock, so that nobody who reviews has to wait for it.
            if earlier.changed is not None:
                outputs.enter_context(keep_as_read(earlier))
        # Each output is entered inside the one before: all get their names once all are whole, or none does.
        aside = outputs.enter_context(atomic_write(out_gpkg, overwrite))
        parquet = outputs.enter_context(atomic_write(out_gpkg.with_suffix(".parquet"), overwrite))
        written = _write_polygons(frames, aside, out_gpkg, parquet, earlier)
        summary = _summary(written, pieces, info.grid, stated, min_area)
        table = outputs.enter_context(atomic_write(out_gpkg.with_suffix(".csv"), overwrite))
        table.write_text(_table(summary), encoding="utf-8")
        style = outputs.enter_context(atomic_write(map_path.with_suffix(".qml"), overwrite))
        style.write_text(map_style(), encoding="utf-8")
        tags = _map_tags(info, stated, min_area)
        dataset = outputs.enter_context(_open_map(map_path, info.grid, tags, overwrite))
        fill_map(dataset, info, ids_path, pieces)
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
    pieces = LandslidePieces(
        final=np.zeros(1, np.int32),
        pixels=np.zeros(0, np.int64),
        valid=0,
        valid_area=0.0,
        removed=0,
        removed_pixels=0,
    )
    empty = landslide_frame(Measured.of(pieces, None), slice(0, 0), [], info)
    with atomic_write(out_gpkg) as aside:
        with open_vector_writer(aside, out_gpkg, LAYER, multi=True) as add_to_vector:
            add_to_vector(empty)
        fill_styles(aside, out_gpkg, {LAYER: inventory_style()})


def stack_of(probability: Path) -> Path | None:
    """The stack of the run folder that RUN/map/probability.tif lies in; None where there is none."""
    path = probability.absolute().parent.parent / "prepared" / "stack.tif"
    return path if path.exists() else None


def _require_outputs(probability: Path, out_gpkg: Path, map_path: Path, overwrite: bool) -> None:
    """Raise OutputError for outputs that are one file, or the input, are called as no program expects, or exist."""
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


def _require_possible(min_area: float, simplify: float | None) -> None:
    """Raise RunError for a smallest area or a tolerance that is none."""
    if not (math.isfinite(min_area) and min_area >= 0):
        raise RunError(f"the smallest area kept, {min_area}, is not an area in square metres. Give 0 or more.")
    if simplify is not None and not (math.isfinite(simplify) and simplify > 0):
        raise RunError(f"--simplify {simplify:g} is not a length in metres. Give more than 0, or leave it out.")


def _stack_on(path: Path, info: RasterInfo) -> StackInfo:
    """The header of a stack; GridError where it does not lie on the grid of the probability raster."""
    stack = read_stack_info(path)
    require_same_grid(stack.grid, str(stack.path), info.grid, str(info.path))
    return stack


def _map_tags(info: RasterInfo, stated: tuple[float, str], min_area: float) -> dict[str, str]:
    """The tags of the landslide map: those of the probability raster, which stay true of it, and how it was made."""
    tags = {key: value for key, value in info.tags.items() if key not in ("AREA_OR_POINT", "OVR_RESAMPLING_ALG")}
    threshold, source = stated
    return tags | {"threshold": str(threshold), "threshold_source": source, "min_area": f"{min_area:g}"}


def _summary(
    written: tuple[int, float, int], pieces: LandslidePieces, grid: Grid, stated: tuple[float, str], min_area: float
) -> Summary:
    """What was `written`, by the `stated` threshold and its source, and what was left out, in figures."""
    (count, area, with_earlier_ids), (threshold, source) = written, stated
    return Summary(
        count=count,
        area_m2=area,
        valid_area_m2=pieces.valid_area,
        share=int(pieces.pixels.sum()) / pieces.valid if pieces.valid else math.nan,
        threshold=threshold,
        threshold_source=source,
        min_area=min_area,
        removed=pieces.removed,
        removed_area_m2=pieces.removed_pixels * grid.pixel_area,
        kept=with_earlier_ids,
    )


def _frames(
    info: RasterInfo,
    threshold: float,
    ids_path: Path,
    measured: Measured,
    *,
    earlier: Earlier | None,
    simplify: float | None,
) -> Iterable[gpd.GeoDataFrame]:
    """The landslides with all their columns, some at a time; all at once where each must be seen beside all others."""
    at_once = MANY if earlier is None and simplify is None else max(len(measured.pieces.pixels), 1)
    for part, outlines in measure(info, threshold, ids_path, measured, at_once):
        yield landslide_frame(measured, part, outlines, info, earlier=earlier, simplify=simplify)


def _write_polygons(
    frames: Iterable[gpd.GeoDataFrame], aside: Path, out_gpkg: Path, parquet: Path, earlier: Earlier | None
) -> tuple[int, float, int]:
    """Write landslides into a GeoPackage and a GeoParquet: their number, area in square metres, and how many keep ids.

    `aside` will be renamed to `out_gpkg`. The other layers of the earlier inventory go on in it.
    """
    base = None if earlier is None else earlier.base
    count, area, with_earlier_ids = 0, 0.0, 0
    with (
        open_vector_writer(aside, out_gpkg, LAYER, base, multi=True) as add_to_vector,
        open_parquet_writer(parquet) as add_to_parquet,
    ):
        for frame in frames:
            add_to_vector(frame)
            add_to_parquet(frame)
            count, area = count + len(frame), area + float(frame["area_m2"].sum())
            with_earlier_ids += 0 if earlier is None else int(frame["id"].isin(earlier.ids).sum())
    reviewed = base is not None and REVIEW_LAYER in layer_names(base)
    fill_styles(aside, out_gpkg, {LAYER: inventory_style()} | ({REVIEW_LAYER: review_style()} if reviewed else {}))
    return count, area, with_earlier_ids


@contextmanager
def _open_map(map_path: Path, grid: Grid, tags: dict[str, str], overwrite: bool) -> Iterator[Any]:
    """Yield the landslide map, open to be written window by window; a cloud-optimized GeoTIFF with its colours."""
    with create_raster(
        map_path, grid, "uint8", ["landslide"], NOT_VALID, tags=tags, overwrite=overwrite, overviews="nearest"
    ) as dataset:
        dataset.write_colormap(1, MAP_COLOURS)
        yield dataset


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
