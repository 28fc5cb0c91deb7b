"""`landslip train`: a prepared site becomes a model folder.

The loop itself is in loop.py. Here a training is laid out, gone on with, chosen and written. The model is chosen on
validation ground and never sees the test part. After every epoch the whole state is kept in MODEL/state.safetensors,
so that the same command goes on after an interruption and, on one processor type and thread count, ends with the
weights of an undisturbed run.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import cast

import torch
from rasterio.io import DatasetReader

from landslip.config.run import Run, TrainingChoice, settled
from landslip.dataset.blocks import Blocks
from landslip.dataset.label import LANDSLIDE, UNKNOWN
from landslip.dataset.training_data import (
    TrainingData,
    build_training_data,
    carried_note,
    input_hashes,
    site_hashes,
    write_split,
)
from landslip.dataset.zscore import ZScore, fit
from landslip.errors import ModelError, TrainingError
from landslip.geo.grid import metric_size
from landslip.geo.raster import open_raster
from landslip.models import build_model
from landslip.models.forward import Precision, device, keep_memory, precision
from landslip.models.initialization import he_, positive_unit_ball_, prior_bias_
from landslip.runtime.atomic import atomic_files, refuse_existing
from landslip.runtime.disk import remove_file
from landslip.runtime.locks import exclusive_lock
from landslip.runtime.progress import duration, pace, plural, say
from landslip.runtime.provenance import machine, peak_memory, software
from landslip.runtime.text import write_text
from landslip.training.checkpoint import Model, load_model, run_table, save_model, sites_of
from landslip.training.folds import read_folds, run_on_all_ground
from landslip.training.loop import State, new_state, train_network
from landslip.training.model_facts import FoldsTable, SplitTable, TrainingFacts
from landslip.training.model_files import FACTS, STATE, WEIGHTS
from landslip.training.site_blocks import SiteBlocks
from landslip.training.state import keep, kept_state, restore
from landslip.training.threshold import choose_threshold
from landslip.training.training_pixels import (
    PIXELS_FILE,
    TrainingPixels,
    draw_training_pixels,
    joined,
    read_training_pixels,
    training_ground,
    write_training_pixels,
)

STOPPED = "stopped"  # folder in a model's, with the best weights of a training whose loss was no longer finite

Drawing = Callable[[Path, Path], None]  # from history.csv to history.png


def train(
    run: Run,
    prepared: Path | str,
    folder: Path | str,
    overwrite: bool = False,
    *,
    half: bool = False,
    draw: Drawing | None = None,
    folds: Path | None = None,
) -> TrainingFacts:
    """Train a network on a prepared site and write its model folder; returns the facts in model.json.

    `folds` is the folder of a ladder: then all ground is trained on, for the epochs and at the threshold that its folds
    chose, and their scores are the model's.

    Writes split.tif first and history.csv after each epoch (not beside an earlier model, which stays), and at the end
    all files of the model together: these, history.png where `draw` is given, training_pixels.safetensors,
    model.safetensors (weights in half precision if `half`), and last model.json, with which the model is whole.
    Raises OutputError where a finished model is there already, ResumeError where an unfinished one belongs to other
    inputs.
    """
    prepared, folder = Path(prepared), Path(folder)
    after: FoldsTable | None = None
    if folds is not None:
        read = read_folds(folds)
        run, after = run_on_all_ground(run, read, site_hashes(prepared)), read.table()
    lay_out, hash_inputs = partial(build_training_data, run, prepared), partial(input_hashes, run, prepared)
    with exclusive_lock(folder, inside=True):
        if note := carried_note(run, prepared):
            say(note)
        return _train(
            settled(run), lay_out, hash_inputs, folder, overwrite=overwrite, half=half, draw=draw, after=after
        )


def fine_tune(model: Model, run: Run, data: TrainingData, folder: Path, overwrite: bool = False) -> TrainingFacts:
    """Go on training a model's weights on the ground of another site and write a model folder of its own.

    `run` has the model's network; the model's z-score and the statistics of its batch normalisation are kept, since
    its weights were found with them and a few blocks have others than a site. Channels are the model's, found in the
    stack of `data`. Returns and raises as `train`.
    """
    site, origin = data.stack.path.parent, origin_of(model, data)
    with exclusive_lock(folder, inside=True):
        return _train(
            settled(run), lambda: data, lambda: site_hashes(site), folder,
            overwrite=overwrite, begin=model, origin=origin,
        )  # fmt: skip


def origin_of(model: Model, data: TrainingData) -> dict[str, str]:
    """What a fine-tuned model's facts say of the model it began as and of the parts it was tuned and chosen on."""
    parts = hashlib.sha256(data.split.parts.data).hexdigest()
    return {"fine_tuned_from": str(model.facts["weights_sha256"]), "parts_sha256": parts}


def identity_of(run: Run, hashes: dict[str, str]) -> str:
    """What a kept state must agree with to be gone on from: the run's choices and the hashes of its inputs."""
    choices = run.model_dump(mode="json", exclude={"compare"})
    # "auto" is another precision on another processor, and gives other numbers.
    choices["training"]["precision"] = precision(run.training.precision)
    return json.dumps({"run": choices, "inputs": hashes}, sort_keys=True)


def is_trained(folder: Path, run: Run, hashes: dict[str, str]) -> bool:
    """Whether the model folder holds this run's finished model, of inputs with these hashes (`input_hashes`)."""
    try:
        facts = load_model(folder).facts
    except ModelError:  # there is none, or a kill came between its two files
        return False
    return facts["run"] == run_table(run) and facts["site_inputs"] == hashes


def start(run: Run, data: TrainingData, begin: Model | None) -> State:
    """The state of a training before its first epoch: new weights, or those of the model to `begin` with."""
    network = build_model(run.network.name, len(data.channels), **run.network.options)
    if begin is not None:
        network.load_state_dict(begin.network.state_dict())
    else:
        generator = torch.Generator().manual_seed(run.training.seed)
        (positive_unit_ball_ if run.training.initial == "positive-unit-ball" else he_)(network, generator)
        if run.training.prior_bias:
            prior_bias_(network, _landslide_share(data))
    return new_state(network, run.training, fine=begin is not None)


def _train(
    run: Run,
    lay_out: Callable[[], TrainingData],
    hash_inputs: Callable[[], dict[str, str]],
    folder: Path,
    *,
    overwrite: bool,
    half: bool = False,
    begin: Model | None = None,
    origin: dict[str, str] | None = None,
    draw: Drawing | None = None,
    after: FoldsTable | None = None,
) -> TrainingFacts:
    """Train from new weights, or from those of the model to `begin` with, and write the model folder.

    `lay_out` and `hash_inputs` give the data and the hashes of their files, and are called when they are needed.
    `origin` is what model.json says of the model to begin with, `after` of the folds that chose for it. Returns and
    raises as `train`.
    """
    if not overwrite and (folder / STATE).exists() and is_trained(folder, run, hash_inputs()):
        remove_file(folder / STATE, folder / STATE)  # an earlier call was killed when the model was whole already
        return load_model(folder).facts
    _refuse_others(folder, overwrite)
    earlier_pixels = read_training_pixels(begin) if begin is not None and "training_pixels" in begin.facts else None
    began, arithmetic = time.monotonic(), precision(run.training.precision)
    inputs, origin = hash_inputs(), origin or {}
    identity = identity_of(run, inputs | origin)
    earlier_state = kept_state(folder, identity, overwrite)
    data = lay_out()
    keep_memory()
    say(_headline(run, data, arithmetic))
    if earlier_state is None:
        remove_file(folder / STATE, folder / STATE)
    # An earlier model stays whole, with the split and the history that belong to it, until the new one is finished.
    replacing = (folder / FACTS).exists()
    if not replacing:
        write_split(data, folder)
    with open_raster(data.stack.path) as dataset:
        zscore = _zscore(dataset, data, begin)
        blocks = SiteBlocks(data, Blocks(dataset, data.positions, zscore, data.valid, data.label), run)
        state = start(run, data, begin)
        if earlier_state is not None:
            restore(state, folder / STATE, earlier_state)
            say(f"going on after epoch {state.epoch} of {run.training.last}")
        shutil.rmtree(folder / STOPPED, ignore_errors=True)
        stopped = _run_epochs(state, blocks, arithmetic, identity, folder, replacing=replacing)
        scores = choose_threshold(run.training, data, blocks.cut, state, arithmetic)
        pixels = _training_pixels(dataset, data, zscore, run, earlier_pixels)
    facts = cast(TrainingFacts, {**_facts(run, data, state, scores, arithmetic), "site_inputs": inputs, **origin})
    if begin is not None:
        facts["earlier_site_inputs"] = sites_of(begin)
    if after is not None:
        facts["folds"] = after
    if stopped is not None:
        folder, facts["stopped"] = folder / STOPPED, str(stopped)
    _write_model(folder, data, zscore, pixels, state, facts=facts, half=half, draw=draw)
    say(f"chose epoch {state.best_epoch} of {state.epoch}; it took {duration(time.monotonic() - began)}")
    if stopped is not None:
        raise stopped
    return facts


def _refuse_others(folder: Path, overwrite: bool) -> None:
    """Raise OutputError for a finished model, or for files of one that this training did not begin."""
    refuse_existing(folder / FACTS, overwrite)
    if not (folder / STATE).exists():
        for name in (WEIGHTS, PIXELS_FILE, "history.csv"):
            refuse_existing(folder / name, overwrite)


def _zscore(dataset: DatasetReader, data: TrainingData, begin: Model | None) -> ZScore:
    """The z-score of the model to begin with, or one fitted on the training windows."""
    if begin is not None:
        return begin.zscore
    return fit(dataset, data.positions, data.channels, data.windows, data.valid)


def _landslide_share(data: TrainingData) -> float:
    """Share of landslide among the known pixels of the training windows, kept off 0 and 1."""
    landslide = known = 0
    for window in data.windows:
        inside = window.clip(data.label.shape).slices
        scored = data.valid[inside] & (data.label[inside] != UNKNOWN)
        known += int(scored.sum())
        landslide += int((scored & (data.label[inside] == LANDSLIDE)).sum())
    return min(max(landslide / known, 1e-4), 1 - 1e-4)


def _run_epochs(
    state: State, blocks: SiteBlocks, arithmetic: Precision, identity: str, folder: Path, *, replacing: bool
) -> TrainingError | None:
    """Train to the last epoch and keep the state after each.

    Returns what stopped the training on the way, None if nothing did; TrainingError where no epoch was finished.
    """
    choice = blocks.run.training
    try:
        for _ in train_network(state, blocks, choice, arithmetic):
            keep(state, folder / STATE, identity)
            if not replacing:
                write_text(folder / "history.csv", _history(state), overwrite=True)
            say(_line(state, choice))
        if state.epoch < choice.last:
            why = f"scores on validation ground no longer gain ([training] patience = {choice.patience})"
            say(f"training ends after epoch {state.epoch} of {choice.last}: {why}")
    except TrainingError as error:
        if not state.history:
            raise
        return TrainingError(
            f"{error} The best weights until then, of epoch {state.best_epoch}, are kept as a model in "
            f"{folder / STOPPED}."
        )
    return None


def _training_pixels(
    dataset: DatasetReader, data: TrainingData, zscore: ZScore, run: Run, earlier: TrainingPixels | None
) -> TrainingPixels:
    """Pixels of the training ground that travel with the model, with those of the model that it began as."""
    trained_on = training_ground(data.windows, data.label, data.valid)
    pixels = draw_training_pixels(
        dataset, data.positions, zscore, ground=trained_on, window=run.blocks.window, seed=run.split.seed
    )
    return pixels if earlier is None else joined(earlier, pixels)


def _facts(
    run: Run, data: TrainingData, state: State, scores: dict[str, float], arithmetic: Precision
) -> TrainingFacts:
    """What model.json says of a training, but for its inputs, its origin and its files."""
    row = state.history[state.best_epoch - 1]
    split: SplitTable = {"kind": data.split.kind, "leaky": data.split.leaky, "guard": data.split.guard}
    if data.split.carried_from:
        split["carried_from"] = data.split.carried_from
    return {
        "run": run_table(run),
        "split": split,
        "pixel_size": metric_size(data.stack.grid),
        "training_windows": len(data.windows),
        "chosen_epoch": state.best_epoch,
        "validation": {"validation_loss": row["validation_loss"], **scores},
        "precision": arithmetic,
        "seed": run.training.seed,
        "training_seconds": sum(r["seconds"] for r in state.history),
        "peak_mib": peak_memory(),
        "peak_gpu_mib": torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else None,
        "machine": machine(),
        "software": software(),
    }


def _write_model(
    folder: Path,
    data: TrainingData,
    zscore: ZScore,
    pixels: TrainingPixels,
    state: State,
    *,
    facts: TrainingFacts,
    half: bool,
    draw: Drawing | None,
) -> None:
    """Write a model folder, whole or not at all, and complete its `facts`; the kept state goes."""
    # Weights come first: others than those that model.json names do not load.
    names = [WEIGHTS, "split.tif", "history.csv", "history.png", PIXELS_FILE, FACTS]
    with atomic_files(folder, names) as aside:
        facts["split_sha256"] = write_split(data, aside)
        write_text(aside / "history.csv", _history(state))
        if draw is not None:
            draw(aside / "history.csv", aside / "history.png")
        facts["training_pixels"] = write_training_pixels(pixels, aside)
        save_model(aside, state.best, data.channels, zscore=zscore, threshold=state.threshold, facts=facts, half=half)
    remove_file(folder / STATE, folder / STATE)


def _headline(run: Run, data: TrainingData, arithmetic: Precision) -> str:
    """What is trained on what, as the first line of a training."""
    return (
        f"{run.network.name} on {plural(len(data.channels), 'channel')}, split {data.split.kind}: "
        f"{plural(len(data.windows), 'training window')} of {run.blocks.window} px, {arithmetic} on {device().type}"
    )


def _line(state: State, choice: TrainingChoice) -> str:
    """What the last epoch gave and how long the others will take, in words."""
    row = state.history[-1]
    left = (choice.last - state.epoch) * (row["seconds"] + 1)
    validation = (
        f", validation loss {row['validation_loss']:.4f}, kappa {row['validation_kappa']:.4f}, F1 "
        f"{row['validation_f1']:.4f}"
    )
    return (
        f"epoch {state.epoch}/{choice.last}: loss {row['loss']:.4f}"
        f"{'' if math.isnan(row['validation_loss']) else validation}; "
        f"{pace(row['blocks_per_second'], 1, 'block')}" + (f", about {duration(left)} left" if left else "")
    )


def _history(state: State) -> str:
    """The training so far as CSV, a row for each epoch."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(state.history[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: v if k == "epoch" else f"{v:.6g}" for k, v in row.items()} for row in state.history)
    return text.getvalue()
