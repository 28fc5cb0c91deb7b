"""Ablation: the network trained anew without one factor at a time, and what its scores lose.

Permutation asks what a trained network makes of a factor; ablation asks whether a network that never had it does worse.
A factor whose twin stays in the stack can be left out without loss. All trainings share split, windows, seed and number
of epochs, and are scored on the same held-out ground at thresholds of their own; an interval holds the spatial blocks
drawn anew, the same for both of a pair, so that what makes a block hard for both falls out of the difference.

That interval says nothing of the chance in a training. The network with all factors is therefore trained once more from
another seed, and a factor has an effect only where its drop is surely larger (one-sided, 5 %) than what that changed.
One such training is a rough yardstick, and a better one costs as many more.

Every training has its folder, keeps its state after each epoch and is not made again once it is finished.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from landslip.config.run import Run
from landslip.dataset.split import TEST
from landslip.dataset.training_data import input_hashes
from landslip.errors import ModelError, ResumeError, RunError
from landslip.evaluation.counts import confusion_by_block
from landslip.geo.raster import read_info, read_stored
from landslip.importance.ranking import (
    RANKING_DRAWS,
    Kind,
    Score,
    bootstrap_weights,
    bootstrapped,
    held_out_notes,
    kappa_f1,
)
from landslip.inference.mapping import map_site
from landslip.runtime.disk import remove_folder
from landslip.runtime.progress import duration, plural, say
from landslip.runtime.text import read_json, write_json
from landslip.training.checkpoint import Model, load_model, run_of
from landslip.training.state import Identity, difference
from landslip.training.train import is_trained, train

ALL_FACTORS, ANOTHER_SEED = "all factors", "another seed"
PLAN, PROBABILITY = "plan.json", "probability.tif"


@dataclass(frozen=True)
class Budget:
    """What each training may take: `epochs`, or as many as `minutes` buy for all trainings together."""

    epochs: int | None = None
    minutes: float | None = None


@dataclass(frozen=True)
class Ablation:
    """The trainings to make, by name: with all factors, from another seed, then without each factor.

    `inputs` are the hashes of the prepared files that they stand on.
    """

    trainings: dict[str, Run]
    prepared: Path
    inputs: dict[str, str]
    budget: Budget


def plan_ablation(model: Model, prepared: Path, budget: Budget) -> Ablation:
    """What it takes to train `model` anew without each of its factors, refused before any work.

    Raises RunError for an impossible budget and a model of one factor alone, ModelError where `prepared` is not what
    the model was trained on.
    """
    if (budget.epochs is None) == (budget.minutes is None):
        raise RunError("a training takes a number of epochs or a share of a budget: give --epochs or --budget.")
    if (budget.epochs is not None and budget.epochs < 1) or (budget.minutes is not None and not budget.minutes > 0):
        amount = f"{budget.epochs} epochs" if budget.minutes is None else f"{budget.minutes:g} minutes"
        raise RunError(f"{amount} train nothing: give --epochs of 1 or more, or a --budget above 0.")
    run = run_of(model)
    inputs = input_hashes(run, prepared)
    trained_on = model.facts.get("site_inputs", {})
    changed = [name for name, sha256 in inputs.items() if trained_on.get(name) != sha256]
    if changed:
        raise ModelError(
            f"{model.folder} was trained on other files than {', '.join(changed)} in {prepared}, so that its split and "
            "windows cannot be had again. Give the prepared site it was trained on, or train it anew."
        )
    factors = list(dict.fromkeys(channel.factor for channel in model.channels if channel.group == "factor"))
    bands = any(channel.group == "band" for channel in model.channels)
    if not factors or (len(factors) == 1 and not bands):
        raise RunError(f"{model.folder} sees {', '.join(factors) or 'no factor'}, so that nothing can be left out.")
    other = run.training.model_copy(update={"seed": run.training.seed ^ 1})
    trainings = {ALL_FACTORS: run, ANOTHER_SEED: run.model_copy(update={"training": other})}
    for name in factors:
        others = tuple(factor for factor in factors if factor != name)
        channels = run.channels.model_copy(update={"factors": others or "none"})
        trainings[_without(name)] = run.model_copy(update={"channels": channels})
    return Ablation(trainings, prepared, inputs, budget)


def ablation_importance(
    planned: Ablation, folder: Path, block: int, seed: int, overwrite: bool = False
) -> tuple[list[Score], list[str]]:
    """Make the trainings in `folder` and score them: the drop of kappa and F1 without each factor, and notes.

    `block` is the side of the spatial blocks in pixels, `seed` that of their draws. Goes on where it was stopped;
    raises ResumeError or OutputError where `folder` holds trainings of other inputs or choices (unless `overwrite`).
    """
    epochs, note = _epochs(planned, folder, overwrite)
    tables: dict[str, NDArray[np.int64]] = {}
    part = ""
    tags: dict[str, str] = {}
    for i, (name, run) in enumerate(planned.trainings.items()):
        say(f"-- training {i + 1}/{len(planned.trainings)}: {name}")
        home = _home(folder, name)
        _train_and_map(_for(run, epochs), planned.prepared, planned.inputs, home, overwrite)
        split = home / "model" / "split.tif"
        part = part or ("test" if (read_stored(split) == TEST).any() else "validation")
        tags = tags or read_info(split).tags
        tables[name] = confusion_by_block(home / PROBABILITY, planned.prepared / "label.tif", split, part, block)
    scores, blocks = drops(tables, seed)
    kappa, f1 = kappa_f1(tables[ALL_FACTORS].sum(0))
    by_chance = abs(kappa - kappa_f1(tables[ANOTHER_SEED].sum(0))[0])
    notes = [
        f"ablation: {len(planned.trainings)} trainings of {plural(epochs, 'epoch')} each{note}, where the model itself "
        f"had {planned.trainings[ALL_FACTORS].training.epochs}; scored on the {part} part in {blocks} spatial blocks "
        f"of {block} pixels: kappa {kappa:.3f} and F1 {f1:.3f} with all factors",
        f"ablation: another seed alone changes kappa by {by_chance:.3f}; a factor shows an effect where its drop is "
        "surely larger (one-sided, 5 %). Intervals hold the ground that is scored, not the chance in a training",
    ]
    return scores, notes + held_out_notes(tags, part, blocks, "ablation")


def drops(tables: Mapping[str, NDArray[np.int64]], seed: int) -> tuple[list[Score], int]:
    """Drops of kappa and F1 against the training with all factors, and on how many spatial blocks they stand.

    `tables` holds (B, 4) pixels by block (TP, FP, FN, TN) of each training by name, the blocks in one order. Every
    draw takes the same blocks for all trainings.
    """
    scored = np.any([table.any(1) for table in tables.values()], 0)  # Blocks with a pixel that is scored.
    tables = {name: table[scored] for name, table in tables.items()}
    weights = bootstrap_weights(np.random.default_rng(seed), int(scored.sum()), RANKING_DRAWS)
    draws = {name: np.array([kappa_f1(weight @ table) for weight in weights]) for name, table in tables.items()}
    totals = {name: kappa_f1(table.sum(0)) for name, table in tables.items()}
    scores = []
    for i, measure in enumerate(("ablation_kappa", "ablation_f1")):
        by_chance = abs(float(totals[ALL_FACTORS][i] - totals[ANOTHER_SEED][i]))
        for name in tables:
            if name == ALL_FACTORS:
                continue
            kind: Kind = "seed" if name == ANOTHER_SEED else "factor"
            factor = name.removeprefix(_without(""))
            estimate = float(totals[ALL_FACTORS][i] - totals[name][i])
            differences = draws[ALL_FACTORS][:, i] - draws[name][:, i]
            low = np.nanpercentile(differences, 5) if np.isfinite(differences).any() else math.nan
            note = "undefined: nothing mapped, or no landslide scored" if math.isnan(estimate) else ""
            effect = bool(low > by_chance)
            scores.append(
                bootstrapped(measure, factor, kind, estimate=estimate, draws=differences, effect=effect, note=note)
            )
    return scores, int(scored.sum())


# ---- trainings ----


class _Plan(TypedDict):
    """What a budget in minutes bought for trainings of this identity, and the seconds that one epoch took."""

    identity: Identity
    minutes: float
    epochs: int
    seconds_of_an_epoch: float


def _without(factor: str) -> str:
    """The name of the training without a factor."""
    return f"without {factor}"


def _home(folder: Path, name: str) -> Path:
    """The folder of a training."""
    return folder / name.replace(" ", "_").replace("/", "_")


def _for(run: Run, epochs: int) -> Run:
    """The run with so many epochs."""
    return run.model_copy(update={"training": run.training.model_copy(update={"epochs": epochs})})


def _train_and_map(run: Run, prepared: Path, inputs: dict[str, str], folder: Path, overwrite: bool) -> None:
    """Train a run into `folder`/model and map the site with it, as far as neither is done."""
    model = folder / "model"
    if not is_trained(model, run, inputs):
        train(run, prepared, model, overwrite)
    loaded, out = load_model(model), folder / PROBABILITY
    if not (out.exists() and read_info(out).tags.get("model_sha256") == loaded.facts["weights_sha256"]):
        map_site(loaded, prepared / "stack.tif", out, overwrite=True)


def _epochs(planned: Ablation, folder: Path, overwrite: bool) -> tuple[int, str]:
    """Epochs of each training, and what is to be said of them; a budget is measured once and then kept."""
    if planned.budget.epochs is not None:
        return planned.budget.epochs, ""
    minutes = planned.budget.minutes or 0.0
    run = planned.trainings[ALL_FACTORS]
    identity: Identity = {"run": run.model_dump(mode="json", exclude={"compare"}), "inputs": planned.inputs}
    plan = _kept_plan(folder / PLAN, identity, minutes, overwrite)
    if plan is None:
        training, mapping = _measured(run, planned.prepared, folder / "probe")
        count = len(planned.trainings)
        epochs = min(int(((60 * minutes - training - mapping) / count - mapping) / training), run.training.epochs)
        if epochs < 1:
            needed = (count + 1) * (training + mapping) / 60
            raise RunError(
                f"a budget of {minutes:g} minutes does not buy one epoch for each of {count} trainings, which takes "
                f"about {math.ceil(needed)} minutes. Give a larger --budget."
            )
        plan = {"identity": identity, "minutes": minutes, "epochs": epochs, "seconds_of_an_epoch": training}
        write_json(folder / PLAN, plan, overwrite=True)
        say(f"{minutes:g} minutes buy {plural(epochs, 'epoch')} for each of {count} trainings")
    seconds = plan["seconds_of_an_epoch"]
    return plan["epochs"], f" (bought by {minutes:g} minutes: one epoch with all around it took {duration(seconds)})"


def _kept_plan(path: Path, identity: Identity, minutes: float, overwrite: bool) -> _Plan | None:
    """The plan that an earlier call kept; None where there is none, or with `overwrite` where it is of other choices.

    Raises ResumeError where it cannot be read, or is of other choices and not to be written anew.
    """
    if not path.exists():
        return None
    try:
        plan: _Plan = read_json(path)
        same = plan["identity"] == identity and plan["minutes"] == minutes and plan["epochs"] >= 1
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ResumeError(f"{path} cannot be read ({str(error)[:100]}). Remove it, and it is made again.") from error
    if same:
        return plan
    if overwrite:
        return None
    was = f"a budget of {plan['minutes']:g} minutes, not {minutes:g}"
    if plan["identity"] != identity:
        was = difference(plan["identity"], identity)
    raise ResumeError(f"{path} is of {was}. Give another folder, or --overwrite to train anew.")


def _measured(run: Run, prepared: Path, folder: Path) -> tuple[float, float]:
    """Seconds of a training of one epoch, reading and validation included, and of mapping the site."""
    remove_folder(folder)  # After a stopped call only the rest of its training would be timed.
    began = time.monotonic()
    train(_for(run, 1), prepared, folder / "model")
    trained = time.monotonic()
    map_site(load_model(folder / "model"), prepared / "stack.tif", folder / PROBABILITY)
    mapped = time.monotonic()
    remove_folder(folder)
    return trained - began, mapped - trained
