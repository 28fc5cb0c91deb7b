"""Measure what training does on a raster besides computing: `python benchmarks/reading.py [--json]`.

Processor seconds of laying out the ground (label and valid pixels read, windows seeded, parts split), of the statistics
of the z-score, of drawing the training pixels that travel with the model, and blocks of the training windows read in
random order, by a second. The site is the made-up one (616 x 976 px) with its own run; --prepared and --run give
another, of any size. prepare.py measures preparation, training.py training, mapping.py mapping, growth.py all of them
on rasters that grow.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
from process import show

from landslip.config.run import read_run
from landslip.config.site import read_site
from landslip.dataset.blocks import Blocks
from landslip.dataset.training_data import build_training_data
from landslip.dataset.zscore import fit
from landslip.demo.demo import FULL_RUN
from landslip.demo.synthetic_site import generate, write_site
from landslip.geo.raster import open_raster
from landslip.preparation.prepare import prepare
from landslip.runtime.provenance import peak_memory
from landslip.training.training_pixels import draw_training_pixels, training_ground

BATCH, READ = 8, 2048  # blocks read at a time, and together


def measure(run_file: Path, prepared: Path) -> dict[str, float]:
    """All figures, by name."""
    run, at = read_run(run_file), [time.process_time()]
    ground = build_training_data(run, prepared)
    at.append(time.process_time())
    with open_raster(ground.stack.path) as dataset:
        zscore = fit(dataset, ground.positions, ground.channels, ground.windows, ground.valid)
        at.append(time.process_time())
        trained_on = training_ground(ground.windows, ground.label, ground.valid)
        draw_training_pixels(
            dataset, ground.positions, zscore, trained_on, window=run.blocks.window, seed=run.split.seed
        )
        at.append(time.process_time())
        blocks = Blocks(dataset, ground.positions, zscore, ground.valid, ground.label)
        order = np.random.default_rng(0).choice(len(ground.windows), READ)
        for i in range(0, READ, BATCH):
            blocks.batch([ground.windows[j] for j in order[i : i + BATCH]])
        at.append(time.process_time())
    survey_took, fit_took, draw_took, read_took = np.diff(at)
    return {
        "survey_processor_seconds": float(survey_took),
        "statistics_processor_seconds": float(fit_took),
        "training_pixels_processor_seconds": float(draw_took),
        "blocks_read_per_processor_second": READ / float(read_took),
        "training_windows": len(ground.windows),
        "validation_windows": len(ground.validation),
        "threads": torch.get_num_threads(),
        "peak_mib": peak_memory(),
    }


def main() -> None:
    """Print the figures, as text or JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prepared", type=Path, help="default: the made-up site")
    parser.add_argument("--run", type=Path, help="default: the made-up site's")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run, prepared = given.run or Path(folder) / "run.toml", given.prepared or Path(folder) / "prepared"
        if given.run is None:
            run.write_text(FULL_RUN)
        if given.prepared is None:
            prepare(read_site(write_site(generate(), Path(folder) / "inputs")), prepared)
        show(measure(run, prepared), given.json)


if __name__ == "__main__":
    main()
