"""The runs of a comparison or a ladder: each made once in a process of its own, kept, and gone on with.

A run leaves result.json in its folder when it is done. How long the runs will take is forecast from a few batches, and
then from the runs that are done.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from landslip.config.run import Run, settled
from landslip.dataset.training_data import input_hashes
from landslip.errors import LandslipError, OutputError, ResumeError
from landslip.evaluation.evaluate import evaluate
from landslip.evaluation.result import trust
from landslip.experiments.forecast import Size, forecast_table, paces, seconds_of
from landslip.experiments.isolated import run_in_process
from landslip.experiments.steps import PROBABILITY, RESULT, baseline_step, map_step, train_step
from landslip.experiments.trial_result import TrialResult
from landslip.runtime.atomic import refuse_existing
from landslip.runtime.disk import remove_file
from landslip.runtime.locks import exclusive_lock
from landslip.runtime.progress import duration, plural, say
from landslip.runtime.provenance import machine, software
from landslip.runtime.text import percent, read_json, write_json
from landslip.training.model_files import FACTS
from landslip.training.state import Identity, difference, kept_state
from landslip.training.train import identity_of, is_trained

COMPARISON = "comparison.json"
SCORED_PART = {"apart": "test", "given": "test", "paper": "all"}  # the paper scores its whole study area

Sizes = dict[tuple[str, int | None, bool], Size]  # by `Trial.ground`


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One run of a comparison: a network or pixel baseline on some channels, one split, one seed.

    `fold` is that of an apart split in folds; None: as the run file says. `undivided` is an apart split without folds,
    whatever the run file says.
    """

    split: str
    method: str
    channels: str
    seed: int
    network: bool
    fold: int | None = None
    undivided: bool = False

    @property
    def ground(self) -> tuple[str, int | None, bool]:
        """What its split, windows and parts follow from, given the run file."""
        return self.split, self.fold, self.undivided

    @property
    def name(self) -> str:
        """What people read of it."""
        fold = "" if self.fold is None else f", fold {self.fold}"
        return f"{self.method} on {self.channels}, split {self.split}{fold}, seed {self.seed}"

    def folder(self, out: Path) -> Path:
        """Where it keeps its model, its map and its result."""
        folder = out / "runs" / self.split / self.method / self.channels.replace(" + ", "_") / str(self.seed)
        return folder if self.fold is None else folder / f"fold_{self.fold}"

    def run(self, run: Run) -> Run:
        """The run file's choices, with this run's own in their place."""
        values = run.model_dump(mode="json")
        values["split"]["kind"] = self.split
        if self.split != "apart" or self.undivided:
            values["split"] |= {"folds": 1, "fold": 0}
        if self.fold is not None:
            values["split"]["fold"] = self.fold
        values["training"]["seed"] = self.seed
        if self.channels == "bands":
            values["channels"]["factors"] = "none"
        if self.network:
            options = run.network.options if run.network.name == self.method else {}
            values["network"] = {"name": self.method, "options": run.compare.options.get(self.method, options)}
        return settled(Run.model_validate(values))


def make_runs(
    trials: Sequence[Trial],
    run: Run,
    prepared: Path,
    out: Path,
    *,
    overwrite: bool = False,
    about: str = "",
    sizes: Sizes | None = None,
) -> list[TrialResult]:
    """Make those runs that are not made yet, one after another, and return the results of all in their order.

    `about` is said of them first, and how long they will take where their `sizes` are given. Raises ResumeError,
    before any is made, where `out` holds runs of other inputs or choices, finished or half done.
    """
    with exclusive_lock(out, inside=True):
        identities, results = _kept(trials, run, prepared, out, overwrite)
        done = sum(result is not None for result in results)
        say(f"{plural(len(trials), 'run')}, {done} of them finished; {about}".rstrip("; "))
        todo = [trial for trial, result in zip(trials, results, strict=True) if result is None]
        ahead: dict[Trial, float] = {}
        # A single network says itself what is left, after its first epoch.
        if sum(trial.network for trial in todo) > 1:
            ahead = _forecast(todo, run, prepared, sizes or {})
        if ahead:
            say(_in_words(todo, ahead))
        for i, (trial, identity) in enumerate(zip(trials, identities, strict=True)):
            if results[i] is None:
                rest = [t for t, result in zip(trials, results, strict=True) if result is None]
                say(f"-- run {i + 1}/{len(trials)}: {trial.name}; {_time_left(rest, _seconds(trials, results), ahead)}")
                results[i] = _make(trial, run, prepared, out, identity=identity, overwrite=overwrite)
    return [result for result in results if result is not None]


def runs_in_words(
    trials: Sequence[Trial],
    run: Run,
    prepared: Path,
    out: Path,
    *,
    overwrite: bool,
    sizes: Sizes,
    refuse: Callable[[], None],
) -> str:
    """How many runs are left to be made in `out` and how long each network takes; nothing is written.

    `refuse` raises OutputError where outputs that lie in `out` may not be written anew. A plan replaces nothing, so
    that it goes on as with `overwrite`, and its last line says what the command without --plan would be refused for.
    """
    lines = []
    try:
        refuse()
        _, results = _kept(trials, run, prepared, out, overwrite)
    except (OutputError, ResumeError) as error:
        lines = [f"Without --plan this would be refused: {error}"]
        _, results = _kept(trials, run, prepared, out, overwrite=True)
    todo = [trial for trial, result in zip(trials, results, strict=True) if result is None]
    head = [f"{plural(len(trials), 'run')}, {len(trials) - len(todo)} of them finished"]
    if todo:
        head.append(_in_words(todo, _forecast(todo, run, prepared, sizes)))
    return "\n".join(head + lines)


def refuse_finished(path: Path, overwrite: bool, planned: Iterable[str]) -> None:
    """Raise OutputError where `path`, what a set of runs ends in, may not be written anew.

    It may where one of its runs failed, which the same command tries again, and all of them are `planned` again.
    """
    refuse_existing(path, overwrite=True)
    if overwrite or not path.exists():
        return
    with suppress(OSError, ValueError, KeyError, TypeError):
        earlier = read_json(path)
        if any("failed" in result for result in earlier["runs"]) and {*earlier["planned"]} <= {*planned}:
            return
    raise OutputError(
        f"{path} exists already. Give another folder, or --overwrite to write it anew: finished runs of the same "
        "inputs and choices are kept, others are made again."
    )


def mean_and_deviation(results: Iterable[TrialResult], key: str) -> tuple[float, float]:
    """Mean and standard deviation of a number over results; undefined ones are left out.

    The deviation is that of a sample, NaN for a single result; both are NaN for none.
    """
    values = [value for result in results if not math.isnan(value := result.number(key))]
    if not values:
        return math.nan, math.nan
    mean = sum(values) / len(values)
    if len(values) == 1:
        return mean, math.nan
    return mean, math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1))


def _kept(
    trials: Sequence[Trial], run: Run, prepared: Path, out: Path, overwrite: bool
) -> tuple[list[Identity], list[TrialResult | None]]:
    """The identity of every run, and its result where it is finished; ResumeError for those of other inputs."""
    hashes = {ground: input_hashes(trial.run(run), prepared) for ground, trial in {t.ground: t for t in trials}.items()}
    identities = [_identity(trial, run, hashes[trial.ground]) for trial in trials]
    results: list[TrialResult | None] = []
    for trial, identity in zip(trials, identities, strict=True):
        results.append(_finished(trial.folder(out), identity, overwrite))
        if results[-1] is None and trial.network:
            model, choices, inputs = trial.folder(out) / "model", trial.run(run), hashes[trial.ground]
            kept_state(model, identity_of(choices, inputs), overwrite)
            if not overwrite and (model / FACTS).exists() and not is_trained(model, choices, inputs):
                raise ResumeError(
                    f"{model} holds a model of other inputs or choices. Give another folder, or --overwrite to train "
                    "it again."
                )
    return identities, results


def _identity(trial: Trial, run: Run, hashes: dict[str, str]) -> Identity:
    """What a result must agree with to be kept: the run's choices and the hashes of its inputs."""
    return {"run": trial.run(run).model_dump(mode="json", exclude={"compare"}), "inputs": hashes}


def _finished(folder: Path, identity: Identity, overwrite: bool) -> TrialResult | None:
    """The result of a finished run; None where there is none, it failed, or with `overwrite` it is of other choices.

    Raises ResumeError where it cannot be read, or is of other inputs or choices and not to be made again.
    """
    path = folder / RESULT
    if not path.exists():
        return None
    try:
        result = TrialResult.model_validate(read_json(path))
    except (OSError, ValueError) as error:
        raise ResumeError(
            f"{path} cannot be read ({str(error)[:100]}). Remove it, and the run is made again."
        ) from error
    if result.failed is not None:
        return None  # It is made again, whatever its choices were.
    if result.identity != identity:
        if overwrite:
            return None
        of = difference(cast(Identity, result.identity), identity)
        raise ResumeError(f"{path} is of {of}. Give another folder, or --overwrite to make it again.")
    return result


def _make(trial: Trial, run: Run, prepared: Path, out: Path, *, identity: Identity, overwrite: bool) -> TrialResult:
    """Make one run and write its result, also where it fails by itself.

    Raises ResumeError and OutputError, which are of what lies in its folder and not of the run.
    """
    began = time.monotonic()
    folder, choices = trial.folder(out), trial.run(run)
    if trial.network:
        # Scores of other choices must not outlive the model and the map that they are of.
        remove_file(folder / RESULT, folder)
    values: dict[str, object] = {
        "identity": identity,
        "split": trial.split,
        "method": trial.method,
        "channels": trial.channels,
        "seed": trial.seed,
        "network": trial.network,
    }
    try:
        if trial.network:
            costs = {
                **run_in_process(train_step, choices, prepared, folder, overwrite),
                **run_in_process(map_step, prepared, folder),
            }
        else:
            costs = run_in_process(baseline_step, trial.method, choices, prepared, folder)
    except (ResumeError, OutputError):
        raise
    except LandslipError as error:
        say(f"failed: {error}")
        values["failed"] = str(error)
    else:
        values |= _scores(trial, prepared, folder) | costs
        values |= {"seconds": time.monotonic() - began, "machine": machine(), "software": software()}
    result = TrialResult.model_validate(values)
    write_json(folder / RESULT, result.json_fields(), overwrite=True)
    return result


def _scores(trial: Trial, prepared: Path, folder: Path) -> dict[str, object]:
    """The scores of a run's map and what they stand on; a line says the main ones."""
    part = SCORED_PART[trial.split]
    scored = evaluate(folder / PROBABILITY, prepared / "label.tif", folder / "model" / "split.tif", part)
    leaky = " (leaky)" if scored.leaky else ""
    say(f"{trial.name}{leaky}: F1 {percent(scored.scores['f1'])}, kappa {percent(scored.scores['kappa'])}")
    return {
        **scored.scores,
        "part": part,
        "leaky": scored.leaky,
        "pixels": scored.pixels,
        "threshold": scored.threshold,
        **trust(scored),
    }


def _forecast(todo: Sequence[Trial], run: Run, prepared: Path, sizes: Sizes) -> dict[Trial, float]:
    """Seconds that each network's run will take, from a few batches timed in a process of their own; {} where it fails.

    Whatever is raised there is said in a line and ends nothing: runs are made all the same, and tell their own faults.
    One choice of channels stands for all: they differ in the first layer alone.
    """
    todo = [trial for trial in todo if trial.network and trial.ground in sizes]
    widest = {trial.method: trial for trial in todo if trial.channels == "bands"}
    widest |= {trial.method: trial for trial in todo if trial.channels != "bands"}
    if not widest:
        return {}
    say(f"timing a few batches of {', '.join(widest)}")
    began = time.monotonic()
    try:
        pace_of, timing = run_in_process(paces, [trial.run(run) for trial in widest.values()], prepared)
    except Exception as error:  # Torch and the system raise many kinds. Ctrl-C is no Exception.
        say(f"no forecast could be made of how long they take: {str(error) or type(error).__name__}")
        return {}
    start = max(time.monotonic() - began - timing, 0.0)
    return {trial: seconds_of(trial.run(run), sizes[trial.ground], pace_of[trial.method], start) for trial in todo}


def _in_words(todo: Sequence[Trial], seconds: dict[Trial, float]) -> str:
    """The forecast of the runs that are to be made, as a table; those without one are named."""
    unmeasured = [trial.method for trial in todo if trial not in seconds]
    return forecast_table([(trial.method, seconds[trial]) for trial in todo if trial in seconds], unmeasured)


def _seconds(trials: Sequence[Trial], results: Sequence[TrialResult | None]) -> list[tuple[Trial, float]]:
    """The seconds that each run took of those that are made and did not fail."""
    return [
        # Where a run was made in one go it counts from end to end: its steps leave out validation, scores and starts.
        (trial, max(result.seconds or 0.0, (result.training_seconds or 0.0) + (result.mapping_seconds or 0.0)))
        for trial, result in zip(trials, results, strict=True)
        if result is not None and result.failed is None
    ]


def _time_left(
    todo: Sequence[Trial], timed: Sequence[tuple[Trial, float]], ahead: Mapping[Trial, float] | None = None
) -> str:
    """How long the runs that are to be made will take, in words.

    It follows from the runs of the same method so far, else from the forecast `ahead`, else from those of its kind.
    """
    total = 0.0
    for trial in todo:
        alike = [s for t, s in timed if t.method == trial.method]
        if not alike and ahead and trial in ahead:
            alike = [ahead[trial]]
        alike = alike or [s for t, s in timed if t.network == trial.network]
        if not alike and trial.network:
            return "time left is known after the first network"
        total += sum(alike) / len(alike) if alike else 0.0
    return f"about {duration(total)} left for all"
