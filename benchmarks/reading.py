"""Measure the reading of blocks: `python benchmarks/reading.py [--runs N] [--json]`.

The site is the made-up one (616 x 976 px); medians of several runs.
prepare.py measures preparation, training.py training, mapping.py mapping.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from process import show

from landslip.blocks import Blocks
from landslip.grid import lattice
from landslip.prepare import prepare
from landslip.provenance import peak_memory
from landslip.raster import opening, read_stored
from landslip.site import read_site
from landslip.stack import read_stack_info
from landslip.standardize import fit
from landslip.synthetic import generate, write_site


def seconds(step: Callable[[], Any], runs: int) -> float:
    """How long a step takes, the median of so many runs."""
    taken = []
    for _ in range(runs):
        began = time.perf_counter()
        step()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def measure(folder: Path, runs: int) -> dict[str, float]:
    """All figures, by name."""
    site = read_site(write_site(generate(), folder / "inputs"))
    prepared = folder / "prepared"
    prepare(site, prepared)
    stack, valid = read_stack_info(prepared / "stack.tif"), read_stored(prepared / "valid.tif") == 1
    label, positions = read_stored(prepared / "label.tif"), range(len(stack.channels))
    with opening(stack.path) as dataset:
        zscore = fit(dataset, positions, stack.channels, lattice(valid.shape, 64, 64), valid)
        blocks = Blocks(dataset, tuple(positions), zscore, valid, label)
        windows = list(lattice(valid.shape, 64, 64))[40:56]
        return {"blocks_read_per_second": len(windows) / seconds(lambda: blocks.batch(windows), runs)}


def main() -> None:
    """Print the figures, as text or JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--runs", type=int, default=3, help="medians are taken over")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), arguments.runs)
    show(found | {"threads": torch.get_num_threads(), "peak_mib": peak_memory()}, arguments.json)


if __name__ == "__main__":
    main()
