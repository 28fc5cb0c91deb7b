"""Make a landslide map and an inventory of polygons from a probability raster.

A landslide is a piece of pixels at or above the threshold that hang together by sides or corners, over the whole
raster at once, so that no border of a window or tile cuts it. Memory follows the tile, not the raster: a landslide is
written once no tile to come can hold any of it. All outlines are held only where ids of an earlier inventory are kept,
or vertices taken off, for which each must be seen beside all others.
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
import pandas as pd
import shapely
from numpy.typing import NDArray

from landslip.dataset.channels import StackInfo, read_stack_info
from landslip.errors import OutputError, RunError, VectorError
from landslip.geo.geodesy import area_and_perimeter, window_area
from landslip.geo.geotiff import TILE, create_raster, require_geotiff_name, write_window
from landslip.geo.grid import Grid, Window, require_metric, require_same_grid, tiles
from landslip.geo.raster import RasterInfo, open_raster, read_info, read_stored_window, read_window, require_probability
from landslip.geo.vector import (
    fill_styles,
    highest_value,
    join,
    layer_names,
    lock_geopackage,
    open_parquet_writer,
    open_vector_writer,
    outline,
    place,
    read_vector,
    require_geopackage_name,
    together,
)
from landslip.inventory.attributes import FACTORS, REACH, ClassCodes, Statistics, area_range, dominant, sides
from landslip.inventory.components import label_components
from landslip.inventory.persistent_ids import keep_ids
from landslip.metrics.confusion import require_probabilities, stated_threshold
from landslip.plots.qgis_style import COLOURS, NOT_VALID, inventory_style, map_style, review_style
from landslip.review.reviews import LAYER, LOG, REVIEWS
from landslip.runtime.atomic import atomic_write, exclusive_lock, refuse_existing, require_name, scratch_file
from landslip.runtime.progress import track
from landslip.runtime.text import read_json

MOST_ID = 2**53  # what every program that reads an id can count to
SMALLEST = 4  # pixels of the smallest landslide kept, where no area is given
SIDE = 4 * TILE
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


@dataclass(frozen=True)
class _Found:
    """Pieces that are kept, in order: (count,) pixels; `final` (n + 1,) int32 from an id within its tile to 1, 2, ...

    `valid` and `removed` count pixels, `valid_area` is in square metres.
    """

    final: NDArray[np.int32]
    pixels: NDArray[np.int64]
    valid: int
    valid_area: float
    removed: int
    removed_pixels: int


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
    earlier = _read_earlier(previous or out_gpkg, grid, asked=previous is not None)
    if previous is not None:
        _refuse_lost_reviews(out_gpkg, previous)

    tags = _tags(info, at, source, min_area)
    with exclusive_lock(out_gpkg), scratch_file(out_gpkg, "ids") as ids_path, ExitStack() as outputs:
        found = _find(probability, grid, at, min_area, ids_path)
        measured = _Measured.of(found, stack)
        most = MANY if earlier is None and simplify is None else max(len(found.pixels), 1)
        parts = _measure(probability, ids_path, found, grid, at, stack, measured, most)
        frames: Iterable[gpd.GeoDataFrame] = (
            _frame(measured, *part, found, grid, earlier, info, stack, simplify) for part in parts
        )
        if earlier is not None:
            frames = [*frames]  # one; nobody who reviews is to wait for it
            if previous is None:
                outputs.enter_context(_kept_as_read(earlier))
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
        _fill_map(dataset, probability, ids_path, found, grid)
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
    found = _Found(np.zeros(1, np.int32), np.zeros(0, np.int64), 0, 0.0, 0, 0)
    empty = _frame(_Measured.of(found, None), slice(0, 0), [], found, info.grid, None, info, None, None)
    with atomic_write(out_gpkg) as aside:
        with open_vector_writer(aside, out_gpkg, LAYER, multi=True) as add_to_vector:
            add_to_vector(empty)
        fill_styles(aside, out_gpkg, {LAYER: inventory_style()})


def stack_of(probability: Path) -> Path | None:
    """The stack of the run folder that RUN/map/probability.tif lies in; None where there is none."""
    path = probability.absolute().parent.parent / "prepared" / "stack.tif"
    return path if path.exists() else None


def layer_of(path: Path) -> str | None:
    """The layer of a vector file that an inventory is read from; None, the first, where none has its name."""
    return LAYER if LAYER in layer_names(path) else None


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


def _find(probability: Path, grid: Grid, threshold: float, min_area: float, ids_path: Path) -> _Found:
    """Find the pieces at or above the threshold; their ids, each within its tile, go into the raster `ids_path`."""
    valid, valid_area = 0, 0.0
    with (
        open_raster(probability) as dataset,
        create_raster(ids_path, grid, "int32", ["piece"], None, overwrite=True) as kept,
    ):

        def landslide(window: Window) -> NDArray[np.bool_]:
            nonlocal valid, valid_area
            values = read_window(dataset, window, [1])[0]
            require_probabilities(values, str(probability))
            here = int(np.count_nonzero(~np.isnan(values)))
            valid += here
            valid_area += here / window.area * window_area(window, grid) if here else 0
            with np.errstate(invalid="ignore"):
                return np.asarray(values >= threshold)

        def keep(window: Window, ids: NDArray[np.int32]) -> None:
            write_window(kept, ids[None], window)

        pieces = label_components(landslide, keep, grid.shape, SIDE, lambda w, n: track(w, n, "landslides", "tile"))
    large = pieces.pixels * grid.pixel_area >= min_area * (1 - 1e-9)
    final = np.zeros(len(large) + 1, np.int32)
    final[1:][large] = np.arange(1, np.count_nonzero(large) + 1)
    small = pieces.pixels[~large]
    return _Found(final[pieces.piece], pieces.pixels[large], valid, valid_area, len(small), int(small.sum()))


@dataclass
class _Measured:
    """What is known of landslides 1, 2, ...: statistics, ranges of pixels, pixels of each class (classes, count)."""

    statistics: dict[str, Statistics]
    low: NDArray[np.int64]
    high: NDArray[np.int64]
    classes: ClassCodes
    shares: NDArray[np.int64]

    @classmethod
    def of(cls, found: _Found, stack: StackInfo | None) -> _Measured:
        """Nothing measured yet."""
        count = len(found.pixels)
        channels = () if stack is None else stack.channels
        statistics = {name: Statistics(count) for name in ("probability", *_factor_bands(stack))}
        classes = ClassCodes(channels)
        counts = [np.zeros(shape, np.int64) for shape in (count, count, (len(classes.names), count))]
        return cls(statistics, counts[0], counts[1], classes, counts[2])


def _factor_bands(stack: StackInfo | None) -> dict[str, int]:
    return {} if stack is None else {c.name: i + 1 for i, c in enumerate(stack.channels) if c.name in FACTORS}


def _measure(
    probability: Path,
    ids_path: Path,
    found: _Found,
    grid: Grid,
    threshold: float,
    stack: StackInfo | None,
    measured: _Measured,
    most: int,
) -> Iterator[tuple[slice, list[Any]]]:
    """Measure landslides tile by tile; yield their places (from 0) and outlines, in whole pixels, in order.

    Some `most` at a time, once nothing of them can lie in tiles to come, and at least once, if with none.
    """
    bands, classes = _factor_bands(stack), measured.classes
    pieces: dict[int, list[list[Any]]] = {}  # of landslides that are not written yet, polygons by tile
    first = behind = 0  # written so far, seen so far
    with ExitStack() as files:
        probabilities, ids_raster = (files.enter_context(open_raster(path)) for path in (probability, ids_path))
        channels = None if stack is None else files.enter_context(open_raster(stack.path))
        cores = list(tiles(grid.shape, SIDE))
        going_on: list[int] = []  # those that reach into the row of tiles below, or near it
        for core, after in zip(track(cores, len(cores), "outlines", "tile"), [*cores[1:], None], strict=True):
            around = Window(core.row - REACH, core.column - REACH, core.height + 2 * REACH, core.width + 2 * REACH)
            around = around.clip(grid.shape)
            wide = found.final[read_stored_window(ids_raster, around)]
            if wide.any():
                near = read_window(probabilities, around, [1])[0]
                inner = core.within(around)
                area_range(wide, near, inner, threshold, measured.low, measured.high)
                ids = np.ascontiguousarray(wide[inner])
                for number, polygons in outline(ids, core).items():
                    pieces.setdefault(number, []).append(polygons)
                inside = ids > 0
                at = ids[inside]
                measured.statistics["probability"].add(at, near[inner][inside])
                if channels is not None and (bands or classes.bands):
                    cube = read_window(channels, core, [*bands.values(), *classes.bands])[:, inside]
                    for name, values in zip(bands, cube, strict=False):
                        measured.statistics[name].add(at, values)
                    for share, of_class in zip(measured.shares, classes.masks(cube[len(bands) :]), strict=True):
                        share += np.bincount(at[of_class], minlength=len(share) + 1)[1:]
                behind = max(behind, int(at.max(initial=0)))
                low_edge = ids[-REACH:]
                going_on.append(int(low_edge[low_edge > 0].min(initial=len(found.pixels) + 1)))
            if after is not None and after.row == core.row:
                continue
            done = min([behind, *(number - 1 for number in going_on)]) if after is not None else behind
            going_on = []
            while done - first >= most or after is None:
                part = slice(first, min(first + most, done))
                first = part.stop
                yield part, [_joined(pieces.pop(number)) for number in range(part.start + 1, part.stop + 1)]
                if first == done:
                    break


def _joined(by_tile: list[list[Any]]) -> Any:
    """One geometry of a landslide's polygons in one tile or in several."""
    return together(by_tile[0]) if len(by_tile) == 1 else join([p for polygons in by_tile for p in polygons])


def _frame(
    measured: _Measured,
    part: slice,
    whole: list[Any],
    found: _Found,
    grid: Grid,
    earlier: _Earlier | None,
    info: RasterInfo,
    stack: StackInfo | None,
    simplify: float | None,
) -> gpd.GeoDataFrame:
    """Landslides `part` with all their columns; float columns are NaN, text is None, where something is not known."""
    outlines = place(whole, grid)
    count, pixels = len(outlines), found.pixels[part]
    area, perimeter = area_and_perimeter(outlines, grid.crs)
    pixel_area = area / pixels  # true, where the landslide lies
    to_metres = np.sqrt(pixel_area / grid.pixel_area)
    length, width = (side * to_metres for side in sides(outlines))
    statistics = {name: held.part(part) for name, held in measured.statistics.items()}
    probability = statistics["probability"]
    ground = {name: statistics.get(name, Statistics(count)) for name in FACTORS}
    scene, date = (None, None) if stack is None else _scene(stack.path.with_name("manifest.json"))
    ids = np.arange(part.start + 1, part.stop + 1)
    states = ["open"] * count
    if earlier is not None:
        ids = keep_ids(outlines, earlier.outlines, earlier.ids.tolist(), earlier.taken)
        states = [earlier.states.get(int(i)) or "open" for i in ids]
    if simplify is not None:
        outlines = shapely.coverage_simplify(outlines, simplify)
    return gpd.GeoDataFrame(
        {
            "id": ids.astype(np.int64),
            "review": np.array(states, object),
            "area_m2": area,
            "area_low_m2": measured.low[part] * pixel_area,
            "area_high_m2": measured.high[part] * pixel_area,
            "perimeter_m": perimeter,
            "length_m": length,
            "width_m": width,
            "height_drop_m": ground["elevation"].most - ground["elevation"].least,
            "elevation_min": ground["elevation"].least,
            "elevation_max": ground["elevation"].most,
            "slope_mean": ground["slope"].mean,
            "slope_max": ground["slope"].most,
            "lithology": np.array(dominant(measured.shares[:, part], measured.classes.names), object),
            "distance_to_river_m": ground["distance_to_river"].least,
            "distance_to_fault_m": ground["distance_to_fault"].least,
            "probability_mean": probability.mean,
            "probability_min": probability.least,
            "probability_max": probability.most,
            "pixels": pixels,
            "scene": np.array([scene] * count, object),
            "date": np.array([date] * count, object),
            "model_sha256": np.array([info.tags.get("model_sha256")] * count, object),
        },
        geometry=list(outlines),
        crs=grid.crs.to_wkt(),
    )


@dataclass(frozen=True)
class _Earlier:
    """An earlier inventory in the CRS of the new one: outlines (m,), ids (m,), states by id, the highest id in use."""

    path: Path
    outlines: NDArray[Any]
    ids: NDArray[np.int64]
    states: dict[int, str]
    taken: int
    base: Path | None  # the file whose other layers are kept
    changed: int  # when it was last written to before it was read; 0 where it is not replaced


def _read_earlier(path: Path, grid: Grid, asked: bool) -> _Earlier | None:
    """The inventory whose ids are kept; None where there is none and none was `asked` for."""
    if not asked:
        try:
            there = layer_names(path) if path.exists() else []
            if LAYER not in there and not {REVIEWS, LOG} & set(there):
                return None
            if LAYER not in there:
                raise VectorError(f"{path} has reviews and no layer {LAYER}")
        except VectorError as error:  # what was reviewed in it must not be lost silently
            raise OutputError(f"{path} is to be replaced, and cannot be read to keep its ids. Move it away.") from error
    changed = 0
    if not asked:
        with lock_geopackage(path):  # what another program has not brought into the file yet must not be missed
            changed = path.stat().st_mtime_ns
    frame = read_vector(path, LAYER, grid.crs)
    if "id" not in frame.columns:
        raise VectorError(f"{path}: layer {LAYER} has no column id, so that no id can be kept. Is it an inventory?")
    known = pd.to_numeric(frame["id"], errors="coerce")
    frame = frame[known.between(1, MOST_ID) & (known % 1 == 0)]  # others are no ids that an inventory gave
    ids = frame["id"].to_numpy(np.int64)
    states = dict(zip(ids.tolist(), frame["review"], strict=True)) if "review" in frame.columns else {}
    names = layer_names(path)
    taken = max((highest_value(path, name, "landslide") for name in (REVIEWS, LOG) if name in names), default=0)
    # what else is in the file that is replaced (reviews, notes drawn in QGIS) stays; of another one, only its reviews
    base = path if not asked or REVIEWS in names else None
    return _Earlier(path, frame.geometry.to_numpy(), ids, states, taken, base, changed)


def _refuse_lost_reviews(out_gpkg: Path, previous: Path) -> None:
    """Raise OutputError where the file to be replaced holds reviews, and those of another one are to be kept."""
    if out_gpkg.exists() and LOG in layer_names(out_gpkg):
        raise OutputError(
            f"{out_gpkg} holds reviews, which keeping those of {previous} would lose. Give another name, or leave out "
            "--previous."
        )


@contextmanager
def _kept_as_read(earlier: _Earlier) -> Iterator[None]:
    """Raise OutputError where an inventory was reviewed since it was read; let nobody write to it until this ends."""
    with lock_geopackage(earlier.path):
        if earlier.path.stat().st_mtime_ns != earlier.changed:
            raise OutputError(
                f"{earlier.path} was reviewed while the inventory was made anew. It is kept; run the command again."
            )
        yield


def _scene(manifest: Path) -> tuple[str | None, str | None]:
    """Scenes and dates that the site states for its images, from the manifest beside the stack."""
    try:
        images = read_json(manifest)["site"]["image"]
        scenes, dates = ([str(image[key]) for image in images if image.get(key)] for key in ("scene", "date"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None, None
    return ", ".join(dict.fromkeys(scenes)) or None, ", ".join(dict.fromkeys(dates)) or None


def _summary(
    count: int,
    area: float,
    found: _Found,
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


def _fill_map(dataset: Any, probability: Path, ids_path: Path, found: _Found, grid: Grid) -> None:
    with open_raster(probability) as source, open_raster(ids_path) as ids:
        for window in tiles(grid.shape, SIDE):
            undefined = np.isnan(read_window(source, window, [1])[0])
            landslide = found.final[read_stored_window(ids, window)] > 0
            write_window(dataset, np.where(undefined, NOT_VALID, landslide).astype(np.uint8)[None], window)
