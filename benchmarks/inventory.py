"""Measure `landslip inventory` on rasters that grow: `python benchmarks/inventory.py PROBABILITY.tif [--json]`.

A probability raster (of the demo, say) is repeated, turned over at every seam, until it has 6, 60 and 600 megapixels;
the inventory is a process of its own each time, so that its peak memory is its own. Memory must follow the tile and the
number of landslides, not the area; seconds per megapixel must stay level. The rasters are removed afterwards; 600
megapixels take about 2 GB of disk while they are worked on.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from process import measured, show

from landslip.grid import Grid, tiles
from landslip.raster import creating, put, read, read_info
from landslip.vector import read_vector


def repeat(source: Path, out: Path, megapixels: float) -> None:
    """Write `source` again and again, turned over at every seam so that landslides go on across it."""
    values = read(source)[0]
    side = round((megapixels * 1e6) ** 0.5)
    own = read_info(source).grid
    grid = Grid(own.crs, own.transform, side, side)
    rows, columns = (np.r_[np.arange(n), np.arange(n)[::-1]] for n in values.shape)
    with creating(out, grid, "float32", ["landslide probability"], float("nan")) as dataset:
        for window in tiles(grid.shape, 2048):
            r = rows[(window.row + np.arange(window.height)) % len(rows)]
            c = columns[(window.column + np.arange(window.width)) % len(columns)]
            put(dataset, values[np.ix_(r, c)][None], window)


def measure(source: Path, megapixels: list[float], threshold: float) -> dict[str, float]:
    """Peak memory, seconds per megapixel and landslides by size of the raster."""
    found: dict[str, float] = {}
    for size in megapixels:
        with tempfile.TemporaryDirectory() as folder:
            probability, out = Path(folder) / "p.tif", Path(folder) / "i.gpkg"
            repeat(source, probability, size)
            peak, seconds, used = measured("inventory", probability, out, "--threshold", threshold)
            found[f"{size:g} megapixels: peak MiB"] = peak
            found[f"{size:g} megapixels: seconds per megapixel"] = seconds / size
            found[f"{size:g} megapixels: processor seconds per megapixel"] = used / size
            found[f"{size:g} megapixels: landslides"] = len(read_vector(out, "inventory"))
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("probability", type=Path)
    parser.add_argument("--megapixels", type=float, nargs="+", default=[6, 60, 600])
    parser.add_argument("--threshold", type=float, default=0.5)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    show(measure(given.probability, given.megapixels, given.threshold), given.json)
