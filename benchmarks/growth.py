"""Measure every stage on rasters that grow: `python benchmarks/growth.py [--megapixels 1 10 60 600] [--json]`.

Stages: preparing a made-up scene of one band and six factors; what training does besides computing (reading.py), with
the split `apart` and the paper's; training a network of one layer for an epoch on windows at 500 landslide pixels, the
same number whatever the size; mapping with it; an inventory of the demo's probability map repeated; and evaluating a
made-up map with split, audit and intervals. Training and mapping see a prepared scene of ten megapixels repeated in
virtual rasters. Each is a process of its own, and time is processor time, since machines are shared. Read the seconds
of a further megapixel, between two sizes: a fixed start is no part of them. Memory: the peak of all that was resident,
which counts parts of files that the system would give back when it must, and the private part, which it cannot. The
largest size runs within --memory-limit of private memory (RLIMIT_DATA).

With --work what is finished is kept there, and the next run goes on after it. The rasters of a size are removed once
its stages are done; 600 megapixels take 25 GB of disk while preparing.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
from affine import Affine
from prepare import write_scene
from process import measured_command, show_table
from rasterio.crs import CRS
from virtual import repeated

from landslip.geo.geotiff import create_raster, write_window
from landslip.geo.grid import Grid, Window, tiles
from landslip.geo.raster import read, read_info
from landslip.metrics.bootstrap import confidence_intervals
from landslip.runtime.progress import say
from landslip.runtime.text import write_json, write_text

REGION = 512  # side of a region of the split that is evaluated, pixels
GUARD = 64


def parts_at(window: Window, side: int) -> np.ndarray:
    """(h, w) parts: training and test regions as on a chessboard, a guard around training ground in no part."""
    row = np.arange(window.row, window.row + window.height)[:, None]
    column = np.arange(window.column, window.column + window.width)[None]
    train = (row // side + column // side) % 2 == 0
    rim = np.minimum(np.minimum(row % side, side - 1 - row % side), np.minimum(column % side, side - 1 - column % side))
    return np.where(train, np.where(rim < GUARD, 0, 1), 3).astype(np.uint8)


def write_rasters(folder: Path, megapixels: float, side: int = REGION) -> list[Path]:
    """probability.tif, label.tif and split.tif of so many megapixels: smooth blobs, a tenth of them mapped wrongly."""
    across = round((megapixels * 1e6) ** 0.5)
    grid = Grid(CRS.from_epsg(32649), Affine(10, 0, 200_000, 0, -10, 4_000_000), across, across)
    paths = [folder / f"{name}.tif" for name in ("probability", "label", "split")]
    rng = np.random.default_rng(0)
    tags = {"split": "apart", "leaky": "no", "window": "64"}
    with (
        create_raster(
            paths[0], grid, "float32", ["probability"], float("nan"), tags={"threshold": "0.5"}, overwrite=True
        ) as probability,
        create_raster(paths[1], grid, "uint8", ["label"], None, overwrite=True) as label,
        create_raster(paths[2], grid, "uint8", ["part"], None, tags=tags, overwrite=True) as split,
    ):
        for window in tiles(grid.shape, 2048):
            coarse = rng.random((window.height // 16 + 1, window.width // 16 + 1))
            p = np.kron(coarse, np.ones((16, 16)))[: window.height, : window.width].astype(np.float32)
            wrong = np.kron(rng.random(coarse.shape) < 0.1, np.ones((16, 16), bool))[: window.height, : window.width]
            write_window(probability, np.round(p, 2)[None], window)
            write_window(label, ((p >= 0.9) ^ wrong)[None].astype(np.uint8), window)
            write_window(split, parts_at(window, side)[None], window)
    return paths


def bootstrap_seconds(megapixels: float) -> float:
    """Seconds of 1,000 draws over so many megapixels in blocks of 64 pixels, as `evaluate` draws them."""
    blocks = np.random.default_rng(0).integers(0, 1024, (round(megapixels * 1e6 / 64**2), 4))
    began = time.perf_counter()
    confidence_intervals(blocks)
    return time.perf_counter() - began


def repeat(source: Path, out: Path, megapixels: float) -> None:
    """Write `source` again and again, turned over at every seam so that landslides go on across it."""
    values = read(source)[0]
    side = round((megapixels * 1e6) ** 0.5)
    own = read_info(source).grid
    grid = Grid(own.crs, own.transform, side, side)
    rows, columns = (np.r_[np.arange(n), np.arange(n)[::-1]] for n in values.shape)
    with create_raster(out, grid, "float32", ["landslide probability"], float("nan"), overwrite=True) as dataset:
        for window in tiles(grid.shape, 2048):
            r = rows[(window.row + np.arange(window.height)) % len(rows)]
            c = columns[(window.column + np.arange(window.width)) % len(columns)]
            write_window(dataset, values[np.ix_(r, c)][None], window)


LANDSLIP = [sys.executable, "-m", "landslip"]
LANDSLIDES = 100  # of the scene, in a megapixel
REPEATED = 10.0  # megapixels of the scene that is repeated
RUN = """[blocks]
seeds = 500
[split]
kind = "{split}"
region = 256
[network]
options = {{ layers = [1], first_width = 1, growth_rate = 1 }}
[training]
epochs = 1
"""


# ---- the stages: what is needed is made in the folder, where it is not there yet; the command that is measured ----


def prepare(folder: Path, megapixels: float) -> list[Any]:
    """`landslip prepare` of a made-up scene."""
    scene, side = folder / "scene", round((megapixels * 1e6) ** 0.5)
    if not (scene / "site.toml").exists():  # written last
        shutil.rmtree(scene, ignore_errors=True)
        scene.mkdir(parents=True)
        write_scene(scene, side, ["red"], further=False, landslides=round(LANDSLIDES * megapixels))
    return [*LANDSLIP, "prepare", scene / "site.toml", folder / "prepared", "--overwrite"]


def prepared_of(folder: Path, megapixels: float) -> Path:
    """A prepared site: a small scene, prepared once, repeated in virtual rasters, so that it takes no disk."""
    small = folder.parent / "repeated"
    made(small / "prepared" / "manifest.json", lambda: prepare(small, REPEATED))
    for name in ("stack.tif", "label.tif", "valid.tif"):
        repeated(small / "prepared" / name, folder / "virtual" / name, megapixels)
    return folder / "virtual"


def sampling(split: str) -> Callable[[Path, float], list[Any]]:
    """reading.py, with a split by name."""

    def command(folder: Path, megapixels: float) -> list[Any]:
        run = folder / f"{split}.toml"
        write_text(run, RUN.format(split=split), overwrite=True)
        reading, prepared = Path(__file__).with_name("reading.py"), prepared_of(folder, megapixels)
        return [sys.executable, reading, "--prepared", prepared, "--run", run, "--json"]

    return command


def train(folder: Path, megapixels: float) -> list[Any]:
    """`landslip train`, with the split `apart`."""
    sampling("apart")(folder, megapixels)
    return [*LANDSLIP, "train", folder / "apart.toml", folder / "virtual", folder / "model", "--overwrite"]


def map_(folder: Path, megapixels: float) -> list[Any]:
    """`landslip map` by a model of the small scene, in windows of the size that a gigabyte and a half allows."""
    small = folder.parent / "repeated"
    made(small / "model" / "model.json", lambda: train(small, REPEATED))
    stack = prepared_of(folder, megapixels) / "stack.tif"
    return [*LANDSLIP, "map", small / "model", stack, folder / "map.tif", "--memory", "1.5GB", "--overwrite"]


def inventory(folder: Path, megapixels: float) -> list[Any]:
    """`landslip inventory` of the demo's probability map, repeated."""
    demo, probability = folder.parent / "demo", folder / "probability.tif"
    made(demo / "scores.json", lambda: [*LANDSLIP, "demo", demo, "--quick"])
    repeat(demo / "map" / "probability.tif", probability, megapixels)
    return [*LANDSLIP, "inventory", probability, folder / "inventory.gpkg", "--threshold", 0.5, "--overwrite"]


def evaluate(folder: Path, megapixels: float) -> list[Any]:
    """`landslip evaluate` of a made-up map, with split, audit and intervals."""
    probability, label, split = write_rasters(folder, megapixels)
    return [*LANDSLIP, "evaluate", probability, label, "--split", split]


STAGES: dict[str, Callable[[Path, float], list[Any]]] = {
    "prepare": prepare,
    "sampling": sampling("apart"),
    "sampling, paper": sampling("paper"),
    "train": train,
    "map": map_,
    "inventory": inventory,
    "evaluate": evaluate,
}
COLUMNS = {
    "stage": ("stage", ""),
    "megapixels": ("Mpx", "g"),
    "processor_seconds": ("processor s", ",.1f"),
    "per_megapixel": ("s per Mpx", ".3f"),
    "per_further_megapixel": ("s per further Mpx", ".3f"),
    "against_before": ("x that before", ".2f"),
    "peak_mib": ("peak MiB", ",.0f"),
    "private_mib": ("private MiB", ",.0f"),
    "limit": ("limit", ""),
}


def made(result: Path, command: Callable[[], list[Any]]) -> None:
    """Run a command for its result, where that is not there."""
    if not result.exists():
        found = measured_command(command())
        if found.failed:
            raise RuntimeError(found.said[-3000:])


def measure(stages: list[str], sizes: list[float], limit: float, work: Path) -> list[dict[str, Any]]:
    """A row for every stage and size; those in growth.json are not measured again."""
    kept = work / "growth.json"
    rows: list[dict[str, Any]] = json.loads(kept.read_text())["rows"] if kept.exists() else []
    for size in sorted(sizes):
        folder = work / f"{size:g}"
        for stage in stages:
            if any(row["stage"] == stage and row["megapixels"] == size for row in rows):
                continue
            say(f"{size:g} megapixels: {stage}")
            folder.mkdir(parents=True, exist_ok=True)
            command, most = STAGES[stage](folder, size), limit if size == max(sizes) else 0
            found = measured_command(command, round(most * 2**30))
            row = {"stage": stage, "megapixels": size, **vars(found)}
            row["limit"] = "" if not most else f"{most:g} GiB: {'FAILED' if found.failed else 'kept'}"
            if stage.startswith("sampling") and not found.failed:
                row |= json.loads(found.said[found.said.index("{") :])
                row["peak_mib"] = found.peak_mib
            rows.append(row)
            write_json(kept, {"rows": rows}, overwrite=True)
        shutil.rmtree(folder, ignore_errors=True)
    return compared([row for row in rows if row["stage"] in stages and row["megapixels"] in sizes])


def compared(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows by stage and size, with seconds of a megapixel, and of a further one than the size before has."""
    rows = sorted(rows, key=lambda row: (list(STAGES).index(row["stage"]), row["megapixels"]))
    for row in rows:
        row["per_megapixel"] = row["processor_seconds"] / row["megapixels"]
    for before, row in pairwise(rows):
        if before["stage"] == row["stage"]:
            further = row["processor_seconds"] - before["processor_seconds"]
            row["per_further_megapixel"] = further / (row["megapixels"] - before["megapixels"])
            if "per_further_megapixel" in before:
                row["against_before"] = row["per_further_megapixel"] / before["per_further_megapixel"]
    return rows


def main() -> None:
    """Print the figures, as text or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megapixels", type=float, nargs="+", default=[1, 10, 60, 600])
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES), metavar="STAGE")
    parser.add_argument("--memory-limit", type=float, default=2.0, metavar="GIB", help="of the largest size; 0: none")
    parser.add_argument("--work", type=Path, help="keep results here, and go on after them; default: nothing is kept")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = (given.work or Path(folder)).resolve()
        rows = measure(given.stages, given.megapixels, given.memory_limit, work)
    found = {"rows": rows, "bootstrap_seconds_100_megapixels": bootstrap_seconds(100)}
    if given.json:
        print(json.dumps(found, indent=2))
        return
    show_table(rows, COLUMNS)
    for row in rows:
        if row["failed"]:
            print(f"{row['stage']}, {row['megapixels']:g} megapixels failed: {row['said'][-500:]}")
    print(f"bootstrap of 100 megapixels: {found['bootstrap_seconds_100_megapixels']:.2f} s")


if __name__ == "__main__":
    main()
