"""The landslides of a probability raster: found tile by tile, measured tile by tile, and put into a table.

Memory follows the tile and the number of landslides, not the raster.
"""

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
from rasterio.io import DatasetWriter

from landslip.dataset.channels import StackInfo
from landslip.geo.geodesy import area_and_perimeter, window_area
from landslip.geo.geotiff import STORED_TILE, create_raster, write_window
from landslip.geo.grid import Window, tiles
from landslip.geo.polygonize import join, outline, place, together
from landslip.geo.raster import RasterInfo, open_raster, read_stored_window, read_window
from landslip.inventory.attributes import (
    ATTRIBUTE_FACTORS,
    GROWTH_REACH,
    ClassCodes,
    Statistics,
    area_range,
    dominant,
    sides,
)
from landslip.inventory.components import label_components
from landslip.inventory.persistent_ids import keep_ids
from landslip.inventory.previous import Earlier
from landslip.metrics.confusion import require_probabilities
from landslip.plots.qgis_style import NOT_VALID
from landslip.runtime.progress import track
from landslip.runtime.text import read_json

MEASURED_SIDE = 4 * STORED_TILE  # pixels a side of the tiles that landslides are found and measured in


@dataclass(frozen=True, kw_only=True)
class LandslidePieces:
    """The pieces of a map that are landslides, numbered 1, 2, ..., and what was left out.

    `final`, (n + 1,) int32, maps the id that a piece has in the raster of ids to its number, 0 where it is too small;
    `pixels`, (count,), is the size of each. `valid` counts pixels that have a probability, `valid_area` is theirs in
    square metres; `removed` counts pieces that are too small, `removed_pixels` the pixels in them.
    """

    final: NDArray[np.int32]
    pixels: NDArray[np.int64]
    valid: int
    valid_area: float
    removed: int
    removed_pixels: int


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What is measured of landslides 1, 2, ...

    `statistics` are of their probability and factors by name; `low` and `high`, (count,), are the ends of the range of
    their areas in pixels; `shares`, (classes, count), counts the pixels of each class of rock. `bands` are the factors'
    positions in the stack, from 1.
    """

    pieces: LandslidePieces
    stack: StackInfo | None
    bands: dict[str, int]
    classes: ClassCodes
    statistics: dict[str, Statistics]
    low: NDArray[np.int64]
    high: NDArray[np.int64]
    shares: NDArray[np.int64]

    @classmethod
    def of(cls, pieces: LandslidePieces, stack: StackInfo | None) -> Measured:
        """Nothing measured yet of these pieces, on the ground that a stack describes where there is one."""
        count = len(pieces.pixels)
        channels = () if stack is None else stack.channels
        bands = {
            channel.name: band for band, channel in enumerate(channels, start=1) if channel.name in ATTRIBUTE_FACTORS
        }
        classes = ClassCodes(channels)
        return cls(
            pieces=pieces,
            stack=stack,
            bands=bands,
            classes=classes,
            statistics={name: Statistics(count) for name in ("probability", *bands)},
            low=np.zeros(count, np.int64),
            high=np.zeros(count, np.int64),
            shares=np.zeros((len(classes.names), count), np.int64),
        )


@dataclass(frozen=True)
class _Rasters:
    """Open rasters: the probability, the ids of its pieces, and the stack where there is one."""

    probability: Any
    ids: Any
    stack: Any | None


def find(info: RasterInfo, threshold: float, min_area: float, ids_path: Path) -> LandslidePieces:
    """Find the pieces of a probability raster at or above the threshold, of `min_area` square metres of its grid.

    Their ids within their tiles go into the raster `ids_path`. Raises RasterError for values outside [0, 1].
    """
    grid = info.grid
    valid, valid_area = 0, 0.0
    with (
        open_raster(info.path) as dataset,
        create_raster(ids_path, grid, "int32", ["piece"], None, overwrite=True) as ids_raster,
    ):

        def landslide(window: Window) -> NDArray[np.bool_]:
            nonlocal valid, valid_area
            values = read_window(dataset, window, [1])[0]
            require_probabilities(values, str(info.path))
            defined = int(np.count_nonzero(~np.isnan(values)))
            valid += defined
            valid_area += defined / window.area * window_area(window, grid) if defined else 0
            with np.errstate(invalid="ignore"):
                return np.asarray(values >= threshold)

        def keep(window: Window, ids: NDArray[np.int32]) -> None:
            write_window(ids_raster, ids[None], window)

        components = label_components(
            landslide,
            keep,
            grid.shape,
            MEASURED_SIDE,
            lambda windows, count: track(windows, count, "landslides", "tile"),
        )
    # The tolerance keeps a piece of exactly the smallest area, whose product may round to just below it.
    large = components.pixels * grid.pixel_area >= min_area * (1 - 1e-9)
    final = np.zeros(len(large) + 1, np.int32)
    final[1:][large] = np.arange(1, np.count_nonzero(large) + 1)
    small = components.pixels[~large]
    return LandslidePieces(
        final=final[components.piece],
        pixels=components.pixels[large],
        valid=valid,
        valid_area=valid_area,
        removed=len(small),
        removed_pixels=int(small.sum()),
    )


def measure(
    info: RasterInfo, threshold: float, ids_path: Path, measured: Measured, most: int
) -> Iterator[tuple[slice, list[Any]]]:
    """Measure landslides tile by tile into `measured`; yield the places (from 0) and outlines of those that are done.

    Outlines are in whole pixels. Landslides come in order, `most` at a time once none of them can reach into a tile to
    come, the rest at the end; at least once, if with none.
    """
    shape, pieces = info.grid.shape, measured.pieces
    polygons: dict[int, list[list[Any]]] = {}  # by tile, of each landslide that was met and not yielded yet
    yielded = met = 0  # the highest numbers of both
    with ExitStack() as files:
        rasters = _Rasters(
            files.enter_context(open_raster(info.path)),
            files.enter_context(open_raster(ids_path)),
            None if measured.stack is None else files.enter_context(open_raster(measured.stack.path)),
        )
        tiles_in_order = list(tiles(shape, MEASURED_SIDE))
        reaching_down: list[int] = []  # the lowest number at each tile's lower edge, which the next row may go on with
        followed = zip(tiles_in_order, [*tiles_in_order[1:], None], strict=True)
        for tile, following in track(followed, len(tiles_in_order), "outlines", "tile"):
            around = Window(
                tile.row - GROWTH_REACH,
                tile.column - GROWTH_REACH,
                tile.height + 2 * GROWTH_REACH,
                tile.width + 2 * GROWTH_REACH,
            )
            around = around.clip(shape)
            numbers = pieces.final[read_stored_window(rasters.ids, around)]
            if numbers.any():
                core = np.ascontiguousarray(numbers[tile.within(around)])
                _measure_tile(rasters, tile, around, numbers, measured=measured, threshold=threshold)
                for number, of_tile in outline(core, tile).items():
                    polygons.setdefault(number, []).append(of_tile)
                met = max(met, int(core.max(initial=0)))
                edge = core[-GROWTH_REACH:]
                reaching_down.append(int(edge[edge > 0].min(initial=len(pieces.pixels) + 1)))
            if following is not None and following.row == tile.row:
                continue
            done = met if following is None else min([met, *(number - 1 for number in reaching_down)])
            reaching_down = []
            while done - yielded >= most or following is None:
                part = slice(yielded, min(yielded + most, done))
                yielded = part.stop
                yield part, [_joined(polygons.pop(number)) for number in range(part.start + 1, part.stop + 1)]
                if yielded == done:
                    break


def landslide_frame(
    measured: Measured,
    part: slice,
    outlines_in_pixels: list[Any],
    info: RasterInfo,
    *,
    earlier: Earlier | None = None,
    simplify: float | None = None,
) -> gpd.GeoDataFrame:
    """Landslides `part` with all their columns; float columns are NaN, text is None, where something is not known.

    Ids and reviews are those of `earlier` where outlines overlap; `simplify` metres takes vertices off the outlines.
    """
    grid = info.grid
    outlines = place(outlines_in_pixels, grid)
    count, pixels = len(outlines), measured.pieces.pixels[part]
    area, perimeter = area_and_perimeter(outlines, grid.crs)
    pixel_area = area / pixels  # of the true ground where the landslide lies, square metres
    to_metres = np.sqrt(pixel_area / grid.pixel_area)
    length, width = (side * to_metres for side in sides(outlines))
    statistics = {name: of_all.part(part) for name, of_all in measured.statistics.items()}
    probability = statistics["probability"]
    ground = {name: statistics.get(name, Statistics(count)) for name in ATTRIBUTE_FACTORS}
    scene, date = (None, None) if measured.stack is None else _scene(measured.stack.path.with_name("manifest.json"))
    ids = np.arange(part.start + 1, part.stop + 1)
    states = ["open"] * count
    if earlier is not None:
        ids = keep_ids(outlines, earlier.outlines, earlier.ids.tolist(), earlier.highest_id)
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


def fill_map(dataset: DatasetWriter, info: RasterInfo, ids_path: Path, pieces: LandslidePieces) -> None:
    """Write the landslide map into an open raster: 1 landslide, 0 not, NOT_VALID where there is no probability."""
    with open_raster(info.path) as source, open_raster(ids_path) as ids:
        for window in tiles(info.grid.shape, MEASURED_SIDE):
            undefined = np.isnan(read_window(source, window, [1])[0])
            landslide = pieces.final[read_stored_window(ids, window)] > 0
            write_window(dataset, np.where(undefined, NOT_VALID, landslide).astype(np.uint8)[None], window)


def _measure_tile(
    rasters: _Rasters, tile: Window, around: Window, numbers: NDArray[np.int32], *, measured: Measured, threshold: float
) -> None:
    """Add what a tile holds of each landslide to what is measured.

    `numbers` of landslides, (h, w), are those of the window `around` the tile, which the range of areas needs.
    """
    inner = tile.within(around)
    probability = read_window(rasters.probability, around, [1])[0]
    area_range(numbers, probability, inner, threshold, low=measured.low, high=measured.high)
    core = numbers[inner]
    inside = core > 0
    of_pixel = core[inside]
    measured.statistics["probability"].add(of_pixel, probability[inner][inside])
    bands = [*measured.bands.values(), *measured.classes.bands]
    if rasters.stack is None or not bands:
        return
    values = read_window(rasters.stack, tile, bands)[:, inside]
    for name, of_factor in zip(measured.bands, values, strict=False):
        measured.statistics[name].add(of_pixel, of_factor)
    masks = measured.classes.masks(values[len(measured.bands) :])
    for share, mask in zip(measured.shares, masks, strict=True):
        share += np.bincount(of_pixel[mask], minlength=len(share) + 1)[1:]


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
