"""`landslip transfer`: a model on a site it was not trained on, as it is and after fine-tuning on a few blocks there.

The blocks are chosen before anything looks at the label (`block_choice.py`), all in one half of the site. Both models
are scored on the same ground: all that lies at least a window away from the chosen blocks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from landslip.config.run import Run, TrainingChoice, settled
from landslip.dataset.channels import StackInfo
from landslip.dataset.label import LANDSLIDE, UNKNOWN
from landslip.dataset.split import NONE, TEST, TRAIN, VALIDATION, Split
from landslip.dataset.training_data import TrainingData, read_prepared, site_hashes
from landslip.errors import GridError, LabelError, ModelError, OutputError, RunError, SplitError
from landslip.evaluation.evaluate import evaluate
from landslip.evaluation.result import HEADS, Evaluation, evaluation_json, leakage, score_cells
from landslip.experiments.block_choice import choose_blocks, require_candidates
from landslip.geo.geotiff import write_raster
from landslip.geo.grid import Window
from landslip.geo.raster import read, read_info
from landslip.geo.warp import covering_window, warp
from landslip.inference.mapping import map_site
from landslip.runtime.atomic import refuse_existing, refuse_input
from landslip.runtime.disk import file_hash
from landslip.runtime.progress import plural
from landslip.runtime.text import markdown_table, write_json, write_text
from landslip.training.checkpoint import Model, load_model, match_channels, run_of, sites_of
from landslip.training.model_files import FACTS
from landslip.training.train import fine_tune, origin_of
from landslip.training.training_pixels import read_training_pixels

SCORED, TABLE, SPLIT = "scores.json", "transfer.md", "split.tif"
AS_TRAINED, FINE_TUNED = "probability.tif", "fine_tuned.tif"
EPOCHS = 20  # of fine-tuning
GENTLER = 0.1  # share of the learning rate that the model was trained with
VALIDATES = 4  # one chosen block in so many chooses epoch and threshold and is not trained on


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """Scores of the model `as_trained` and, where blocks were chosen, of the `fine_tuned` one, on the same ground.

    `blocks` are the chosen windows: those that trained, then those that validated. `overlap` is the share of the
    site's pixels that lie, by their coordinates, on ground that the model was trained on, NaN where that ground is not
    known; `leaky_reason` says why the scores may be leaky, and is empty where they are not. `warnings` say what makes
    the site unlike the ground that the model was trained on.
    """

    as_trained: Evaluation
    fine_tuned: Evaluation | None
    blocks: tuple[Window, ...]
    overlap: float
    leaky_reason: str = ""
    warnings: tuple[str, ...] = ()


def transfer(
    folder: Path,
    prepared: Path,
    out: Path,
    *,
    blocks: int = 0,
    epochs: int = EPOCHS,
    overwrite: bool = False,
    accept_range: bool = False,
) -> Transfer:
    """Map and score the prepared site with the model in `folder`; with `blocks`, fine-tune it there and score both.

    Writes probability.tif (the model as trained), split.tif (what was scored), scores.json and transfer.md into `out`;
    with `blocks` also model/ (the fine-tuned one) and fine_tuned.tif. The same call goes on where an interrupted one
    stopped. Raises ChannelError where the site lacks a channel of the model, has it in another unit or, unless
    `accept_range`, outside the training range (`map_site`), SplitError for a site that the model was trained on and
    where the blocks leave nothing to score, LabelError without landslides, OutputError where `out` holds what another
    command wrote, unless `overwrite`.
    """
    if blocks < 0 or blocks == 1:
        raise RunError(f"{plural(blocks, 'block')} cannot be trained on and choose an epoch: give 2 or more, or none.")
    for name in (SCORED, TABLE):
        refuse_existing(out / name, overwrite)
    _refuse_foreign_split(out, overwrite)
    model = load_model(folder)
    stack, label, valid = _site(model, prepared)
    refuse_input(out / SPLIT, [folder / SPLIT, prepared / SPLIT])
    if blocks:
        _require_tunable(model, stack, valid, blocks)
    overlap = _overlap(model, stack, valid)
    reason = _leaky_reason(model, prepared, overlap)
    run = _gentle_run(model, epochs)
    warnings = _map(model, stack, out / AS_TRAINED, overwrite, accept_range)
    window = run.blocks.window
    data = _lay_out(model, stack, label, valid=valid, probability=out / AS_TRAINED, blocks=blocks, window=window)
    _write_split(out / SPLIT, data, window, reason)
    before = evaluate(out / AS_TRAINED, prepared / "label.tif", out / SPLIT, "test")
    after = None
    if blocks:
        _tune_and_map(model, run, data, out, overwrite)
        after = evaluate(out / FINE_TUNED, prepared / "label.tif", out / SPLIT, "test")
    done = Transfer(
        as_trained=before,
        fine_tuned=after,
        blocks=(*data.windows, *data.validation),
        overlap=overlap,
        leaky_reason=reason,
        warnings=warnings,
    )
    identity = {"model": str(model.facts["weights_sha256"]), "inputs": site_hashes(prepared)}
    write_text(out / TABLE, transfer_table(done) + "\n", overwrite=True)
    write_json(out / SCORED, _transfer_json(done) | identity, overwrite)
    return done


def transfer_table(done: Transfer) -> str:
    """A row of six scores in per cent, with 95 % intervals, for each model, and the ground that they were taken on."""
    rows = []
    for name, scored in (("as trained", done.as_trained), ("fine-tuned", done.fine_tuned)):
        if scored is not None:
            rows.append([name, leakage(scored.leaky), f"{scored.threshold:g}", *score_cells(scored)])
    first = done.as_trained
    site = "a site that the model was not trained on"
    if done.leaky_reason:
        site = "a site that the model may have been trained on"
    if done.overlap > 0:
        site = "ground partly trained on by its coordinates"
    ground = f"Scored on {first.pixels:,} pixels of {site} (split elsewhere)"
    if done.blocks:
        side = done.blocks[0].height
        ground += (
            f", at least {side} pixels from {len(done.blocks)} blocks of {side} x {side} pixels that were chosen for "
            "fine-tuning, all in the half of the site where the model is less sure: half of them the windows of most "
            "doubt, the others those least like the ones chosen before"
        )
    lines = [markdown_table(["Model", "Leaky", "Threshold", *HEADS], rows), "", f"{ground}."]
    notes = {note for scored in (done.as_trained, done.fine_tuned) if scored is not None for note in scored.notes}
    lines += [f"Note: {note}." for note in sorted(notes)]
    lines += [f"Warning: {warning}." for warning in done.warnings]
    return "\n".join(lines)


def _refuse_foreign_split(out: Path, overwrite: bool) -> None:
    """Raise OutputError where split.tif in `out` belongs to a model, or is not one that this command wrote."""
    path = out / SPLIT
    foreign = path.exists() and read_info(path).tags.get("split") != "elsewhere"
    if not overwrite and (foreign or (out / FACTS).exists()):
        what = f"{path} is not of a transfer" if foreign else f"{out} is a model's folder"
        raise OutputError(f"{what}, and its {SPLIT} would be lost. Give another folder, or --overwrite.")


def _site(model: Model, prepared: Path) -> tuple[StackInfo, NDArray[np.uint8], NDArray[np.bool_]]:
    """A prepared site's stack, label and valid pixels.

    Raises SplitError where the model was trained there and LabelError where no landslide can be scored.
    """
    stack, label, valid = read_prepared(prepared)
    match_channels(model, stack)
    hashes = [site.get("stack.tif") for site in sites_of(model)]
    sha256 = file_hash(prepared / "stack.tif")
    if sha256 in hashes:
        began = "" if sha256 == hashes[0] else " before it was fine-tuned on another site"
        raise SplitError(
            f"{prepared / 'stack.tif'} is the very stack that the model {model.folder} was trained on{began}. Give "
            "another site; the test part of this one is scored by `landslip evaluate` with the split that the model "
            "was trained by."
        )
    if not ((label == LANDSLIDE) & valid).any():
        raise LabelError(f"{prepared / 'label.tif'} holds no landslide on valid ground, so that nothing can be scored.")
    return stack, label, valid


def _require_tunable(model: Model, stack: StackInfo, valid: NDArray[np.bool_], blocks: int) -> None:
    """Refuse before the site is mapped what fine-tuning would fail at: too many blocks, lost training pixels."""
    if "training_pixels" in model.facts:
        read_training_pixels(model)
    require_candidates(stack, valid, blocks, run_of(model).blocks.window)


def _overlap(model: Model, stack: StackInfo, valid: NDArray[np.bool_]) -> float:
    """The share of valid pixels on ground that the model was trained on, by coordinates; NaN where not known."""
    path = model.folder / SPLIT
    if not path.exists():
        return math.nan
    info = read_info(path)
    if info.rotated or info.crs is None:
        return math.nan
    try:
        meeting = covering_window(info, stack.grid, 0)
    except GridError:  # Their coordinate systems cannot be compared.
        return math.nan
    if not meeting.height or not meeting.width:
        return 0.0
    parts = warp(path, stack.grid, [1], "nearest")[0]
    return float(np.isin(parts[valid], (TRAIN, VALIDATION)).mean())


def _leaky_reason(model: Model, prepared: Path, overlap: float) -> str:
    """Why the scores may be leaky; empty where nothing says so."""
    if overlap > 0:
        return (
            f"by its coordinates {100 * overlap:.1f} % of the site lies on ground that the model was trained on: the "
            "scores are leaky unless these are two places, as made-up sites are"
        )
    if math.isnan(overlap):
        return f"the model's folder has no {SPLIT} that tells on this site's coordinates what ground it was trained on"
    label = file_hash(prepared / "label.tif")
    if any(site.get("label.tif") == label for site in sites_of(model)):
        return "the model was trained with the very label of this site"
    if "fine_tuned_from" in model.facts and "earlier_site_inputs" not in model.facts:
        return "the model was fine-tuned, and model.json does not say on what sites it was trained before"
    return ""


def _gentle_run(model: Model, epochs: int) -> Run:
    """The model's own run with a lower learning rate and its own number of epochs."""
    run = settled(run_of(model))
    values = run.training.model_dump() | {"epochs": epochs, "learning_rate": GENTLER * run.training.rate}
    return run.model_copy(update={"training": TrainingChoice.model_validate(values)})


def _map(model: Model, stack: StackInfo, path: Path, overwrite: bool, accept_range: bool) -> tuple[str, ...]:
    """Map the site; an earlier map by this very model is made anew, any other is not replaced unasked.

    Returns the map's warnings.
    """
    ours = path.exists() and read_info(path).tags.get("model_sha256") == str(model.facts["weights_sha256"])
    return map_site(model, stack.path, path, overwrite=overwrite or ours, accept_range=accept_range).warnings


def _lay_out(
    model: Model,
    stack: StackInfo,
    label: NDArray[np.uint8],
    *,
    valid: NDArray[np.bool_],
    probability: Path,
    blocks: int,
    window: int,
) -> TrainingData:
    """The site with the blocks that train and validate, none without `blocks`, and with what is left to be scored."""
    trains, validates = list[Window](), list[Window]()
    if blocks:
        chosen = choose_blocks(model, stack, valid, probability=read(probability)[0], count=blocks, window=window)
        trains, validates = _divide(chosen, label, valid, stack)
    split = _split(trains, validates, window, label.shape)
    _require_scored(split, label, valid, stack, blocks)
    return TrainingData(
        stack=stack,
        positions=tuple(match_channels(model, stack)),
        channels=model.channels,
        label=label,
        valid=valid,
        split=split,
        windows=trains,
        validation=validates,
    )


def _divide(
    chosen: Sequence[Window], label: NDArray[np.uint8], valid: NDArray[np.bool_], stack: StackInfo
) -> tuple[list[Window], list[Window]]:
    """The chosen blocks that train and those that validate: every fourth by landslide area, from the second on.

    Raises LabelError where fewer than two of them hold a landslide.
    """

    def landslides(window: Window) -> int:
        return int(((label[window.slices] == LANDSLIDE) & valid[window.slices]).sum())

    order = sorted(chosen, key=landslides, reverse=True)
    validates = order[1::VALIDATES]
    holding = sum(landslides(window) > 0 for window in order)
    if holding < 2:
        raise LabelError(
            f"{stack.path.with_name('label.tif')}: of the {len(order)} blocks chosen {holding} hold a landslide, and "
            "training and validation need one each. Use more --blocks."
        )
    return [window for window in order if window not in validates], validates


def _split(trains: Sequence[Window], validates: Sequence[Window], guard: int, shape: tuple[int, int]) -> Split:
    """Test ground is all that lies at least `guard` pixels from the blocks."""
    parts = np.full(shape, TEST, np.uint8)
    if trains:
        blocks = np.zeros(shape, bool)
        for window in (*trains, *validates):
            blocks[window.slices] = True
        parts[ndimage.distance_transform_edt(~blocks) < guard] = NONE
        for part, windows in ((TRAIN, trains), (VALIDATION, validates)):
            for window in windows:
                parts[window.slices] = part
    return Split(kind="elsewhere", leaky=False, guard=guard if trains else 0, parts=parts)


def _require_scored(
    split: Split, label: NDArray[np.uint8], valid: NDArray[np.bool_], stack: StackInfo, blocks: int
) -> None:
    """Raise SplitError where the blocks leave no landslide to score."""
    scored = (split.parts == TEST) & valid & (label != UNKNOWN)
    if not (scored & (label == LANDSLIDE)).any():
        raise SplitError(
            f"{stack.path.with_name('label.tif')}: {blocks} blocks and a window around them leave "
            f"{int(scored.sum()):,} pixels to score, none of landslide. Use fewer --blocks."
        )


def _write_split(path: Path, data: TrainingData, window: int, reason: str) -> None:
    """Write split.tif, which says what was scored and, with a reason, that the scores may be leaky."""
    tags = data.split.tags() | {"window": str(window)}
    if reason:
        tags |= {"leaky": "unknown", "leaky_reason": reason}
    parts = data.split.parts[None]
    write_raster(path, parts, data.stack.grid, ["part"], nodata=None, tags=tags, overwrite=True, compress=True)


def _tune_and_map(model: Model, run: Run, data: TrainingData, out: Path, overwrite: bool) -> None:
    """Fine-tune the model on the chosen blocks, unless an earlier call has, and map the site with it."""
    if not _tuned_so(out / "model", model, run, data):
        fine_tune(model, run, data, out / "model", overwrite)
    # The model as trained has been held against the site's range already.
    _map(load_model(out / "model"), data.stack, out / FINE_TUNED, overwrite, accept_range=True)


def _tuned_so(folder: Path, model: Model, run: Run, data: TrainingData) -> bool:
    """Whether a finished model there is this one, tuned so on these blocks: then only what follows was lost."""
    if not (folder / FACTS).exists():
        return False
    try:
        facts = load_model(folder).facts
    except ModelError:  # A kill came between its two files.
        return False
    expected = origin_of(model, data) | {"run": run.model_dump(mode="json", exclude={"compare"})}
    same_site = facts["site_inputs"] == site_hashes(data.stack.path.parent)
    return same_site and all(facts.get(key) == value for key, value in expected.items())


def _transfer_json(done: Transfer) -> dict[str, object]:
    """What scores.json holds: one evaluation for each model, the chosen blocks and the overlap by coordinates."""
    scores: dict[str, object] = {"as_trained": evaluation_json(done.as_trained)}
    if done.fine_tuned is not None:
        scores["fine_tuned"] = evaluation_json(done.fine_tuned)
    blocks = [asdict(window) for window in done.blocks]
    return scores | {"blocks": blocks, "overlap": done.overlap, "warnings": list(done.warnings)}
