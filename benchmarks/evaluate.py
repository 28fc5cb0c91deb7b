"""Measure `landslip evaluate` on rasters that grow, and the bootstrap: `python benchmarks/evaluate.py [--json]`.

A made-up probability, label and split raster of 6, 60 and 600 megapixels; evaluate is a process of its own each time,
so that its peak memory is its own. Read the growth: peak memory must not follow the area. Training ground is every
other region of 512 pixels with a guard of 64, which gives the audit a long edge; `--side` changes the regions.
The rasters are removed afterwards; 600 megapixels take about 1 GB of disk.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
from affine import Affine
from process import peak_and_seconds, show
from rasterio.crs import CRS

from landslip.bootstrap import intervals
from landslip.grid import Grid, Window, tiles
from landslip.raster import creating, put

GUARD = 64


def parts_at(window: Window, side: int) -> np.ndarray:
    """(h, w) parts: training and test regions as on a chessboard, a guard around training ground in no part."""
    row = np.arange(window.row, window.row + window.height)[:, None]
    column = np.arange(window.column, window.column + window.width)[None]
    train = (row // side + column // side) % 2 == 0
    rim = np.minimum(np.minimum(row % side, side - 1 - row % side), np.minimum(column % side, side - 1 - column % side))
    return np.where(train, np.where(rim < GUARD, 0, 1), 3).astype(np.uint8)


def write_rasters(folder: Path, megapixels: float, side: int) -> list[Path]:
    """probability.tif, label.tif and split.tif of so many megapixels: smooth blobs, a tenth of them mapped wrongly."""
    across = round((megapixels * 1e6) ** 0.5)
    grid = Grid(CRS.from_epsg(32649), Affine(10, 0, 200_000, 0, -10, 4_000_000), across, across)
    paths = [folder / f"{name}.tif" for name in ("probability", "label", "split")]
    rng = np.random.default_rng(0)
    tags = {"split": "apart", "leaky": "no", "window": "64"}
    with (
        creating(paths[0], grid, "float32", ["probability"], float("nan"), {"threshold": "0.5"}) as probability,
        creating(paths[1], grid, "uint8", ["label"], None) as label,
        creating(paths[2], grid, "uint8", ["part"], None, tags) as split,
    ):
        for window in tiles(grid.shape, 2048):
            coarse = rng.random((window.height // 16 + 1, window.width // 16 + 1))
            p = np.kron(coarse, np.ones((16, 16)))[: window.height, : window.width].astype(np.float32)
            wrong = np.kron(rng.random(coarse.shape) < 0.1, np.ones((16, 16), bool))[: window.height, : window.width]
            put(probability, np.round(p, 2)[None], window)
            put(label, ((p >= 0.9) ^ wrong)[None].astype(np.uint8), window)
            put(split, parts_at(window, side)[None], window)
    return paths


def bootstrap_seconds(megapixels: float) -> float:
    """Seconds of 1,000 draws over so many megapixels in blocks of 64 pixels, as `evaluate` draws them."""
    blocks = np.random.default_rng(0).integers(0, 1024, (round(megapixels * 1e6 / 64**2), 4))
    began = time.perf_counter()
    intervals(blocks)
    return time.perf_counter() - began


def main() -> None:
    """Print the figures, as text or JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--megapixels", type=float, nargs="+", default=[6, 60, 600])
    parser.add_argument("--side", type=int, default=512, help="of a region, pixels")
    arguments = parser.parse_args()
    found: dict[str, float] = {"bootstrap_seconds_100_megapixels": bootstrap_seconds(100)}
    for megapixels in arguments.megapixels:
        with tempfile.TemporaryDirectory() as folder:
            probability, label, split = write_rasters(Path(folder), megapixels, arguments.side)
            peak, took = peak_and_seconds("evaluate", probability, label, "--split", split)
        found[f"evaluate_peak_mib_{megapixels:g}_megapixels"] = peak
        found[f"evaluate_seconds_{megapixels:g}_megapixels"] = took
        found[f"evaluate_seconds_per_megapixel_{megapixels:g}"] = took / megapixels
    show(found, arguments.json)


if __name__ == "__main__":
    main()
