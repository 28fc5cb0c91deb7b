"""The folds of a `landslip ladder`: what a model on all ground takes its epochs and threshold from, and its scores.

A model that trains on all labelled ground leaves none to choose an epoch or a threshold on. The folds chose both, each
on ground of its own, and their pooled scores say what new ground may expect of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from landslip.config.run import Run, settled
from landslip.errors import RunError
from landslip.runtime.progress import plural
from landslip.runtime.run_folder import LADDER
from landslip.runtime.text import read_json
from landslip.training.model_facts import FoldsTable
from landslip.training.model_files import FACTS

MODELS = f"runs/apart/*/*/*/fold_*/model/{FACTS}"  # where a ladder keeps the models of its folds
# What the folds were trained with and a model on all ground must be, too; the seed may be another.
ALIKE = ("channels", "blocks", "network", "augmentation", "training")
OF_THE_FOLD = ("seed", "end", "choose", "threshold", "patience")  # of [training]


@dataclass(frozen=True, kw_only=True)
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
    models = [read_json(at) for at in sorted(folder.glob(MODELS), key=lambda at: at.parts[-3])]
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
    for of_fold, site_of_fold in zip(folds.runs, folds.sites, strict=True):
        for name, sha256 in site.items():
            if site_of_fold.get(name) != sha256:
                raise RunError(
                    f"the folds of {folds.folder} were trained on another {name} (SHA-256 "
                    f"{str(site_of_fold.get(name))[:12]}, here {sha256[:12]}). Give the ladder of this prepared site."
                )
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
