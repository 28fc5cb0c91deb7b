"""What each ingredient of the `best` recipe is worth on held-out ground: `python benchmarks/recipe.py PREPARED/ OUT/`.

A small FC-DenseNet (so that all of it can be run on a processor) is trained with the whole recipe, then with one
ingredient taken out or exchanged at a time, on the same windows and split, over several seeds. Ingredients are judged
on the validation part; the test part is reported beside it and decides nothing. Finished trainings are kept, so that
the same command goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np

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
    "split": {"kind": "apart", "regions": "pieces", "train": 0.75, "validation": 0.1},
    "network": {
        "name": "fc_densenet",
        "options": {"growth_rate": 8, "first_width": 24, "layers": [2, 2, 3, 3, 4, 3, 3, 2, 2]},
    },
    "training": {"epochs": 4, "batch": 8, "threshold": "f1"},
}
VARIANTS: dict[str, dict[str, Any]] = {
    "whole recipe": {},
    "no turns and mirrors": {"augment": False},
    "no weight averaging": {"average": 0.0},
    "constant rate 1e-3": {"schedule": "constant", "learning_rate": 1e-3},
    "BCE + Dice": {"loss": "bce+dice"},
    "focal loss": {"loss": "focal"},
    "batch 4": {"batch": 4},
    "no weight decay": {"weight_decay": 0.0},
    "weight decay 1e-2": {"weight_decay": 1e-2},
    "positive unit ball": {"initial": "positive-unit-ball"},
    "no prior bias": {"prior_bias": False},
}


def run_of(changes: dict[str, Any], seed: int) -> Run:
    """The base run with an ingredient changed."""
    return Run.model_validate({**BASE, "training": {**BASE["training"], **changes, "seed": seed}})


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
            p = np.zeros((side, side), np.float32)
            for quarter, mirror in views:
                turned, _ = turn(x, y, quarter, mirror, aspect)
                seen = probabilities(model.network, turned[None], "fp32")[0]
                p += np.rot90(seen[:, ::-1] if mirror else seen, -quarter)
            found += Histogram.from_arrays(
                (p / len(views))[core.within(window)], ground.label[core.slices], scored[core.slices]
            )
    at = found.best_threshold("f1") if part == "validation" else model.threshold
    made = found.confusion(round(at, 3)).scores()
    return {"f1": made["f1"], "kappa": made["kappa"]}


def measure(name: str, seed: int, prepared: Path, out: Path) -> dict[str, Any]:
    """Train one variant with one seed, or read what an earlier call found."""
    folder = out / name.replace(" ", "_").replace("+", "and") / str(seed)
    result = folder / "scores.json"
    if result.exists():
        return dict(json.loads(result.read_text(encoding="utf-8")))
    run = run_of(VARIANTS[name], seed)
    ground = build_training_data(run, prepared)
    if not (folder / FACTS).exists():
        train(run, prepared, folder)
    found: dict[str, Any] = {part: scores(folder, ground, part) for part in ("validation", "test")}
    if name == "whole recipe":
        found |= {f"{part}, 8 views": scores(folder, ground, part, 8) for part in ("validation", "test")}
    found["training_windows"] = len(ground.windows)
    write_json(result, found, overwrite=True)
    return found


def main() -> None:
    """Run the grid and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prepared", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--only", nargs="*", default=list(VARIANTS), help="names of variants")
    given = parser.parse_args()
    found: dict[str, list[dict[str, Any]]] = {}
    for seed in range(given.seeds):
        for name in given.only:
            say(f"-- {name}, seed {seed}")
            found.setdefault(name, []).append(measure(name, seed, given.prepared, given.out))
    print("| recipe | validation F1 | each seed | test F1 | each seed |\n|---|---|---|---|---|")
    for name, results in found.items():
        for suffix in ("", ", 8 views") if name == "whole recipe" else ("",):
            cells = []
            for part in ("validation", "test"):
                f1 = [100 * r[part + suffix]["f1"] for r in results]
                cells += [f"{statistics.mean(f1):.2f}", ", ".join(f"{v:.1f}" for v in f1)]
            print(f"| {name}{suffix} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
