"""Landslides found in a map and measured, strip by strip."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import NDArray

from landslip.dataset.channels import StackInfo
from landslip.geo.geodesy import area_and_perimeter, window_area
from landslip.geo.geotiff import TILE, create_raster, write_window
from landslip.geo.grid import Grid, Window, tiles
from landslip.geo.polygonize import join, outline, place, together
from landslip.geo.raster import RasterInfo, open_raster, read_stored_window, read_window
from landslip.inventory.attributes import FACTORS, REACH, ClassCodes, Statistics, area_range, dominant, sides
from landslip.inventory.components import label_components
from landslip.inventory.persistent_ids import keep_ids
from landslip.inventory.previous import Earlier
from landslip.metrics.confusion import require_probabilities
from landslip.plots.qgis_style import NOT_VALID
from landslip.runtime.progress import track
from landslip.runtime.text import read_json

SIDE = 4 * TILE


@dataclass(frozen=True)
class Found:
    """Pieces that are kept, in order: (count,) pixels; `final` (n + 1,) int32 from an id within its tile to 1, 2, ...

    `valid` and `removed` count pixels, `valid_area` is in square metres.
    """

    final: NDArray[np.int32]
    pixels: NDArray[np.int64]
    valid: int
    valid_area: float
    removed: int
    removed_pixels: int


@dataclass
class Measured:
    """What is known of landslides 1, 2, ...: statistics, ranges of pixels, pixels of each class (classes, count)."""

    statistics: dict[str, Statistics]
    low: NDArray[np.int64]
    high: NDArray[np.int64]
    classes: ClassCodes
    shares: NDArray[np.int64]

    @classmethod
    def of(cls, found: Found, stack: StackInfo | None) -> Measured:
        """Nothing measured yet."""
        count = len(found.pixels)
        channels = () if stack is None else stack.channels
        statistics = {name: Statistics(count) for name in ("probability", *_factor_bands(stack))}
        classes = ClassCodes(channels)
        counts = [np.zeros(shape, np.int64) for shape in (count, count, (len(classes.names), count))]
        return cls(statistics, counts[0], counts[1], classes, counts[2])


def find(probability: Path, grid: Grid, threshold: float, min_area: float, ids_path: Path) -> Found:
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
    return Found(final[pieces.piece], pieces.pixels[large], valid, valid_area, len(small), int(small.sum()))


def measure(
    probability: Path,
    ids_path: Path,
    found: Found,
    grid: Grid,
    threshold: float,
    stack: StackInfo | None,
    measured: Measured,
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


def landslide_frame(
    measured: Measured,
    part: slice,
    whole: list[Any],
    found: Found,
    grid: Grid,
    earlier: Earlier | None,
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


def fill_map(dataset: Any, probability: Path, ids_path: Path, found: Found, grid: Grid) -> None:
    with open_raster(probability) as source, open_raster(ids_path) as ids:
        for window in tiles(grid.shape, SIDE):
            undefined = np.isnan(read_window(source, window, [1])[0])
            landslide = found.final[read_stored_window(ids, window)] > 0
            write_window(dataset, np.where(undefined, NOT_VALID, landslide).astype(np.uint8)[None], window)


def _factor_bands(stack: StackInfo | None) -> dict[str, int]:
    return {} if stack is None else {c.name: i + 1 for i, c in enumerate(stack.channels) if c.name in FACTORS}


def _joined(by_tile: list[list[Any]]) -> Any:
    """One geometry of a landslide's polygons in one tile or in several."""
    return together(by_tile[0]) if len(by_tile) == 1 else join([p for polygons in by_tile for p in polygons])


def _scene(manifest: Path) -> tuple[str | None, str | None]:
    """Scenes and dates that the site states for its images, from the manifest beside the stack."""
    try:
        images = read_json(manifest)["site"]["image"]
        scenes, dates = ([str(image[key]) for image in images if image.get(key)] for key in ("scene", "date"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None, None
    return ", ".join(dict.fromkeys(scenes)) or None, ", ".join(dict.fromkeys(dates)) or None
