"""How often the look at a stack before a map speaks: on a model's own ground, on other sites, at other scales.

    python benchmarks/domain_check.py RUN.toml PREPARED/ [PREPARED_B/ ...]

For each prepared site the windows, the z-score and the training pixels of the run are made as training makes them, and
no network is trained: the look does not ask it. Then samples are drawn, as `landslip map` draws them, of the whole
site, its validation and test parts and the other sites, and their bands multiplied by each scale. A site without
landslides is only looked at. In brackets: by means and deviations alone, as of a model without training pixels.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from landslip.config.run import Run, read_run
from landslip.dataset.channels import StackInfo, read_stack_info
from landslip.dataset.split import PARTS
from landslip.dataset.training_data import TrainingData, build_training_data
from landslip.dataset.zscore import fit
from landslip.errors import LabelError
from landslip.geo.geotiff import write_raster
from landslip.geo.raster import open_raster, read_stored
from landslip.geo.tiling import CORE_CELL, cells_holding
from landslip.metrics.applicability import fit_applicability
from landslip.metrics.training_range import MOST_OUTSIDE, share_outside
from landslip.runtime.text import markdown_table
from landslip.training.checkpoint import Model
from landslip.training.domain_check import follows_scale, sample_pixels, training_range
from landslip.training.training_pixels import TrainingPixels, draw_training_pixels, training_ground

SCALES = (1.0, 10.0, 0.1, 2.0, 0.5)


def trained(run: Run, prepared: Path) -> tuple[TrainingData, Model, TrainingPixels]:
    """What would travel with a model of the site, in place of its network nothing."""
    ground = build_training_data(run, prepared)
    on = training_ground(ground.windows, ground.label, ground.valid)
    with open_raster(ground.stack.path) as dataset:
        zscore = fit(dataset, ground.positions, ground.channels, ground.windows, ground.valid)
        pixels = draw_training_pixels(
            dataset, ground.positions, zscore, on, window=run.blocks.window, seed=run.split.seed
        )
    return ground, Model(prepared, torch.nn.Identity(), ground.channels, zscore, 0.5, {}), pixels


def drawn(model: Model, stack: StackInfo, valid: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The sample (N, C) of a stack's pixels that are `valid`, (H, W)."""
    names = [channel.name for channel in stack.channels]
    positions = [names.index(channel.name) for channel in model.channels]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "valid.tif"
        write_raster(path, valid[None].astype(np.uint8), stack.grid, ["valid"], None)
        return sample_pixels(stack, positions, path, cells_holding(valid, CORE_CELL), CORE_CELL)


def looked(model: Model, pixels: TrainingPixels, sample: NDArray[np.float32]) -> dict[str, Any]:
    """Channels outside, by what tells the range and by scale; the share outside the area of applicability; seconds."""
    bands = np.array([channel.group == "band" for channel in model.channels])
    strict = np.array([follows_scale(channel) for channel in model.channels])
    found: dict[str, Any] = {"pixels": len(sample), "strict": int(strict.sum())}
    for name, known in (("pixels", pixels), ("moments", None)):
        ends = training_range(model, known)
        for scale in SCALES:
            scaled = np.where(bands, sample * np.float32(scale), sample)
            shares = share_outside(model.zscore.apply(scaled.T[:, :, None])[:, :, 0].T, ends)
            found[f"{name} x {scale:g}"] = int((shares[strict] > MOST_OUTSIDE).sum())
            if scale == 1:
                found[f"{name} most"] = float(shares[strict].max(initial=0))
                found[f"{name} loose"] = int((shares[~strict] > MOST_OUTSIDE).sum())
    began = time.process_time()
    area = fit_applicability(pixels.values, pixels.folds, [channel.factor for channel in model.channels])
    inside = area.inside(area.index(np.ascontiguousarray(model.zscore.apply(sample.T[:, :, None])[:, :, 0].T)))
    return found | {"inapplicable": 1 - float(inside.mean()), "seconds": time.process_time() - began}


def rows(run: Run, sites: list[Path]) -> Iterator[dict[str, Any]]:
    """One for each ground that each site's model is tried on."""
    for site in sites:
        try:
            ground, model, pixels = trained(run, site)
        except LabelError:  # without landslides a site can only be looked at
            continue
        for part, code in {"all of it": 0, **PARTS}.items():
            held = ground.valid & ((ground.split.parts == code) | (code == 0))
            if part != "train" and held.any():
                yield {"model": str(site), "ground": part, **looked(model, pixels, drawn(model, ground.stack, held))}
        for other in (path for path in sites if path != site):
            stack, valid = read_stack_info(other / "stack.tif"), read_stored(other / "valid.tif") == 1
            yield {"model": str(site), "ground": str(other), **looked(model, pixels, drawn(model, stack, valid))}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN.toml")
    parser.add_argument("sites", type=Path, nargs="+", metavar="PREPARED/")
    parser.add_argument("--set", nargs="*", default=[], metavar="TABLE.KEY=VALUE", help="as `landslip train` has it")
    parser.add_argument("--json", type=Path, help="also write the rows here")
    given = parser.parse_args()
    changes = {key: json.loads(value) for key, _, value in (text.partition("=") for text in given.set)}
    found = list(rows(read_run(given.run, changes), given.sites))
    scales = [f"x {scale:g}" for scale in SCALES]
    cells = [
        [
            row["model"],
            row["ground"],
            f"{row['pixels']:,}",
            f"{100 * row['pixels most']:.0f} %",
            *(f"{row[f'pixels {scale}']} ({row[f'moments {scale}']}) of {row['strict']}" for scale in scales),
            str(row["pixels loose"]),
            f"{100 * row['inapplicable']:.1f} %",
            f"{row['seconds']:.2f}",
        ]
        for row in found
    ]
    head = ["Trained on", "Looked at", "Pixels", "Most outside", *scales, "Others", "Not applicable", "s"]
    sys.stdout.write(markdown_table(head, cells) + "\n")
    if given.json is not None:
        given.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
