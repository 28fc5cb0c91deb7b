"""The steps of a run, each made in a process of its own: a network's training, its map, and a pixel baseline."""

from __future__ import annotations

import time
from pathlib import Path
from typing import cast

import torch

from landslip.config.run import Run
from landslip.dataset.training_data import build_training_data, input_hashes, write_split
from landslip.experiments.baselines import fit_baseline, map_baseline, size
from landslip.inference.mapping import map_site
from landslip.inference.tile_store import is_begun
from landslip.models import build_model
from landslip.models.layers import macs, parameter_count
from landslip.runtime.disk import remove_file
from landslip.runtime.provenance import peak_memory
from landslip.runtime.run_folder import PROBABILITY_FILE
from landslip.training.checkpoint import load_model
from landslip.training.model_files import FACTS, WEIGHTS
from landslip.training.train import is_trained, train

RESULT, PROBABILITY = "result.json", PROBABILITY_FILE
Costs = dict[str, object]  # what a step adds to result.json: fields of TrialResult
MACS_BLOCK = 64  # pixels a side of the block whose multiply-adds are compared, whatever the window


def train_step(run: Run, prepared: Path, folder: Path, overwrite: bool) -> Costs:
    """Train a network into `folder`/model, unless it is trained; returns what result.json says of it and its costs."""
    model = folder / "model"
    if not ((model / FACTS).exists() and is_trained(model, run, input_hashes(run, prepared))):
        train(run, prepared, model, overwrite)
    facts = load_model(model).facts
    network = build_model(run.network.name, len(facts["channels"]), **run.network.options)
    return {
        "chosen_epoch": facts["chosen_epoch"],
        "validation": facts["validation"],
        "training_windows": facts["training_windows"],
        "training_seconds": facts["training_seconds"],
        "training_peak_mib": facts["peak_mib"],
        "training_peak_gpu_mib": facts["peak_gpu_mib"],
        "arithmetic": facts["precision"],  # `precision` is the name of a score.
        "parameters": parameter_count(network)[2],
        "macs": _macs(network, len(facts["channels"])),
        "model_mib": (model / WEIGHTS).stat().st_size / 2**20,
    }


def map_step(prepared: Path, folder: Path) -> Costs:
    """Map the site with the network in `folder`/model; returns what that cost."""
    model, out = load_model(folder / "model"), folder / PROBABILITY
    gone_on = is_begun(out)  # Its time would be that of the rest of the map.
    began = time.monotonic()
    map_site(model, prepared / "stack.tif", out, overwrite=True)
    seconds = None if gone_on else time.monotonic() - began
    return {"mapping_seconds": seconds, "mapping_peak_mib": peak_memory()}


def baseline_step(name: str, run: Run, prepared: Path, folder: Path) -> Costs:
    """Fit a pixel baseline and map the site with it; returns what result.json says of it and its costs."""
    data = build_training_data(run, prepared)
    began = time.monotonic()
    baseline = fit_baseline(name, run, data)
    trained = time.monotonic()
    training_peak = peak_memory()
    # Not before the fit is made: one that is given up leaves scores, split and map together.
    remove_file(folder / RESULT, folder)
    write_split(data, folder / "model")
    map_baseline(baseline, data, folder / PROBABILITY, overwrite=True)
    return {
        "validation": baseline.validation,
        "training_windows": len(data.windows),
        "training_pixels": baseline.pixels,
        "training_seconds": trained - began,
        "training_peak_mib": training_peak,
        "mapping_seconds": time.monotonic() - trained,
        "parameters": size(baseline.estimator),
    }


def _macs(network: torch.nn.Module, channels: int) -> int | None:
    """Multiply-adds of a block of 64 x 64 pixels; None for a network so deep that it cannot take one."""
    return None if MACS_BLOCK % cast(int, network.multiple) else macs(network, channels, MACS_BLOCK)
