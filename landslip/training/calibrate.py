"""`landslip calibrate`: a model whose probabilities can be taken at their word, and a threshold chosen on them.

The validation part of the model's own split is mapped as `landslip map` maps it; the test part is never looked at. The
weights stay as they are: the new model folder differs in its temperature and its threshold.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from landslip.dataset.blocks import Blocks
from landslip.dataset.channels import StackInfo
from landslip.dataset.label import LANDSLIDE, OTHER, UNKNOWN
from landslip.dataset.split import VALIDATION, Split, independent_regions
from landslip.dataset.training_data import read_prepared, read_split
from landslip.errors import LabelError, ModelError, SplitError
from landslip.geo.raster import open_raster
from landslip.geo.tiling import CELL, cells_holding
from landslip.metrics.calibration import (
    CLASSES,
    Reliability,
    conformal_threshold,
    expected_calibration_error,
    fit_temperature,
    log_loss,
    missed_shares,
    reliability,
    require_regions,
)
from landslip.metrics.confusion import BINS, Histogram
from landslip.models.forward import at_temperature, device, keep_memory, logits, precision
from landslip.runtime.atomic import atomic_write, refuse_existing, refuse_input
from landslip.runtime.disk import file_hash
from landslip.runtime.provenance import software
from landslip.training.checkpoint import Model, load_model, match_channels, save_changed_model, split_of
from landslip.training.domain_check import require_similar_ground
from landslip.training.model_files import FACTS, SPLIT, STATE
from landslip.training.threshold import mapped_cores
from landslip.training.training_pixels import PIXELS, read_training_pixels

Choice = Literal["f1", "kappa", "miss"]

COPIED = (SPLIT, "history.csv", PIXELS)


@dataclass(frozen=True)
class Calibrated:
    """A calibrated model: its folder, what model.json says of it under `calibration`, reliability before and after."""

    folder: Path
    temperature: float
    threshold: float
    facts: dict[str, Any]
    before: list[Reliability]
    after: list[Reliability]


@dataclass(frozen=True)
class _Pixels:
    """The validation pixels with a known label: (n,) logits, whether each is landslide, and its region (0: none)."""

    logits: NDArray[np.float32]
    landslide: NDArray[np.bool_]
    region: NDArray[np.int32]

    def counted(self, probability: NDArray[np.float32], chosen: NDArray[np.bool_]) -> Histogram:
        label = np.where(self.landslide, np.uint8(LANDSLIDE), np.uint8(OTHER))
        return Histogram.from_arrays(probability, label, chosen)


def calibrate(
    folder: Path,
    prepared: Path,
    out: Path,
    by: Choice | None = None,
    most: float = 0.1,
    overwrite: bool = False,
    accept_range: bool = False,
) -> Calibrated:
    """Fit a temperature on the validation part and choose a threshold on the calibrated probabilities.

    `by` is "f1", "kappa" (by default whichever the model was trained by, else "f1") or "miss": the largest threshold
    that misses at most the share `most` of a region's landslide pixels in expectation. Its regions are the pieces of
    the validation part that lie about the split's guard apart, never the squares of a split: neighbouring squares share
    landslides. Writes the model folder `out`: weights byte for byte, split.tif, history.csv and training pixels where
    there are any, and model.json last.

    Raises ModelError where split.tif or the training pixels are missing or another model's, SplitError where the
    validation part holds no landslide (or, by "miss", is leaky, may be, or has no guard), LabelError where it holds too
    few regions for `most` or, but by "miss", no temperature fits, ChannelError where bands or indices of the site lie
    outside the training range (unless `accept_range`), and OutputError where `out` holds a model (unless `overwrite`)
    or is one of the folders that are read.
    """
    refuse_input(out, [folder, prepared])
    for name in (FACTS, STATE):  # a finished model, or one in training; what a killed calibration left is replaced
        refuse_existing(out / name, overwrite)
    model = load_model(folder)
    by = _own_choice(model) if by is None else by
    path = split_of(model)
    if "training_pixels" in model.facts:
        read_training_pixels(model)  # refused before any work where they are missing or altered
    stack, label, valid = read_prepared(prepared)
    positions = match_channels(model, stack)
    split = read_split(path, stack)
    warnings = require_similar_ground(model, stack, stack.valid_path, cells_holding(valid, CELL), CELL, accept_range)
    scored = (split.parts == VALIDATION) & valid & (label != UNKNOWN)
    landslide = scored & (label == LANDSLIDE)
    if not landslide.any() or landslide.sum() == scored.sum():
        missing = "other ground" if landslide.any() else "landslide"
        raise SplitError(
            f"{path}: its validation part holds {int(scored.sum())} known pixels and none of {missing}, so nothing can "
            "be fitted there. Train with another split."
        )
    regions = np.zeros(label.shape, np.int32)
    if by == "miss":
        regions = _regions(path, split, landslide, most)
    blocks_of = (tuple(positions), model.zscore, valid, label)
    pixels = _map(model, stack, blocks_of, scored, regions)

    temperature, notes = model.temperature, [*_notes(model, prepared, split), *warnings.values()]
    try:
        temperature = fit_temperature(pixels.logits, pixels.landslide)
    except LabelError as error:  # a temperature moves thresholds and not what they can miss
        if by != "miss":
            raise
        notes.append(f"the temperature stays {temperature:g}, since none fits: {str(error).rstrip('.')}")
    everywhere = np.ones(len(pixels.logits), bool)
    as_it_was = pixels.counted(at_temperature(pixels.logits, model.temperature), everywhere)
    probability = at_temperature(pixels.logits, temperature)
    counted = pixels.counted(probability, everywhere)
    chosen: dict[str, Any] = {"by": by}
    if by == "miss":
        held = np.unique(pixels.region[pixels.landslide])
        of_regions = [pixels.counted(probability, pixels.region == i).landslide for i in held]
        missed = missed_shares(np.array(of_regions))
        threshold = conformal_threshold(missed, most, str(path))
        mean = float(missed[:, round(threshold * BINS)].mean())
        chosen |= {"miss": most, "regions": len(held), "missed_here": mean, "guard": split.guard}
    else:
        threshold = counted.best_threshold(by)
    if threshold == 0:
        notes.append("a threshold of 0 maps all ground as landslide: nothing above it keeps the promise")
    scores = counted.confusion(round(threshold, 3)).scores()
    before, after = reliability(as_it_was), reliability(counted)
    facts = {
        "pixels": len(pixels.logits),
        "temperature_before": model.temperature,
        "threshold_before": model.threshold,
        "threshold_chosen": chosen,
        "log_loss": [log_loss(pixels.logits, pixels.landslide, t) for t in (model.temperature, temperature)],
        "expected_calibration_error": [expected_calibration_error(table) for table in (before, after)],
        "scores": scores,
        "precision": precision("auto"),
        "notes": notes,
        "software": software(),
    }
    if by == "miss":
        facts["promise"] = promise(chosen)
    for name in COPIED:
        if (folder / name).exists():
            with atomic_write(out / name, overwrite=True) as aside:
                aside.write_bytes((folder / name).read_bytes())
    validation = {"validation_f1": scores["f1"], "validation_kappa": scores["kappa"], "threshold": threshold}
    changes = {
        "temperature": temperature,
        "threshold": threshold,
        "validation": {**model.facts.get("validation", {}), **validation},
        "calibration": facts,
    }
    save_changed_model(model, out, changes, overwrite)
    return Calibrated(out, temperature, threshold, facts, before, after)


def _own_choice(model: Model) -> Choice:
    """What training chose the model's threshold by; "f1" where that was a number or is not known."""
    training = model.facts["run"].get("training")
    own = training.get("threshold") if isinstance(training, dict) else None
    return "kappa" if own == "kappa" else "f1"


def _regions(path: Path, split: Split, landslide: NDArray[np.bool_], most: float) -> NDArray[np.int32]:
    """Region numbers (H, W), after refusing what cannot keep a promise, before any pixel is mapped."""
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


def _map(
    model: Model, stack: StackInfo, blocks_of: tuple[Any, ...], scored: NDArray[np.bool_], regions: NDArray[np.int32]
) -> _Pixels:
    """The network's logits over the scored pixels: 4 bytes each, less than the label where it is a quarter of it."""
    how = precision("auto")  # as `landslip map`
    keep_memory()
    model.network.to(device()).eval()
    count = int(np.count_nonzero(scored))
    found = _Pixels(np.empty(count, np.float32), np.empty(count, bool), np.empty(count, np.int32))
    done = 0
    with open_raster(stack.path) as dataset:
        blocks = Blocks(dataset, *blocks_of)
        for core, x, inside in mapped_cores(blocks, scored, model.multiple):
            here = scored[core.slices]
            at = slice(done, done + int(np.count_nonzero(here)))
            found.logits[at] = logits(model.network, x, how)[0][inside][here]
            found.landslide[at] = blocks.label[core.slices][here] == LANDSLIDE
            found.region[at] = regions[core.slices][here]
            done = at.stop
    if not np.isfinite(found.logits).all():
        raise ModelError(f"{model.folder} gives logits that are not finite on {stack.path}. Train the model again.")
    return found


def _notes(model: Model, prepared: Path, split: Split) -> list[str]:
    notes = ["the same ground chose the epoch, so that new ground is a little harder than these figures"]
    if split.leaky:
        notes.append(f"leaky: windows of the {split.kind} split share pixels between training and the rest")
    if split.leaky is None:
        notes.append(f"leaky or not: unknown: {SPLIT} does not say whether training ground lies beside the rest")
    known = model.facts.get("site_inputs", {})
    other = [name for name, before in known.items() if name != SPLIT and file_hash(prepared / name) != before]
    if other:
        notes.append(f"{', '.join(other)} in {prepared} changed since the model was trained")
    return notes


def promise(chosen: dict[str, Any]) -> str:
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
    rows = [
        f"Fitted on the validation part: {facts['pixels']:,} pixels",
        f"Temperature {done.temperature:.4f} (before: {facts['temperature_before']:g})",
        "",
        f"{'':<28}{'before':>10}{'after':>10}",
        f"{'Log loss (nats)':<28}" + "".join(f"{value:>10.4f}" for value in facts["log_loss"]),
        f"{f'ECE ({CLASSES} classes)':<28}"
        + "".join(f"{100 * value:>8.2f} %" for value in facts["expected_calibration_error"]),
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
