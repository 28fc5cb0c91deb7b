"""`landslip ladder`: one design of network on every rung of honesty, and what the headline loses from one to the next.

The headline is the paper's: trained on random windows and scored on the whole site, training ground included. Below
it the same design is scored on ground kept apart, and on other sites. Where the run has folds, every region is tested
once, by a network that never saw it. Trainings are runs of a comparison (trials.py), so that the same command goes on
where it stopped, also in the midst of a training.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from landslip.config.run import CompareChoice, Run
from landslip.dataset.label import LANDSLIDE
from landslip.dataset.split import TEST, leaky_tag, worst_leak
from landslip.dataset.training_data import TrainingData, build_training_data, read_prepared, site_hashes
from landslip.errors import LabelError, LandslipError, RunError
from landslip.evaluation.counts import COUNTING_SIDE, MAPPED, VALUES
from landslip.evaluation.evaluate import evaluate, nearness
from landslip.evaluation.leakage import pooled
from landslip.evaluation.result import HEADS, Evaluation, evaluation_json, leakage, score_cells
from landslip.experiments.forecast import size_of
from landslip.experiments.isolated import run_in_process
from landslip.experiments.steps import PROBABILITY
from landslip.experiments.transfer import AS_TRAINED, SCORED, SPLIT, transfer
from landslip.experiments.trial_result import TrialResult
from landslip.experiments.trials import Sizes, Trial, make_runs, mean_and_deviation, refuse_finished, runs_in_words
from landslip.geo.geotiff import create_raster, write_raster, write_window
from landslip.geo.grid import tiles
from landslip.geo.raster import open_raster, read_info, read_stored_window, read_window
from landslip.metrics.confusion import SCORES
from landslip.runtime.atomic import atomic_files, refuse_existing
from landslip.runtime.progress import plural, say
from landslip.runtime.run_folder import FOLDS_SPLIT, LADDER
from landslip.runtime.text import csv_table, markdown_table, read_json, write_json, write_text
from landslip.training.checkpoint import find_channels, load_model

CHANNELS = "chosen"  # what a trial's channels are called here: those that the run file chooses
POOLED = "folds.tif"  # all folds as one map
COLUMNS = ("rung", "ground", "leaky", "pixels", "threshold")


@dataclass(frozen=True, kw_only=True)
class Rung:
    """One rung: what was scored on which ground, or why its training `failed`.

    `folds` are the scores and choices of each fold that was pooled, `spread` the mean and deviation of each score over
    them. `overlap` is the share of another site that lies on the model's training ground. `gap` is each score less the
    headline's, None where either is undefined.
    """

    name: str
    ground: str
    scored: Evaluation | None = None
    failed: str = ""
    folds: tuple[dict[str, object], ...] = ()
    spread: dict[str, tuple[float, float]] = field(default_factory=dict)
    overlap: float | None = None
    gap: dict[str, float | None] = field(default_factory=dict)

    def json(self) -> dict[str, object]:
        """The rung as ladder.json holds it."""
        start: dict[str, object] = {"rung": self.name, "ground": self.ground}
        if self.scored is None:
            return start | {"failed": self.failed}
        content = start | evaluation_json(self.scored)
        if self.folds:
            # They are of probabilities, and folds.tif holds 1 and 0.
            del content["expected_calibration_error"], content["reliability"]
            content |= {"folds": self.folds, "spread": self.spread}
        if self.overlap is not None:
            content["overlap"] = self.overlap
        return content | ({"gap": self.gap} if self.gap else {})


def ladder(
    run: Run,
    prepared: Path,
    out: Path,
    *,
    elsewhere: Sequence[Path] = (),
    overwrite: bool = False,
    accept_range: bool = False,
) -> list[Rung]:
    """Train and score the run's network on every rung; the headline comes first.

    Rungs are `paper`; `apart`, or the pooled folds of it where [split] folds is above 1; and one for each prepared site
    in `elsewhere`, mapped by the network trained on the apart training ground (with `accept_range` also where its bands
    or indices lie outside the training range). Writes ladder.json, .csv and .md into `out`. A rung whose training fails
    by itself is reported as failed and does not stop the others; the same command tries it again. Raises what cannot be
    run at all before any training, and OutputError for a finished ladder.
    """
    run = run.model_copy(update={"compare": CompareChoice()})
    paper, tested, undivided = _trials_of(run)
    planned, names = _planned(run, out, elsewhere)
    _refuse_finished(out, overwrite, names)
    sizes = _require_runnable(run, planned, prepared, elsewhere)
    results = make_runs(
        planned, run, prepared, out, overwrite=overwrite, about=plural(len(elsewhere), "other site"), sizes=sizes
    )
    result_of = dict(zip(planned, results, strict=True))
    label, all_of_it = prepared / "label.tif", "the whole site, training windows included"
    rungs = [_one("paper", all_of_it, result_of[paper], folder=paper.folder(out), label=label, part="all")]
    if len(tested) == 1:
        folder = undivided.folder(out)
        rungs.append(_one("apart", "the test part", result_of[undivided], folder=folder, label=label, part="test"))
    else:
        rungs.append(_pooled([result_of[trial] for trial in tested], tested, prepared, out))
    rungs += [_elsewhere(other, result_of[undivided], undivided, out, accept_range) for other in elsewhere]
    rungs = _with_gaps(rungs)
    with atomic_files(out, ["ladder.csv", "ladder.md", LADDER]) as aside:
        write_text(aside / "ladder.csv", _csv(rungs))
        write_text(aside / "ladder.md", ladder_table(rungs) + "\n")
        write_json(aside / LADDER, {"runs": [rung.json() for rung in rungs], "planned": names})
    return rungs


def plan_in_words(run: Run, prepared: Path, out: Path, elsewhere: Sequence[Path] = (), overwrite: bool = False) -> str:
    """What `ladder` would train and how long that takes, without the maps of other sites; leaves no file.

    Raises as `ladder`, but for what lies in `out`: that it would be refused is said in the last line.
    """
    run = run.model_copy(update={"compare": CompareChoice()})
    planned, names = _planned(run, out, elsewhere)
    sizes = _require_runnable(run, planned, prepared, elsewhere)
    return runs_in_words(
        planned,
        run,
        prepared,
        out,
        overwrite=overwrite,
        sizes=sizes,
        refuse=partial(_refuse_finished, out, overwrite, names),
    )


def ladder_table(rungs: Sequence[Rung]) -> str:
    """The ladder as Markdown: scores of each rung with 95 % intervals, then what is lost against the headline."""
    parts = []
    scored = [(rung, rung.scored) for rung in rungs if rung.scored is not None]
    if scored:
        rows = [[rung.name, rung.ground, leakage(one.leaky), *score_cells(one)] for rung, one in scored]
        parts.append(markdown_table(["Rung", "Scored on", "Leaky", *HEADS], rows))
    gaps = [
        [rung.name, rung.ground, *("undefined" if gap is None else f"{100 * gap:+.2f}" for gap in rung.gap.values())]
        for rung in rungs
        if rung.gap
    ]
    if gaps:
        heads = [head.replace("(%)", "(points)") for head in HEADS]
        parts += ["Gap to the headline, the rung `paper`:", markdown_table(["Rung", "Scored on", *heads], gaps)]
    for rung, one in scored:
        if rung.spread:
            each = ", ".join(f"{name} {100 * mean:.2f} ± {100 * sd:.2f}" for name, (mean, sd) in rung.spread.items())
            parts.append(f"Mean ± standard deviation over the {len(rung.folds)} folds, per cent: {each}.")
        parts += [f"Note on {rung.name} ({rung.ground}): {note}." for note in one.notes]
    parts += [f"Failed: {rung.name} ({rung.ground}): {rung.failed}" for rung in rungs if rung.failed]
    return "\n\n".join(parts)


def _planned(run: Run, out: Path, elsewhere: Sequence[Path]) -> tuple[list[Trial], list[str]]:
    """All trainings, and the names of all runs."""
    paper, tested, undivided = _trials_of(run)
    planned = [paper, *tested]
    if elsewhere and undivided not in planned:
        planned.append(undivided)
    return planned, [*(trial.name for trial in planned), *(_seen_from(out, other) for other in elsewhere)]


def _trials_of(run: Run) -> tuple[Trial, list[Trial], Trial]:
    """The paper's trial, those of the apart split or its folds, and the one whose network is carried elsewhere."""
    method, seed = run.network.name, run.training.seed
    undivided = Trial(split="apart", method=method, channels=CHANNELS, seed=seed, network=True, undivided=True)
    folds = range(run.split.folds) if run.split.folds > 1 else ()
    tested = [
        Trial(split="apart", method=method, channels=CHANNELS, seed=seed, network=True, fold=fold) for fold in folds
    ]
    paper = Trial(split="paper", method=method, channels=CHANNELS, seed=seed, network=True)
    return paper, tested or [undivided], undivided


def _seen_from(out: Path, other: Path) -> str:
    """Where another site lies, however it was spelled and wherever all of it was moved."""
    try:
        return Path(os.path.relpath(other.resolve(), out.resolve())).as_posix()
    except ValueError:  # On Windows no relative path leads from one disk to another.
        return other.resolve().as_posix()


def _refuse_finished(out: Path, overwrite: bool, names: Sequence[str]) -> None:
    """Raise OutputError where the files of a ladder of these runs may not be written anew."""
    refuse_finished(out / LADDER, overwrite, names)
    for name in ("ladder.csv", "ladder.md"):
        refuse_existing(out / name, overwrite or (out / LADDER).exists())


def _require_runnable(run: Run, planned: Sequence[Trial], prepared: Path, elsewhere: Sequence[Path]) -> Sizes:
    """Refuse before any work what would fail hours later: splits, sites that lack a channel or a landslide.

    Returns how much ground each run goes over.
    """
    if run.split.kind in ("given", "all"):
        raise RunError(
            f'[split] kind is "{run.split.kind}", and a ladder divides the site by itself. Set [split] kind = "apart", '
            "or train and score by that split alone."
        )
    data: TrainingData | None = None
    sizes: Sizes = {}
    for trial in planned:
        data = build_training_data(trial.run(run), prepared)
        sizes[trial.ground] = size_of(data)
    for other in elsewhere:
        stack, label, valid = read_prepared(other)
        if data is not None:
            find_channels(data.channels, f"the network of {prepared}", stack)
        if not ((label == LANDSLIDE) & valid).any():
            raise LabelError(
                f"{other / 'label.tif'} holds no landslide on valid ground, so that nothing can be scored."
            )
        if other.resolve() == prepared.resolve():
            raise RunError(f"{other} is the site that is trained on, not another. Give --elsewhere another site.")
    return sizes


def _one(rung: str, ground: str, result: TrialResult, *, folder: Path, label: Path, part: str) -> Rung:
    """One training, kept in `folder`, scored on a part of its site; failed where the training is."""
    if result.failed is not None:
        return Rung(name=rung, ground=ground, failed=result.failed)
    scored = evaluate(folder / PROBABILITY, label, folder / "model" / "split.tif", part)
    return Rung(name=rung, ground=ground, scored=scored)


def _pooled(results: Sequence[TrialResult], tested: Sequence[Trial], prepared: Path, out: Path) -> Rung:
    """All folds as one: each pixel's landslide or not by the network whose fold tests it, at that fold's threshold."""
    ground = f"the test parts of {len(tested)} folds, pooled"
    failed = [result.failed for result in results if result.failed is not None]
    if failed:
        return Rung(name="apart", ground=ground, failed=f"{plural(len(failed), 'fold')}: {failed[0]}")
    folders = [trial.folder(out) for trial in tested]
    leaky = worst_leak(result.leaky for result in results)
    _pool_folds(folders, [result.number("threshold") for result in results], leaky, out)
    label = prepared / "label.tif"
    scored = evaluate(out / POOLED, label, out / FOLDS_SPLIT, "test")
    each = [evaluate(folder / PROBABILITY, label, folder / "model" / "split.tif", "test") for folder in folders]
    # Training ground and threshold are those of each fold: folds_split.tif and folds.tif have none.
    distances = pooled([fold.audit for fold in each if fold.audit], [fold.pixels for fold in each])
    notes = scored.notes if leaky else [*scored.notes, *nearness(distances)]
    names = (*SCORES, "threshold", "pixels", "chosen_epoch", "training_windows")
    return Rung(
        name="apart",
        ground=ground,
        scored=replace(scored, audit=distances, threshold=math.nan, notes=notes),
        folds=tuple(
            {"fold": trial.fold, **{name: getattr(result, name) for name in names}}
            for trial, result in zip(tested, results, strict=True)
        ),
        spread={name: mean_and_deviation(results, name) for name in SCORES},
    )


def _pool_folds(folders: Sequence[Path], thresholds: Sequence[float], leaky: bool | None, out: Path) -> None:
    """Write folds.tif (1 landslide, 0 not, NaN untested) and folds_split.tif (all that was tested) into `out`.

    Each run folder holds probability.tif and model/split.tif, whose test part is taken; `leaky` (None: unknown) is what
    folds_split.tif says of them, since the training ground of each fold is not in it.
    """
    info = read_info(folders[0] / PROBABILITY)
    parts = np.zeros(info.grid.shape, np.uint8)
    nan = np.float32(np.nan)
    tags = {"threshold": "0.5", VALUES: MAPPED}
    with create_raster(
        out / POOLED, info.grid, "float32", ["landslide"], nodata=float("nan"), tags=tags, overwrite=True
    ) as target:
        for window in tiles(info.grid.shape, COUNTING_SIDE):
            mapped = np.full((window.height, window.width), nan, np.float32)
            for folder, threshold in zip(folders, thresholds, strict=True):
                with (
                    open_raster(folder / "model" / "split.tif") as split,
                    open_raster(folder / PROBABILITY) as probability,
                ):
                    tested = read_stored_window(split, window) == TEST
                    values = read_window(probability, window, [1])[0]
                here = np.where(np.isnan(values), nan, (values >= threshold).astype(np.float32))
                mapped = np.where(tested, here, mapped)
                parts[window.slices][tested] = TEST
            write_window(target, mapped[None], window)
    of_fold = read_info(folders[0] / "model" / "split.tif").tags
    tags = {
        "split": "apart",
        "leaky": leaky_tag(leaky),
        "guard": of_fold.get("guard", "0"),
        "window": of_fold.get("window", ""),
    }
    write_raster(
        out / FOLDS_SPLIT, parts[None], info.grid, ["part"], nodata=None, tags=tags, overwrite=True, compress=True
    )


def _elsewhere(other: Path, trained: TrialResult, trial: Trial, out: Path, accept_range: bool) -> Rung:
    """The network mapped and scored on another site, unless an earlier call has; failed where that fails."""
    ground = f"all of {_site_name(other)}"
    if trained.failed is not None:
        return Rung(name="elsewhere", ground=ground, failed=trained.failed)
    model, inputs = trial.folder(out) / "model", site_hashes(other)
    folder = out / "elsewhere" / inputs["stack.tif"][:12]
    if not _is_scored(folder, load_model(model).facts["weights_sha256"], inputs):
        say(f"-- elsewhere: {ground}")
        try:
            run_in_process(_transfer, model, other, folder, accept_range)
        except LandslipError as error:
            say(f"failed: {error}")
            return Rung(name="elsewhere", ground=ground, failed=str(error))
    content = read_json(folder / SCORED)
    scored = evaluate(folder / AS_TRAINED, other / "label.tif", folder / SPLIT, "test")
    scored = replace(scored, notes=[*scored.notes, *content.get("warnings", [])])
    return Rung(name="elsewhere", ground=ground, scored=scored, overlap=content["overlap"])


def _is_scored(folder: Path, weights: str, inputs: dict[str, str]) -> bool:
    """Whether an earlier call has left the scores of this model on this site in a folder."""
    try:
        content = read_json(folder / SCORED)
        return (content["model"], content["inputs"]) == (weights, inputs)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _transfer(model: Path, prepared: Path, out: Path, accept_range: bool) -> None:
    """`transfer` as a step in a process of its own; the folder is the ladder's and may be written anew."""
    transfer(model, prepared, out, overwrite=True, accept_range=accept_range)


def _site_name(prepared: Path) -> str:
    """The name of a prepared site, or its path where its manifest does not say."""
    try:
        return str(read_json(prepared / "manifest.json")["site"]["name"])
    except (OSError, ValueError, KeyError, TypeError):
        return str(prepared)


def _with_gaps(rungs: Sequence[Rung]) -> list[Rung]:
    """The rungs, each but the first with its `gap` to it where both were scored."""
    headline = rungs[0].scored
    with_gaps = [rungs[0]]
    for rung in rungs[1:]:
        if rung.scored is not None and headline is not None:
            gaps = {name: rung.scored.scores[name] - headline.scores[name] for name in SCORES}
            rung = replace(rung, gap={name: None if math.isnan(gap) else gap for name, gap in gaps.items()})
        with_gaps.append(rung)
    return with_gaps


def _csv(rungs: Sequence[Rung]) -> str:
    """The rungs as CSV: a row each, with scores, intervals and gaps; a cell is empty where undefined."""
    columns = [*COLUMNS, *(f"{name}{kind}" for name in SCORES for kind in ("", "_low", "_high", "_gap")), "failed"]
    rows = []
    for rung in rungs:
        row = rung.json()
        if rung.scored is not None:
            for name, interval in rung.scored.intervals.items():
                row |= {f"{name}_low": interval.low, f"{name}_high": interval.high, f"{name}_gap": rung.gap.get(name)}
        rows.append(row)
    return csv_table(columns, rows)
