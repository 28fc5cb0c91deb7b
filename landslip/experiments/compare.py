"""`landslip compare`: every network, with and without factors, on the same ground; Tables VII to IX of any site.

A run is one method on one choice of channels, split and seed. Networks and pixel baselines see the same windows, valid
pixels, statistics and order. Each run has its folder and leaves result.json there when it is done, so that the same
command goes on where it stopped, also in the midst of a training. Runs go one after another, each in a process of its
own: what it held at most is then its own too.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from landslip.config.run import Run
from landslip.dataset.label import LANDSLIDE
from landslip.dataset.split import TEST
from landslip.dataset.training_data import TrainingData, build_training_data, require_window
from landslip.errors import ChannelError, RunError, SplitError
from landslip.experiments.baselines import require_baseline
from landslip.experiments.forecast import size_of
from landslip.experiments.trial_result import TrialResult
from landslip.experiments.trials import COMPARISON, Sizes, Trial, make_runs, refuse_finished, runs_in_words
from landslip.runtime.progress import plural


def plan(run: Run) -> list[Trial]:
    """All runs of a comparison, in the order in which they are made: a whole table of a split before the next."""
    choice = run.compare
    methods = [(name, True) for name in choice.networks] + [(name, False) for name in choice.baselines]
    return [
        Trial(split=split, method=name, channels=channels, seed=seed, network=network)
        for split in choice.splits
        for seed in range(run.training.seed, run.training.seed + choice.seeds)
        for channels in choice.channels
        for name, network in methods
    ]


def compare(run: Run, prepared: Path, out: Path, overwrite: bool = False) -> list[TrialResult]:
    """Make all runs that are not made yet and return their results in the order of the plan.

    A run that fails by itself (a loss that is not finite, say) is reported in its result and does not stop the others;
    the same command tries it again. Raises what cannot be run at all before any training: RunError, SplitError,
    ChannelError, LabelError; ResumeError where `out` holds runs of other inputs or choices.
    """
    trials = plan(run)
    refuse_finished(out / COMPARISON, overwrite, [trial.name for trial in trials])
    sizes = _require_runnable(run, trials, prepared)
    about = ", ".join(f"{plural(size.windows, 'window')} ({split})" for (split, *_), size in sizes.items())
    return make_runs(trials, run, prepared, out, overwrite=overwrite, about=about, sizes=sizes)


def plan_in_words(run: Run, prepared: Path, out: Path, overwrite: bool = False) -> str:
    """What `compare` would make and how long that takes, timed on a few batches of each network; leaves no file.

    Raises as `compare`, but for what lies in `out`: that it would be refused is said in the last line.
    """
    trials = plan(run)
    sizes = _require_runnable(run, trials, prepared)
    refuse = partial(refuse_finished, out / COMPARISON, overwrite, [trial.name for trial in trials])
    return runs_in_words(trials, run, prepared, out, overwrite=overwrite, sizes=sizes, refuse=refuse)


def _require_runnable(run: Run, trials: Sequence[Trial], prepared: Path) -> Sizes:
    """Refuse before any work what would fail hours later; returns how much ground the runs of each split go over."""
    if not trials:
        raise RunError("[compare] names no run: give networks or baselines, channels and splits.")
    if len(set(trials)) < len(trials):
        twice = next(trial for i, trial in enumerate(trials) if trial in trials[:i])
        raise RunError(
            f"[compare] names a run twice: {twice.name}. Name each network, baseline, choice and split once."
        )
    if run.split.kind == "given" and "given" not in run.compare.splits:
        raise RunError(
            f'[split] kind is "given" and [compare] splits are {", ".join(run.compare.splits)}, which would leave '
            'split.tif unused. Set [compare] splits = ["given"].'
        )
    sizes: Sizes = {}
    channels: dict[str, int] = {}
    for trial in trials:
        choices = trial.run(run)
        if trial.ground not in sizes or trial.channels not in channels:
            data = build_training_data(choices, prepared)
            sizes[trial.ground], channels[trial.channels] = size_of(data), len(data.channels)
            _require_scored_landslide(data, trial.split)
            factors = any(channel.group == "factor" for channel in data.channels)
            if trial.channels != "bands" and not factors:
                raise ChannelError(
                    f"{data.stack.path} holds no factor that the run chooses, so that there is nothing to compare "
                    "bands with. Add a DEM or other factors to the site or to [channels] factors, or set [compare] "
                    'channels = ["bands"].'
                )
        if trial.network:
            require_window(choices, channels[trial.channels])
        else:
            require_baseline(trial.method)
    for name in run.compare.options:
        if name not in run.compare.networks:
            raise RunError(
                f"[compare.options] names {name}, which is not among the networks {', '.join(run.compare.networks)}."
            )
    return sizes


def _require_scored_landslide(data: TrainingData, split: str) -> None:
    """Raise SplitError where the ground that a split scores holds no landslide."""
    if split != "paper" and not ((data.split.parts == TEST) & (data.label == LANDSLIDE) & data.valid).any():
        remedy = "Remove that file to have it drawn anew" if data.split.carried_from else "Give such ground to part 3"
        raise SplitError(
            f"{data.stack.path.with_name('split.tif')}: its test part holds no landslide, so that nothing can be "
            f"scored. {remedy}."
        )
