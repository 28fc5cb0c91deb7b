"""Measure preparation and mapping in one run: `python benchmarks/run.py [--runs N] [--json]`; training.py: training.

Machines are shared and noisy: read the ratios. Pairs are run in turn, three times by default; medians are compared.
The site is the made-up one (616 x 976 px); weights are those that training starts from, since speed does not depend on
them.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
from process import peak_and_seconds, show

from landslip.blocks import Blocks
from landslip.checkpoint import load_model, save_model
from landslip.compute import keep_memory
from landslip.grid import Grid, lattice, tiles
from landslip.inference import map_site
from landslip.models import build_model
from landslip.models.initial import he_
from landslip.prepare import prepare
from landslip.raster import creating, opening, put, read, read_info, read_stored
from landslip.run import Run
from landslip.site import read_site
from landslip.stack import read_stack_info
from landslip.standardize import fit
from landslip.synthetic import generate, write_site

TIMES = 4  # a side: 16 times the area


def seconds(step: Callable[[], Any]) -> float:
    """How long a step takes, once."""
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


def in_turn(a: Callable[[], Any], b: Callable[[], Any], runs: int) -> tuple[float, float]:
    """Medians of two steps run A B A B ..., so that a drift of the machine meets both."""
    pairs = [(seconds(a), seconds(b)) for _ in range(runs)]
    return statistics.median(p[0] for p in pairs), statistics.median(p[1] for p in pairs)


def untrained_model(prepared: Path, folder: Path) -> None:
    """A model folder with the weights that training starts from."""
    stack = read_stack_info(prepared / "stack.tif")
    valid = read_stored(prepared / "valid.tif") == 1
    network = build_model("fc_densenet", len(stack.channels))
    he_(network, torch.Generator().manual_seed(0))
    with opening(stack.path) as dataset:
        positions = range(len(stack.channels))
        zscore = fit(dataset, positions, stack.channels, lattice(valid.shape, 64, 64), valid)
    save_model(folder, network.state_dict(), stack.channels, zscore, 0.5, {"run": Run().model_dump(mode="json")})


def naive_map(prepared: Path, model_folder: Path) -> None:
    """Sliding windows as everybody writes them: 64 x 64 at step 32, one by one, fp32, averaged."""
    model = load_model(model_folder)
    stack, valid = read(prepared / "stack.tif"), read_stored(prepared / "valid.tif") == 1
    x = model.zscore.apply(stack)
    sums, counts = np.zeros(valid.shape), np.zeros(valid.shape)
    with torch.inference_mode():
        for window in lattice(valid.shape, 64, 32):
            block = torch.from_numpy(np.ascontiguousarray(x[:, window.slices[0], window.slices[1]])[None])
            sums[window.slices] += torch.sigmoid(model.network(block))[0, 0].numpy()
            counts[window.slices] += 1
    _ = np.where(valid, sums / counts, np.nan)


def enlarge(prepared: Path, out: Path) -> None:
    """The stack repeated 4 x 4 times, with its valid raster beside it."""
    for name in ("stack.tif", "valid.tif"):
        info = read_info(prepared / name)
        grid = Grid(info.grid.crs, info.transform, TIMES * info.height, TIMES * info.width)
        values = np.stack([read_stored(prepared / name, b) for b in range(1, info.count + 1)])
        names = [str(n) for n in info.names]
        nodata = float("nan") if name == "stack.tif" else None
        with creating(out / name, grid, info.dtypes[0], names, nodata, compress=False, overwrite=True) as dataset:
            for window in tiles(grid.shape, 512):
                rows = np.arange(window.row, window.row + window.height) % info.height
                columns = np.arange(window.column, window.column + window.width) % info.width
                put(dataset, values[:, rows[:, None], columns[None]], window)


def measure(folder: Path, runs: int) -> dict[str, float]:
    """All figures, by name."""
    found: dict[str, float] = {}
    site = read_site(write_site(generate(), folder / "inputs"))
    prepared, model = folder / "prepared", folder / "model"
    found["prepare_seconds"] = seconds(lambda: prepare(site, prepared))
    untrained_model(prepared, model)

    stack, valid = read_stack_info(prepared / "stack.tif"), read_stored(prepared / "valid.tif") == 1
    with opening(stack.path) as dataset:
        zscore = load_model(model).zscore
        label = read_stored(prepared / "label.tif")
        blocks = Blocks(dataset, tuple(range(len(stack.channels))), zscore, valid, label)
        windows = list(lattice(valid.shape, 64, 64))[40:56]
        found["blocks_read_per_second"] = len(windows) / seconds(lambda: blocks.batch(windows))
    keep_memory()

    def default() -> None:
        map_site(load_model(model), stack.path, folder / "p.tif", overwrite=True)

    default()
    naive, ours = in_turn(lambda: naive_map(prepared, model), default, runs)
    found |= {"naive_map_seconds": naive, "map_seconds": ours, "mapping_ratio": naive / ours}

    enlarge(prepared, folder / "large")
    small, _ = peak_and_seconds("map", model, stack.path, folder / "p.tif", "--overwrite")
    large, took = peak_and_seconds("map", model, folder / "large" / "stack.tif", folder / "p16.tif", "--overwrite")
    found |= {"map_peak_mib": small, "map_peak_mib_16_times_larger": large, "peak_ratio": large / small}
    found["map_seconds_16_times_larger"] = took
    return found


def main() -> None:
    """Print the figures, as text or JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--runs", type=int, default=3, help="pairs of runs; medians are compared")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), arguments.runs)
    found["threads"] = torch.get_num_threads()
    found["peak_mib_of_this_run"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    show(found, arguments.json)


if __name__ == "__main__":
    main()
