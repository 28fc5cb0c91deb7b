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
from landslip.metrics.confusion import Confusion, Histogram
from landslip.models.forward import probabilities
from landslip.runtime.progress import say
from landslip.runtime.text import write_json
from landslip.training.checkpoint import load_model
from landslip.training.model_files import FACTS
from landslip.training.threshold import AT_ONCE
from landslip.training.train import train

Training = tuple[int, int]  # seed and fold
Measured = dict[str, Confusion]  # by part

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
VIEWS = ", 8 views"
SCORED = ("validation", "test")
LIGHT = {"gamma": 0.2, "contrast": 0.2, "brightness": 0.2}
ALL_THREE = {**LIGHT, "offset": 200.0, "drop": 0.1}
RESUNET: dict[str, Any] = {"network": {"name": "resunet"}}
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
    "all three": {"augmentation": ALL_THREE},
    "no bands": {"channels": {"bands": "none"}},
    "bands alone": {"channels": {"factors": "none"}},
    "ResU-Net": RESUNET,
    "ResU-Net, light varied": RESUNET | {"augmentation": LIGHT},
    "ResU-Net, offset varied": RESUNET | {"augmentation": {"offset": 200.0}},
    "ResU-Net, parts dropped": RESUNET | {"augmentation": {"drop": 0.1}},
    "ResU-Net, all three": RESUNET | {"augmentation": ALL_THREE},
    "ResU-Net, boundary loss": RESUNET | {"loss": "boundary"},
    "ResU-Net, no bands": RESUNET | {"channels": {"bands": "none"}},
    "ResU-Net, windows of 256": RESUNET | {"blocks": {"window": 256}, "split": {"guard": 128}, "batch": 2},
}


def run_of(name: str, seed: int, fold: int, folds: int, epochs: int) -> Run:
    """The run of a variant: the base with its ingredient changed."""
    tables = {key: dict(value) for key, value in BASE.items()}
    tables["training"] |= {"epochs": epochs, "seed": seed}
    tables["split"] |= {"folds": folds, "fold": fold}
    for key, value in VARIANTS[name].items():
        if key in ("blocks", "split"):
            tables[key] |= value
        elif key in Run.model_fields:
            tables[key] = value
        else:
            tables["training"][key] = value
    return Run.model_validate(tables)


def scores(folder: Path, data: TrainingData, part: str, turns: int = 1) -> Confusion:
    """Pixels of a part by class, mapped with a halo; the mean over `turns` of 1 or 8 views.

    The test part is scored at the model's threshold, the validation part at the best one of its map.
    """
    model = load_model(folder)
    aspect = aspect_positions(model.channels)
    views = [(q, m) for m in (False, True) for q in range(4)][:turns]
    found = Histogram.empty()
    with open_raster(data.stack.path) as dataset:
        blocks = Blocks(dataset, data.positions, model.zscore, data.valid, data.label)
        scored = (data.split.parts == PARTS[part]) & data.valid
        needed = cells_holding(scored, cell_size(model.multiple))
        for task in plan_tiles(data.label.shape, needed, model.multiple, AT_ONCE).tasks:
            core, window, side = task.core, task.read, max(task.read.height, task.read.width)
            x, y = blocks.cut(Window(window.row, window.column, side, side))
            p: NDArray[np.float32] = np.zeros((side, side), np.float32)
            for quarter, mirror in views:
                turned, _ = turn(x, y, quarter, mirror, aspect)
                seen = probabilities(model.network, turned[None], "fp32")[0]
                p += np.rot90(seen[:, ::-1] if mirror else seen, -quarter)
            found += Histogram.from_arrays(
                (p / np.float32(len(views)))[core.within(window)], data.label[core.slices], scored[core.slices]
            )
    at = found.best_threshold("f1") if part == "validation" else model.threshold
    return found.confusion(round(at, 3))


def measure(run: Run, prepared: Path, folder: Path, views: bool) -> Measured:
    """Train one variant on one fold with one seed, or read what an earlier call measured; a confusion for each part."""
    result = folder / "scores.json"
    if not result.exists():
        data = build_training_data(run, prepared)
        if not (folder / FACTS).exists():
            train(run, prepared, folder)
        measured = {part: scores(folder, data, part) for part in SCORED}
        if views:
            measured |= {part + VIEWS: scores(folder, data, part, 8) for part in SCORED}
        write_json(result, {part: asdict(counts) for part, counts in measured.items()}, overwrite=True)
    return {part: Confusion(**counts) for part, counts in json.loads(result.read_text(encoding="utf-8")).items()}


def table(results: dict[str, dict[Training, Measured]]) -> list[str]:
    """The Markdown table of what each variant reached in each of its trainings."""
    head = " | ".join(f"{part} F1, pooled | kappa | each F1 | difference" for part in SCORED)
    lines = [f"| recipe | {head} |", "|---" * (1 + 4 * len(SCORED)) + "|"]
    whole = results.get(WHOLE, {})
    for name, trainings in results.items():
        for suffix in ("", VIEWS):
            seen = {key: measured for key, measured in trainings.items() if SCORED[0] + suffix in measured}
            if seen:
                cells = [_cells(seen, whole, part, suffix, of_whole=trainings is whole) for part in SCORED]
                lines.append(f"| {name}{suffix} | " + " | ".join(cells) + " |")
    return lines


def _cells(
    trainings: dict[Training, Measured], whole: dict[Training, Measured], part: str, suffix: str, *, of_whole: bool
) -> str:
    """A variant's cells of one part: F1 and kappa of all pixels, and F1 and its difference in each training.

    A difference is to the whole recipe in the same fold with the same seed, and - where that is not trained.
    """
    counts = {key: measured[part + suffix] for key, measured in trainings.items()}
    pooled = sum(counts.values(), start=Confusion(0, 0, 0, 0)).scores()
    each = [f"{100 * c.f1:.1f}" for c in counts.values()]
    apart = [f"{100 * (c.f1 - whole[key][part].f1):+.1f}" if key in whole else "-" for key, c in counts.items()]
    if of_whole and not suffix:
        apart = []
    return f"{100 * pooled['f1']:.2f} | {100 * pooled['kappa']:.2f} | {', '.join(each)} | {', '.join(apart)}"


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
    results: dict[str, dict[Training, Measured]] = {}
    for seed, fold, name in product(range(given.seeds), range(given.folds), given.only):
        training = f"seed_{seed}_fold_{fold}_of_{given.folds}_epochs_{given.epochs}"
        folder = given.out / name.replace(" ", "_").replace(",", "").replace("+", "and") / training
        if given.table and not (folder / "scores.json").exists():
            continue
        say(f"-- {name}, seed {seed}, fold {fold + 1} of {given.folds}")
        run = run_of(name, seed, fold, given.folds, given.epochs)
        measured = measure(run, given.prepared, folder, given.views and name == WHOLE)
        results.setdefault(name, {})[seed, fold] = measured
    print("\n".join(table(results)))


if __name__ == "__main__":
    main()
