"""Make a landslide map and an inventory of polygons from a probability raster.

A landslide is a piece of pixels at or above the threshold that hang together by sides or corners, over the whole
raster at once, so that no border of a window or tile cuts it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from landslip.errors import OutputError, RunError
from landslip.grid import Grid, require_metric, tiles
from landslip.metrics import choose_threshold, require_probabilities
from landslip.output import refuse_existing, writing
from landslip.raster import (
    TILE,
    RasterInfo,
    creating,
    cut,
    opening,
    put,
    read_info,
    require_geotiff_name,
    require_probability,
)
from landslip.vector import fill_vector, require_geopackage_name, trace

LAYER = "inventory"
NOT_VALID = 255
SMALLEST = 4  # pixels of the smallest landslide kept, where no area is given
SIDE = 4 * TILE
# vermilion on light grey, told apart by the colour-blind; nothing where nothing was mapped
COLOURS = {0: (225, 225, 225, 255), 1: (213, 94, 0, 255), NOT_VALID: (0, 0, 0, 0)}


@dataclass(frozen=True)
class Summary:
    """What an inventory holds. Areas in square metres; `share` of the valid area, NaN where nothing is valid."""

    count: int
    area_m2: float
    valid_area_m2: float
    share: float
    threshold: float
    threshold_source: str
    min_area: float
    removed: int
    removed_area_m2: float


def make_inventory(
    probability: Path,
    out_gpkg: Path,
    threshold: float | None = None,
    min_area: float | None = None,
    map_path: Path | None = None,
    overwrite: bool = False,
) -> Summary:
    """Write the landslide map (GeoTIFF) and its polygons (GeoPackage) of a probability raster in [0, 1].

    `threshold` is the raster's tag, or 0.5, where not given; pieces smaller than `min_area` square metres (default:
    4 pixels) are taken out of both. The map, beside the polygons unless `map_path` is given, is uint8: 1 landslide, 0
    not, 255 outside valid. The polygons have id, area_m2, pixels, probability_mean, probability_min, probability_max,
    perimeter_m. Both outputs appear, or neither. Raises GridError for a raster that is not on a metric grid,
    RasterError for values outside [0, 1], RunError for an impossible threshold or area, OutputError for outputs that
    exist.
    """
    map_path = out_gpkg.with_suffix(".tif") if map_path is None else map_path
    _check_outputs(probability, out_gpkg, map_path, overwrite)
    info = read_info(probability)
    require_probability(info)
    grid = info.grid
    require_metric(grid, str(probability))
    at, source = choose_threshold(threshold, info.tags.get("threshold"), probability.name)
    min_area = SMALLEST * grid.pixel_area if min_area is None else min_area
    if not (math.isfinite(min_area) and min_area >= 0):
        raise RunError(f"the smallest area kept, {min_area}, is not an area in square metres. Give 0 or more.")

    classes = _classify(probability, grid, at)
    ids, found = ndimage.label(classes == 1, structure=np.ones((3, 3), bool), output=np.int32)
    pixels = _count(ids, found)
    keep = pixels * grid.pixel_area >= min_area * (1 - 1e-9)
    removed, removed_pixels = int(np.count_nonzero(~keep)), int(pixels[~keep].sum())
    _renumber(ids, keep)
    classes[(classes == 1) & (ids == 0)] = 0
    pixels = pixels[keep]

    frame = trace(ids, grid)
    mean, lowest, highest = _probabilities(probability, ids, pixels)
    frame["area_m2"] = pixels * grid.pixel_area
    frame["pixels"] = pixels
    frame["probability_mean"], frame["probability_min"], frame["probability_max"] = mean, lowest, highest
    frame["perimeter_m"] = frame.geometry.length.astype(float)

    tags = _tags(info, at, source, min_area)
    with writing(out_gpkg, overwrite) as aside:  # around the map: both get their names once both are whole
        fill_vector(aside, out_gpkg, frame, LAYER)
        with creating(map_path, grid, "uint8", ["landslide"], NOT_VALID, tags, overwrite=overwrite) as dataset:
            dataset.write_colormap(1, COLOURS)
            for window in tiles(grid.shape, SIDE):
                put(dataset, classes[None, window.slices[0], window.slices[1]], window)

    valid = int(np.count_nonzero(classes != NOT_VALID))
    landslide = int(pixels.sum())
    return Summary(
        len(frame),
        landslide * grid.pixel_area,
        valid * grid.pixel_area,
        landslide / valid if valid else math.nan,
        at,
        source,
        min_area,
        removed,
        removed_pixels * grid.pixel_area,
    )


def _check_outputs(probability: Path, out_gpkg: Path, map_path: Path, overwrite: bool) -> None:
    paths: Sequence[Path] = (probability, out_gpkg, map_path)
    if len({path.resolve() for path in paths}) < len(paths):
        raise OutputError(
            f"the probability raster {probability}, the inventory {out_gpkg} and the map {map_path} must be three "
            "files. Give the inventory or the map another name."
        )
    require_geopackage_name(out_gpkg)
    require_geotiff_name(map_path)
    refuse_existing(out_gpkg, overwrite)
    refuse_existing(map_path, overwrite)


def _tags(info: RasterInfo, threshold: float, source: str, min_area: float) -> dict[str, str]:
    # What the probability raster says of its model and stack stays true of the map.
    kept = {key: value for key, value in info.tags.items() if key != "AREA_OR_POINT"}
    return kept | {"threshold": str(threshold), "threshold_source": source, "min_area": f"{min_area:g}"}


def _classify(probability: Path, grid: Grid, threshold: float) -> NDArray[np.uint8]:
    """(H, W) uint8: 1 at or above the threshold, 0 below, 255 where the probability is undefined."""
    classes = np.full(grid.shape, NOT_VALID, np.uint8)
    with opening(probability) as dataset:
        for window in tiles(grid.shape, SIDE):
            values = cut(dataset, window, [1])[0]
            require_probabilities(values, str(probability))
            classes[window.slices] = np.where(np.isnan(values), NOT_VALID, values >= threshold)
    return classes


def _count(ids: NDArray[np.int32], found: int) -> NDArray[np.int64]:
    """Pixels of ids 1..found. By window: bincount turns what it is given into int64."""
    counts = np.zeros(found + 1, np.int64)
    for window in tiles((ids.shape[0], ids.shape[1]), SIDE):
        part = np.bincount(ids[window.slices].ravel())
        counts[: len(part)] += part
    return counts[1:]


def _renumber(ids: NDArray[np.int32], keep: NDArray[np.bool_]) -> None:
    """Number the kept ids 1, 2, ... in place, in their order; the others become 0."""
    new = np.zeros(len(keep) + 1, np.int32)
    new[1:][keep] = np.arange(1, np.count_nonzero(keep) + 1)
    for window in tiles((ids.shape[0], ids.shape[1]), SIDE):
        ids[window.slices] = new[ids[window.slices]]


def _probabilities(
    probability: Path, ids: NDArray[np.int32], pixels: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Mean, lowest and highest probability of ids 1, 2, ..., accumulated window by window."""
    count = len(pixels)
    total, lowest, highest = np.zeros(count), np.full(count, np.inf), np.full(count, -np.inf)
    with opening(probability) as dataset:
        for window in tiles((ids.shape[0], ids.shape[1]), SIDE):
            part = ids[window.slices]
            inside = part > 0
            if not inside.any():
                continue
            at = part[inside] - 1
            values = cut(dataset, window, [1])[0][inside].astype(np.float64)
            np.add.at(total, at, values)
            np.minimum.at(lowest, at, values)
            np.maximum.at(highest, at, values)
    return total / pixels, lowest, highest
