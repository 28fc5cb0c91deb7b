"""`landslip calibrate`: a model whose probabilities can be taken at their word, and a threshold chosen on them.

The validation part of the model's own split is mapped as `landslip map` maps it; the test part is never looked at. A
model on all ground has no such part: there each pixel is taken from the map of the fold that never saw it. The weights
stay as they are: the new model folder differs in its scaling (Platt's temperature and bias) and its threshold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from landslip.dataset.channels import StackInfo
from landslip.dataset.label import LANDSLIDE, UNKNOWN
from landslip.dataset.spatial_split import independent_regions
from landslip.dataset.split import TEST, VALIDATION, Split
from landslip.dataset.training_data import read_prepared, read_split, site_hashes
from landslip.errors import LabelError, RunError, SplitError
from landslip.geo.tiling import CORE_CELL, cells_holding
from landslip.metrics.calibration import (
    RELIABILITY_CLASSES,
    Reliability,
    conformal_threshold,
    expected_calibration_error,
    fit_platt,
    log_loss,
    missed_shares,
    reliability,
    require_regions,
)
from landslip.metrics.confusion import BINS
from landslip.models import ENSEMBLE
from landslip.models.forward import precision, scaled
from landslip.models.scaling import Scaling
from landslip.runtime.atomic import atomic_write, refuse_existing, refuse_input
from landslip.runtime.disk import file_hash
from landslip.runtime.progress import plural
from landslip.runtime.provenance import software
from landslip.runtime.run_folder import FOLDS_SPLIT
from landslip.runtime.text import screen_table
from landslip.training.checkpoint import Model, load_model, match_channels, save_changed_model, split_of
from landslip.training.domain_check import require_similar_ground
from landslip.training.folds import Folds, ladders_of, read_folds, require_site
from landslip.training.model_facts import CalibrationTable, Choice, Chosen, ModelFacts
from landslip.training.model_files import FACTS, SPLIT, STATE
from landslip.training.scored_pixels import ScoredPixels, map_pixels, pixels_of_folds
from landslip.training.training_pixels import PIXELS_FILE, read_training_pixels

COPIED = (SPLIT, "history.csv", PIXELS_FILE)


@dataclass(frozen=True, kw_only=True)
class Calibrated:
    """A calibrated model: its folder, what model.json says of it under `calibration`, reliability before and after."""

    folder: Path
    scaling: Scaling
    threshold: float
    facts: CalibrationTable
    before: list[Reliability]
    after: list[Reliability]


def calibrate(
    folder: Path,
    prepared: Path,
    out: Path,
    by: Choice | None = None,
    most: float = 0.1,
    *,
    folds: Sequence[Path] = (),
    overwrite: bool = False,
    accept_range: bool = False,
) -> Calibrated:
    """Fit a temperature and a bias on the validation part and choose a threshold on the calibrated probabilities.

    `by` is "f1", "kappa" (by default whichever the model was trained by, else "f1") or "miss": the largest threshold
    that misses at most the share `most` of a region's landslide pixels in expectation. Its regions are the pieces of
    the validation part that lie about the split's guard apart, never the squares of a split: neighbouring squares share
    landslides. `folds` are the ladders that a model on all ground, or each member of an ensemble of such, was trained
    after: their maps are what is fitted on, averaged as the members are. Writes the model folder `out`: weights byte
    for byte, split.tif, history.csv and training pixels where there are any, and model.json last.

    Raises ModelError where split.tif or the training pixels are missing or another model's, SplitError where the
    validation part holds no landslide (or, by "miss", is leaky, may be, or has no guard), LabelError where it holds too
    few regions for `most` or, but by "miss", no scaling fits, RunError where `folds` are not those of the model or
    "miss" is to be promised from them, ChannelError where bands or indices of the site lie outside the training range
    (unless `accept_range`), and OutputError where `out` holds a model (unless `overwrite`) or is one of the folders
    that are read.
    """
    refuse_input(out, [folder, prepared])
    # Either file is of a finished model or of one in training; what a killed calibration left has neither, and goes.
    for name in (FACTS, STATE):
        refuse_existing(out / name, overwrite)
    model = load_model(folder)
    by = _own_choice(model) if by is None else by
    ladders = _ladders(model, folds, by)
    path = split_of(model)
    if "training_pixels" in model.facts:
        read_training_pixels(model)  # refused before any work where they are missing or altered
    stack, label, valid = read_prepared(prepared)
    match_channels(model, stack)  # another site is told by its channels before its split is read
    part, where = VALIDATION, "the validation part"
    if ladders:
        require_site(ladders, site_hashes(prepared))
        path, part, where = folds[0] / FOLDS_SPLIT, TEST, "the test parts of the folds"
    split = read_split(path, stack)
    warnings = _warnings(model, stack, valid, accept_range)
    scored = _scored_ground(path, split, label, valid=valid, part=part)
    if ladders:
        pixels = pixels_of_folds(ladders, label, scored)
    else:
        regions = _regions(path, split, scored & (label == LANDSLIDE), most) if by == "miss" else None
        pixels = map_pixels(model, stack, label, valid=valid, scored=scored, regions=regions)
    fit = _fit(model, pixels, by, most=most, split=split, path=path)
    notes = [*_notes(model, prepared, split, ladders), *warnings.values(), *fit.notes]
    facts = _facts(model, pixels, fit, notes, part=where)
    _save(model, out, fit, facts, overwrite)
    return Calibrated(
        folder=out, scaling=fit.scaling, threshold=fit.threshold, facts=facts, before=fit.before, after=fit.after
    )


def _warnings(model: Model, stack: StackInfo, valid: NDArray[np.bool_], accept_range: bool) -> dict[str, str]:
    """What makes the ground unlike that of the training, by tag; ChannelError as `calibrate` says."""
    needed = cells_holding(valid, CORE_CELL)
    return require_similar_ground(
        model, stack, stack.valid_path, needed=needed, cell=CORE_CELL, accept_range=accept_range
    )


def _ladders(model: Model, folds: Sequence[Path], by: Choice) -> dict[Folds, int]:
    """The ladders in these folders, and how many members of the model were trained after each; RunError as said."""
    if folds and by == "miss":
        raise RunError(
            "--threshold miss promises a missed share from pieces of a validation part, which lie a guard apart, and "
            "the folds cover all ground without one. Choose by f1 or kappa."
        )
    return ladders_of(model, [read_folds(folder) for folder in folds]) if folds else {}


def promise(chosen: Chosen) -> str:
    """What a threshold chosen by "miss" promises, and under which assumption, in words."""
    return (
        f"at most {100 * chosen['miss']:g} % of a region's landslide pixels are missed in expectation over regions "
        f"exchangeable with these {chosen['regions']} (pieces of the validation part, about {chosen['guard']} pixels "
        f"apart or more, that hold landslides; {100 * chosen['missed_here']:.2f} % missed in them). The epoch was "
        "chosen on them too, so that the promise is approximate. Single regions may miss more, and ground unlike them, "
        "such as another site, is not covered"
    )


def calibration_table(done: Calibrated) -> str:
    """What was fitted and chosen, as text."""
    facts = done.facts
    by = facts["threshold_chosen"]["by"]
    figures = [
        ["Log loss (nats)", *(f"{value:.4f}" for value in facts["log_loss"])],
        [
            f"ECE ({RELIABILITY_CLASSES} classes)",
            *(f"{100 * value:.2f} %" for value in facts["expected_calibration_error"]),
        ],
    ]
    rows = [
        f"Fitted on {facts['part']}: {facts['pixels']:,} pixels",
        f"Temperature {done.scaling.temperature:.4f} (before: {facts['temperature_before']:g}), bias "
        f"{done.scaling.bias:+.4f} (before: {facts['bias_before']:g})",
        "",
        screen_table(["", "before", "after"], figures),
        "",
        f"Threshold {done.threshold:g} by {by} (before: {facts['threshold_before']:g}); there "
        + ", ".join(f"{name} {100 * facts['scores'][name]:.2f} %" for name in ("precision", "recall", "f1", "kappa")),
    ]
    rows.append(
        "The figures after are taken on the pixels they were fitted on; for those of new ground, map with this model "
        "and score the test part: landslip evaluate --split SPLIT.tif --part test --reliability OUT.png."
    )
    rows += [f"Promise: {facts['promise']}."] if "promise" in facts else []
    rows += [f"Note: {note}." for note in facts["notes"]]
    return "\n".join(rows)


@dataclass(frozen=True, kw_only=True)
class _Fit:
    """What the pixels say: scaling and threshold, by what it was chosen, and the scores at it.

    `before` and `after` are the reliability by the model's own scaling and by the fitted one.
    """

    scaling: Scaling
    threshold: float
    chosen: Chosen
    scores: dict[str, float]
    before: list[Reliability]
    after: list[Reliability]
    notes: list[str]


def _fit(model: Model, pixels: ScoredPixels, by: Choice, *, most: float, split: Split, path: Path) -> _Fit:
    """Fit the scaling and choose the threshold at it; LabelError as `calibrate` says."""
    scaling, notes = model.scaling, []
    try:
        scaling = Scaling(*fit_platt(pixels.logits, pixels.landslide))
    except LabelError as error:
        if by != "miss":
            raise
        # A scaling moves thresholds and not what they can miss, so that the promise holds without one.
        notes.append(f"the temperature stays {scaling.temperature:g}, since none fits: {str(error).rstrip('.')}")
    probability = scaled(pixels.logits, scaling)
    counts = pixels.counted(probability)
    chosen: Chosen = {"by": by}
    if by == "miss":
        numbers = np.unique(pixels.region[pixels.landslide])
        landslides = [pixels.counted(probability, pixels.region == number).landslide for number in numbers]
        missed = missed_shares(np.array(landslides))
        threshold = conformal_threshold(missed, most, str(path))
        mean = float(missed[:, round(threshold * BINS)].mean())
        chosen |= {"miss": most, "regions": len(numbers), "missed_here": mean, "guard": split.guard}
    else:
        threshold = counts.best_threshold(by)
    if threshold == 0:
        notes.append("a threshold of 0 maps all ground as landslide: nothing above it keeps the promise")
    return _Fit(
        scaling=scaling,
        threshold=threshold,
        chosen=chosen,
        scores=counts.confusion(round(threshold, 3)).scores(),
        before=reliability(pixels.counted(scaled(pixels.logits, model.scaling))),
        after=reliability(counts),
        notes=notes,
    )


def _own_choice(model: Model) -> Choice:
    """What training chose the model's threshold by; "f1" where that was a number or is not known."""
    training = model.facts["run"].get("training")
    chosen_by = training.get("threshold") if isinstance(training, dict) else None
    return "kappa" if chosen_by == "kappa" else "f1"


def _scored_ground(
    path: Path, split: Split, label: NDArray[np.uint8], *, valid: NDArray[np.bool_], part: int
) -> NDArray[np.bool_]:
    """(H, W) valid pixels of known label in a part; SplitError where they are of one class alone."""
    scored: NDArray[np.bool_] = (split.parts == part) & valid & (label != UNKNOWN)
    landslides = int(np.count_nonzero(scored & (label == LANDSLIDE)))
    pixels = int(np.count_nonzero(scored))
    if landslides in (0, pixels):
        missing = "other ground" if landslides else "landslide"
        raise SplitError(
            f"{path}: its {'test' if part == TEST else 'validation'} part holds {pixels} known pixels and none of "
            f"{missing}, so nothing can be fitted there. {_remedy(split)}"
        )
    return scored


def _remedy(split: Split) -> str:
    """What to do about a split that holds nothing to fit on."""
    if split.kind in ("all", ENSEMBLE):
        return "Give the ladders that the model was trained after: --folds LADDER/."
    return "Train with another split."


def _regions(path: Path, split: Split, landslide: NDArray[np.bool_], most: float) -> NDArray[np.int32]:
    """(H, W) numbers of the regions of the validation part.

    Raises SplitError or LabelError, before any pixel is mapped, where the split cannot keep a promise.
    """
    if split.leaky:
        raise SplitError(
            f"{path}: its split {split.kind} is leaky, so that validation ground is easier than new ground and no "
            'missed share can be promised from it. Train with [split] kind = "apart", or choose by f1 or kappa.'
        )
    if split.leaky is None or split.guard < 1:
        why = "does not say whether it is leaky" if split.leaky is None else "keeps its parts no guard apart"
        raise SplitError(
            f"{path}: its split {split.kind} {why}, so that validation ground may be easier than new ground and no "
            'missed share can be promised from it. Train with [split] kind = "apart" and a guard, or choose by f1 or '
            "kappa."
        )
    regions = independent_regions(split.parts == VALIDATION, split.guard)
    require_regions(len(np.unique(regions[landslide])), most, f"{path}: its validation part")
    return regions


def _facts(model: Model, pixels: ScoredPixels, fit: _Fit, notes: list[str], *, part: str) -> CalibrationTable:
    """What model.json says of a calibration."""
    facts: CalibrationTable = {
        "pixels": len(pixels.logits),
        "part": part,
        "temperature_before": model.scaling.temperature,
        "bias_before": model.scaling.bias,
        "threshold_before": model.threshold,
        "threshold_chosen": fit.chosen,
        "log_loss": [log_loss(pixels.logits, pixels.landslide, *one) for one in (model.scaling, fit.scaling)],
        "expected_calibration_error": [expected_calibration_error(table) for table in (fit.before, fit.after)],
        "scores": fit.scores,
        "precision": precision("auto"),
        "notes": notes,
        "software": software(),
    }
    if fit.chosen["by"] == "miss":
        facts["promise"] = promise(fit.chosen)
    return facts


def _save(model: Model, out: Path, fit: _Fit, facts: CalibrationTable, overwrite: bool) -> None:
    """Write the model's files into `out`, with the new scaling and threshold; model.json last."""
    for name in COPIED:
        if (model.folder / name).exists():
            with atomic_write(out / name, overwrite=True) as aside:
                aside.write_bytes((model.folder / name).read_bytes())
    validation = {
        "validation_f1": fit.scores["f1"],
        "validation_kappa": fit.scores["kappa"],
        "threshold": fit.threshold,
    }
    changed: ModelFacts = {
        **model.facts,
        "temperature": fit.scaling.temperature,
        "bias": fit.scaling.bias,
        "threshold": fit.threshold,
        "calibration": facts,
    }
    if "validation" in model.facts and model.facts["split"]["kind"] != "all":
        changed["validation"] = {**model.facts["validation"], **validation}
    save_changed_model(model, out, changed, overwrite)


def _notes(model: Model, prepared: Path, split: Split, ladders: Mapping[Folds, int]) -> list[str]:
    """What a reader of the calibration must know of the ground that it was fitted on."""
    if ladders:
        count, one_or_more = sum(ladders.values()), "network" if len(ladders) == 1 else "networks"
        return [
            f"fitted on the maps of {len(ladders)} {one_or_more} a pixel that never saw it, where the model averages "
            f"{plural(count, 'network')} that saw all ground: it is a little surer than these were"
        ]
    notes = ["the same ground chose the epoch, so that new ground is a little harder than these figures"]
    if split.leaky:
        notes.append(f"leaky: windows of the {split.kind} split share pixels between training and the rest")
    if split.leaky is None:
        notes.append(f"leaky or not: unknown: {SPLIT} does not say whether training ground lies beside the rest")
    trained_on = model.facts.get("site_inputs", {})
    other = [name for name, before in trained_on.items() if name != SPLIT and file_hash(prepared / name) != before]
    if other:
        notes.append(f"{', '.join(other)} in {prepared} changed since the model was trained")
    return notes
