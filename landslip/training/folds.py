"""The folds of a `landslip ladder`: what a model on all ground takes its epochs and threshold from, and its scores.

A model that trains on all labelled ground leaves none to choose an epoch or a threshold on. The folds chose both, each
on ground of its own, and their pooled scores say what new ground may expect of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landslip.config.run import Run, settled
from landslip.dataset.split import TEST
from landslip.errors import RunError
from landslip.geo.grid import Window
from landslip.geo.raster import open_raster, read_stored_window, read_window
from landslip.runtime.progress import plural
from landslip.runtime.run_folder import LADDER, PROBABILITY_FILE
from landslip.runtime.text import read_json
from landslip.training.checkpoint import Model
from landslip.training.model_facts import FoldsTable
from landslip.training.model_files import FACTS, SPLIT

FOLDERS = "runs/apart/*/*/*/fold_*"  # where a ladder keeps its folds
SUREST = 1e-7  # probabilities lie this far from 0 and 1 at least, since their logits are taken
# What the folds were trained with and a model on all ground must be, too; the seed may be another.
ALIKE = ("channels", "blocks", "network", "augmentation", "training")
OF_THE_FOLD = ("seed", "end", "choose", "threshold", "patience")  # of [training]


@dataclass(frozen=True, kw_only=True, eq=False)
class Folds:
    """The finished folds of a ladder: what they were trained by and on, what they chose, and their pooled scores.

    `runs`, `sites` (SHA-256 by file name), `epochs` and `thresholds` are those of each fold.
    """

    folder: Path
    runs: list[Run]
    sites: list[dict[str, str]]
    epochs: list[int]
    thresholds: list[float]
    weights: list[str]
    scores: dict[str, float | None]
    intervals: dict[str, list[float]]

    @property
    def models(self) -> list[Path]:
        """The folder of each fold, in order, with its model and its map."""
        return _folders(self.folder)

    def logits(self, window: Window) -> NDArray[np.float32]:
        """(h, w) logits at a window, each pixel's by the fold that tested it; NaN where none did."""
        out = np.full((window.height, window.width), np.nan, np.float32)
        for folder in self.models:
            with open_raster(folder / "model" / SPLIT) as split, open_raster(folder / PROBABILITY_FILE) as probability:
                tested = read_stored_window(split, window) == TEST
                if tested.any():
                    p = np.clip(read_window(probability, window, [1])[0].astype(np.float64), SUREST, 1 - SUREST)
                    out[tested] = np.log(p / (1 - p))[tested]
        return out

    def table(self) -> FoldsTable:
        """What model.json says of them."""
        return {
            "chosen_epochs": self.epochs,
            "thresholds": self.thresholds,
            "weights_sha256": self.weights,
            "scores": self.scores,
            "intervals": self.intervals,
        }


def read_folds(folder: Path) -> Folds:
    """The folds that `landslip ladder` left in a folder; RunError where it is no such folder, or not finished."""
    path = folder / LADDER
    try:
        rungs = {rung["rung"]: rung for rung in read_json(path)["runs"]}
        pooled: Mapping[str, Any] = rungs["apart"]
        count = len(pooled["folds"])
        scores = {name: pooled[name] for name in pooled["intervals"]}
        intervals = dict(pooled["intervals"])
    except FileNotFoundError as error:
        raise RunError(
            f"{folder} holds no {LADDER}. Give the folder of `landslip ladder RUN.toml PREPARED/ OUT/ --set "
            "split.folds=5`, when it is finished."
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{path} holds no finished folds ({str(error)[:100]}). Give the folder of a ladder with [split] folds of 2 "
            "or more, none of which failed."
        ) from error
    models = [read_json(at / "model" / FACTS) for at in _folders(folder)]
    if len(models) != count:
        raise RunError(
            f"{folder} holds the models of {plural(len(models), 'fold')}, and {LADDER} names {count}. Give the same "
            "`landslip ladder` again: it goes on."
        )
    try:
        return Folds(
            folder=folder,
            runs=[Run.model_validate(facts["run"]) for facts in models],
            sites=[dict(facts["site_inputs"]) for facts in models],
            epochs=[int(facts["chosen_epoch"]) for facts in models],
            thresholds=[float(facts["threshold"]) for facts in models],
            weights=[str(facts["weights_sha256"]) for facts in models],
            scores=scores,
            intervals=intervals,
        )
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{folder} holds models that this version cannot read ({str(error)[:200]}). Make the ladder again."
        ) from error


def run_on_all_ground(run: Run, folds: Folds, site: Mapping[str, str]) -> Run:
    """The run that trains on all ground as the folds were trained, to the median of their epochs, at their threshold.

    The schedule stays that of the folds, so that the network is where theirs were when they were chosen. `site` are
    the hashes of the prepared site. Raises RunError where the folds were trained on another site, or by other choices
    than those of `run`.
    """
    run = settled(run)
    require_site([folds], site)
    for of_fold in folds.runs:
        _require_alike(run, of_fold, folds.folder)
    training = {
        "end": max(1, round(median(folds.epochs))),
        "choose": "last",
        "threshold": median(folds.thresholds),
        "patience": 0,
    }
    split = {"kind": "all", "folds": 1, "fold": 0}
    return run.model_copy(
        update={"training": run.training.model_copy(update=training), "split": run.split.model_copy(update=split)}
    )


def ladders_of(model: Model, ladders: Sequence[Folds]) -> dict[Folds, int]:
    """The ladders that a model, or the members of an ensemble, were trained after, and how many members each.

    Raises RunError where a member was trained after other folds than those given, or a ladder is nobody's.
    """
    tables = [member.get("folds") for member in model.facts.get("members", [])] or [model.facts.get("folds")]
    counts = dict.fromkeys(ladders, 0)
    for number, table in enumerate(tables, 1):
        of = f"member {number} of {model.folder}" if len(tables) > 1 else str(model.folder)
        if table is None:
            raise RunError(
                f"{of} was trained after no folds ({FACTS} names none), so that no map of theirs stands for it. Train "
                "it by `landslip train --folds LADDER/`, or leave --folds out."
            )
        ladder = next((ladder for ladder in ladders if ladder.weights == table["weights_sha256"]), None)
        if ladder is None:
            given = ", ".join(str(ladder.folder) for ladder in ladders)
            raise RunError(
                f"{of} was trained after other folds than those of {given}. Give its own ladder with --folds."
            )
        counts[ladder] += 1
    for ladder, count in counts.items():
        if not count:
            raise RunError(f"nothing in {model.folder} was trained after the folds of {ladder.folder}. Leave it out.")
    return counts


def require_site(ladders: Iterable[Folds], site: Mapping[str, str]) -> None:
    """Raise RunError where folds were trained on another prepared site than that with these hashes."""
    for folds in ladders:
        for of_fold, (name, sha256) in product(folds.sites, site.items()):
            if of_fold.get(name) != sha256:
                raise RunError(
                    f"the folds of {folds.folder} were trained on another {name} (SHA-256 "
                    f"{str(of_fold.get(name))[:12]}, here {sha256[:12]}). Give the ladder of this prepared site."
                )


def _folders(ladder: Path) -> list[Path]:
    """The folders of a ladder's folds that hold a model, in the order of the folds."""
    folders = [at for at in ladder.glob(FOLDERS) if (at / "model" / FACTS).exists()]
    return sorted(folders, key=lambda at: int(at.name.rpartition("_")[2]))


def _require_alike(run: Run, of_fold: Run, folder: Path) -> None:
    """Raise RunError where a fold was trained by other choices than a run's; the first that differs is named."""
    for table in ALIKE:
        here, there = getattr(run, table), getattr(of_fold, table)
        for key in type(here).model_fields:
            if table == "training" and key in OF_THE_FOLD:
                continue
            ours, theirs = getattr(here, key), getattr(there, key)
            if ours != theirs:
                raise RunError(
                    f"the folds of {folder} were trained with [{table}] {key} = {theirs!r}, and the run file says "
                    f"{ours!r}. Give the run file that the ladder was made by, or make the ladder again."
                )
