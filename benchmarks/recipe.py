"""What each ingredient of a training is worth on held-out ground: `python benchmarks/recipe.py PREPARED/ OUT/`.

A small network (so that all of it can be run on a processor) is trained with the whole recipe, then with one ingredient
taken out, added or exchanged at a time, on the same windows, folds and seed. Variants are paired by fold: the table
gives the difference from the whole recipe in each. Ingredients are judged on the validation part. The test parts, which
are all ground once over the folds, are reported beside it and decide nothing. Finished trainings are kept, and the same
command goes on with the one that it was stopped in.
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
from numpy.typing import NDArray

from landslip.config.run import Run
from landslip.dataset.blocks import Blocks, aspect_positions, turn
from landslip.dataset.split import PARTS
from landslip.dataset.training_data import TrainingData, build_training_data
from landslip.geo.grid import Window
from landslip.geo.raster import open_raster
from landslip.geo.tiling import cell_size, cells_holding, plan_tiles
from landslip.metrics.confusion import Histogram
from landslip.models.forward import probabilities
from landslip.runtime.progress import say
from landslip.runtime.text import write_json
from landslip.training.checkpoint import load_model
from landslip.training.model_files import FACTS
from landslip.training.threshold import AT_ONCE
from landslip.training.train import train

BASE: dict[str, Any] = {
    "blocks": {"window": 128, "step": 128, "background": 0.1},
    "split": {"kind": "apart", "regions": "pieces", "train": 0.75, "validation": 0.1, "folds": 3},
    "network": {
        "name": "fc_densenet",
        "options": {"growth_rate": 8, "first_width": 24, "layers": [2, 2, 3, 3, 4, 3, 3, 2, 2]},
    },
    "training": {"epochs": 30, "batch": 8, "threshold": "f1"},
}
WHOLE = "whole recipe"
LIGHT = {"gamma": 0.2, "contrast": 0.2, "brightness": 0.2}
# What each variant changes of which tables; of [training] where a key names no table.
VARIANTS: dict[str, dict[str, Any]] = {
    WHOLE: {},
    "no turns and mirrors": {"augment": False},
    "no weight averaging": {"average": 0.0},
    "constant rate 1e-3": {"schedule": "constant", "learning_rate": 1e-3},
    "BCE + Dice": {"loss": "bce+dice"},
    "focal loss": {"loss": "focal"},
    "boundary loss": {"loss": "boundary"},
    "batch 4": {"batch": 4},
    "no weight decay": {"weight_decay": 0.0},
    "weight decay 1e-2": {"weight_decay": 1e-2},
    "positive unit ball": {"initial": "positive-unit-ball"},
    "no prior bias": {"prior_bias": False},
    "light varied": {"augmentation": LIGHT},
    "offset varied": {"augmentation": {"offset": 200.0}},
    "parts dropped": {"augmentation": {"drop": 0.1}},
    "all three": {"augmentation": {**LIGHT, "offset": 200.0, "drop": 0.1}},
    "no bands": {"channels": {"bands": "none"}},
    "bands alone": {"channels": {"factors": "none"}},
    "ResU-Net": {"network": {"name": "resunet"}},
}


def run_of(name: str, seed: int, fold: int, folds: int, epochs: int) -> Run:
    """The run of a variant: the base with its ingredient changed."""
    tables = {key: dict(value) for key, value in BASE.items()}
    tables["training"] |= {"epochs": epochs, "seed": seed}
    tables["split"] |= {"folds": folds, "fold": fold}
    for key, value in VARIANTS[name].items():
        if key in Run.model_fields:
            tables[key] = value
        else:
            tables["training"][key] = value
    return Run.model_validate(tables)


def scores(folder: Path, ground: TrainingData, part: str, turns: int = 1) -> dict[str, float]:
    """F1 and kappa of a part at the model's threshold, mapped with a halo; the mean over `turns` of 1 or 8 views."""
    model = load_model(folder)
    aspect = aspect_positions(model.channels)
    views = [(q, m) for m in (False, True) for q in range(4)][:turns]
    found = Histogram.empty()
    with open_raster(ground.stack.path) as dataset:
        blocks = Blocks(dataset, ground.positions, model.zscore, ground.valid, ground.label)
        scored = (ground.split.parts == PARTS[part]) & ground.valid
        needed = cells_holding(scored, cell_size(model.multiple))
        for task in plan_tiles(ground.label.shape, needed, model.multiple, AT_ONCE).tasks:
            core, window, side = task.core, task.read, max(task.read.height, task.read.width)
            x, y = blocks.cut(Window(window.row, window.column, side, side))
            p: NDArray[np.float32] = np.zeros((side, side), np.float32)
            for quarter, mirror in views:
                turned, _ = turn(x, y, quarter, mirror, aspect)
                seen = probabilities(model.network, turned[None], "fp32")[0]
                p += np.rot90(seen[:, ::-1] if mirror else seen, -quarter)
            found += Histogram.from_arrays(
                (p / np.float32(len(views)))[core.within(window)], ground.label[core.slices], scored[core.slices]
            )
    at = found.best_threshold("f1") if part == "validation" else model.threshold
    counts = found.confusion(round(at, 3))
    made = counts.scores()
    return {"f1": made["f1"], "kappa": made["kappa"], **asdict(counts)}


def measure(run: Run, prepared: Path, folder: Path, views: bool) -> dict[str, Any]:
    """Train one variant on one fold with one seed, or read what an earlier call measured."""
    result = folder / "scores.json"
    if result.exists():
        return dict(json.loads(result.read_text(encoding="utf-8")))
    ground = build_training_data(run, prepared)
    if not (folder / FACTS).exists():
        train(run, prepared, folder)
    measured: dict[str, Any] = {part: scores(folder, ground, part) for part in ("validation", "test")}
    if views:
        measured |= {f"{part}, 8 views": scores(folder, ground, part, 8) for part in ("validation", "test")}
    measured["training_windows"] = len(ground.windows)
    write_json(result, measured, overwrite=True)
    return measured


def pooled_f1(results: list[dict[str, Any]], part: str) -> float:
    """F1 of the pixels of all trainings together, per cent, each at its own threshold."""
    tp, fp, fn = (sum(r[part][key] for r in results) for key in ("tp", "fp", "fn"))
    return float(200 * tp / (2 * tp + fp + fn))


def row(name: str, part: str, results: list[dict[str, Any]], whole: list[dict[str, Any]]) -> str:
    """A variant's cells of one part: F1 pooled, in each training, and its difference from the whole recipe there."""
    each = [100 * r[part]["f1"] for r in results]
    base = [100 * r[part.removesuffix(", 8 views")]["f1"] for r in whole]
    apart = [] if name == WHOLE and part in PARTS else [f"{a - b:+.1f}" for a, b in zip(each, base, strict=False)]
    return f"{pooled_f1(results, part):.2f} | {', '.join(f'{v:.1f}' for v in each)} | {', '.join(apart)}"


def main() -> None:
    """Run the grid and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prepared", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--folds", type=int, default=3, help="1: one split with a test part of 15 %%")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--only", nargs="*", default=list(VARIANTS), choices=list(VARIANTS), help="names of variants")
    parser.add_argument("--table", action="store_true", help="print the finished trainings only")
    parser.add_argument("--views", action="store_true", help="map the whole recipe by the mean of 8 views too")
    given = parser.parse_args()
    results: dict[str, list[dict[str, Any]]] = {}
    for seed, fold, name in product(range(given.seeds), range(given.folds), given.only):
        folder = given.out / name.replace(" ", "_").replace("+", "and") / f"{seed}_{fold}_of_{given.folds}"
        if given.table and not (folder / "scores.json").exists():
            continue
        say(f"-- {name}, seed {seed}, fold {fold + 1} of {given.folds}")
        run = run_of(name, seed, fold, given.folds, given.epochs)
        results.setdefault(name, []).append(measure(run, given.prepared, folder, given.views and name == WHOLE))
    head = "| recipe | validation F1, pooled | each | difference | test F1, pooled | each | difference |"
    print(f"{head}\n|---|---|---|---|---|---|---|")
    for name, measured in results.items():
        for suffix in ("", ", 8 views") if "test, 8 views" in measured[0] else ("",):
            cells = [row(name, part + suffix, measured, results.get(WHOLE, [])) for part in ("validation", "test")]
            print(f"| {name}{suffix} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
