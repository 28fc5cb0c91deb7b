"""`landslip train`: one loop, readable from top to bottom.

The model is chosen on validation ground and never sees the test part. After every epoch the whole state is kept in
MODEL/state.safetensors, so that the same command goes on after an interruption and, on one processor type and thread
count, ends with the weights of an undisturbed run: all randomness of an epoch follows from (seed, epoch).
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as save_tensors

from landslip.ahead import ahead
from landslip.blocks import Block, Blocks, aspect_positions, seeded_windows, turn
from landslip.checkpoint import FACTS, WEIGHTS, Model, load_model, save_model
from landslip.compute import (
    CORE,
    Precision,
    autocast,
    device,
    halo_window,
    keep_memory,
    precision,
    probabilities,
    to_network,
    trim,
)
from landslip.errors import LabelError, ModelError, ResumeError, SplitError, TrainingError
from landslip.grid import Window, covered, require_same_grid, squares, tiles
from landslip.label import LANDSLIDE, OTHER, UNKNOWN, read_label
from landslip.metrics import Histogram
from landslip.models import build_model
from landslip.models.initial import he_, positive_unit_ball_, prior_bias_
from landslip.output import file_hash, refuse_existing, write_text, writing
from landslip.progress import say, track
from landslip.provenance import machine, peak_memory, software
from landslip.raster import opening, read_info, read_stored, require_one_band, write_raster
from landslip.run import Run, TrainingChoice
from landslip.split import NONE, PARTS, TRAIN, VALIDATION, Split, split_apart, split_paper
from landslip.stack import Channel, StackInfo, choose_channels, read_stack_info
from landslip.standardize import ZScore, fit
from landslip.training_pixels import (
    PIXELS,
    TrainingPixels,
    draw_training_pixels,
    joined,
    read_training_pixels,
    training_ground,
    write_training_pixels,
)

STATE = "state.safetensors"
WARM_UP = 0.1  # share of a one-cycle schedule in which the learning rate rises
FOCUS = 2  # gamma of the focal loss
GENTLEST = 0.02  # of the learning rate, where a one-cycle schedule begins and ends


@dataclass(frozen=True)
class Ground:
    """What a training run stands on: the stack's chosen channels, label, valid pixels, split and windows."""

    stack: StackInfo
    positions: tuple[int, ...]
    channels: tuple[Channel, ...]
    label: NDArray[np.uint8]
    valid: NDArray[np.bool_]
    split: Split
    windows: list[Window]
    validation: list[Window]


@dataclass
class State:
    """All that changes while training goes on."""

    network: torch.nn.Module
    averaged: dict[str, torch.Tensor]
    fine: bool  # fine-tuning: batch normalisation stays as it is, since few blocks would give it their own statistics
    optimizer: torch.optim.Optimizer
    best: dict[str, torch.Tensor]
    epoch: int = 0
    step: int = 0
    best_score: float = -math.inf
    best_epoch: int = 0
    threshold: float = 0.5
    history: list[dict[str, float]] = field(default_factory=list)


def train(run: Run, prepared: Path, folder: Path, overwrite: bool = False, half: bool = False) -> dict[str, Any]:
    """Train a network on a prepared site and write its model folder; returns the facts in model.json.

    Writes split.tif first, history.csv after each epoch, and at the end training_pixels.safetensors, model.safetensors
    (weights in half precision if `half`) and model.json. Raises OutputError where a finished model is there already,
    ResumeError where an unfinished one belongs to other inputs.
    """
    return _train(run, lambda: survey(run, prepared), lambda: input_hashes(run, prepared), folder, overwrite, half)


def fine_tune(model: Model, run: Run, ground: Ground, folder: Path, overwrite: bool = False) -> dict[str, Any]:
    """Go on training a model's weights on the ground of another site and write a model folder of its own.

    `run` has the model's network; the model's z-score and the statistics of its batch normalisation are kept, since
    its weights were found with them and a few blocks have others than a site. Channels are the model's, found in the
    stack of `ground`. Returns and raises as `train`.
    """
    site, origin = ground.stack.path.parent, origin_of(model, ground)
    return _train(run, lambda: ground, lambda: site_hashes(site), folder, overwrite, False, model, origin)


def origin_of(model: Model, ground: Ground) -> dict[str, str]:
    """What a fine-tuned model's facts say of the model it began as and of the parts it was tuned and chosen on."""
    parts = hashlib.sha256(ground.split.parts.tobytes()).hexdigest()
    return {"fine_tuned_from": str(model.facts["weights_sha256"]), "parts_sha256": parts}


def _train(
    run: Run,
    lay_out: Callable[[], Ground],
    hash_inputs: Callable[[], dict[str, str]],
    folder: Path,
    overwrite: bool,
    half: bool,
    begin: Model | None = None,
    origin: dict[str, str] | None = None,
) -> dict[str, Any]:
    """The one training: from new weights, or from those of the model to `begin` with.

    `origin` is what model.json says of that beginning.
    """
    refuse_existing(folder / FACTS, overwrite)
    if not (folder / STATE).exists():
        for name in (WEIGHTS, PIXELS, "history.csv"):  # somebody else's
            refuse_existing(folder / name, overwrite)
    began = time.monotonic()
    hashes = hash_inputs()
    how = precision(run.training.precision)
    choices = run.model_dump(mode="json", exclude={"compare"})
    choices["training"]["precision"] = how  # another processor's would not go on with the same numbers
    origin = origin or {}
    identity = json.dumps({"run": choices, "inputs": hashes | origin}, sort_keys=True)
    kept = _kept_state(folder, identity, overwrite)
    ground = lay_out()
    keep_memory()
    say(
        f"{run.network.name} on {len(ground.channels)} channels, split {ground.split.kind}: {len(ground.windows)} "
        f"training windows of {run.blocks.window} px, {how} on {device().type}"
    )
    if kept is None:
        (folder / STATE).unlink(missing_ok=True)
    # an earlier model stays whole, with the split and the history that belong to it, until the new one is finished
    replacing = (folder / FACTS).exists()
    if not replacing:
        write_split(ground, folder)
    with opening(ground.stack.path) as dataset:
        if begin is None:
            zscore = fit(dataset, ground.positions, ground.channels, ground.windows, ground.valid)
        else:
            zscore = begin.zscore
        blocks = Blocks(dataset, ground.positions, zscore, ground.valid, ground.label)
        state = _start(run, ground, begin)
        if kept is not None:
            _restore(state, folder / STATE, kept)
            say(f"going on after epoch {state.epoch} of {run.training.epochs}")
        while state.epoch < run.training.epochs:
            _epoch(run, ground, blocks, state, how)
            _keep(state, folder / STATE, identity)
            if not replacing:
                write_text(folder / "history.csv", _history(state), overwrite=True)
            say(_line(state, run.training))
        scores = _choose_threshold(run, ground, blocks, state, how)
        trained_on = training_ground(ground.windows, ground.label, ground.valid)
        pixels = draw_training_pixels(dataset, ground.positions, zscore, trained_on, run.blocks.window, run.split.seed)
        if begin is not None and "training_pixels" in begin.facts:
            pixels = joined(read_training_pixels(begin), pixels)
    return _finish(run, ground, zscore, pixels, state, scores, how, folder, hashes, began, half, origin)


def prepared_file(prepared: Path, name: str) -> Path:
    """A file of a prepared site; ModelError where it is not there."""
    path = prepared / name
    if not path.exists():
        raise ModelError(f"{path} does not exist: {prepared} is not a prepared site. Make it with `landslip prepare`.")
    return path


def is_trained(folder: Path, run: Run, prepared: Path) -> bool:
    """Whether the model folder holds this run's finished model, of a prepared site as it is now."""
    try:
        facts = load_model(folder).facts
    except ModelError:  # none, or stopped between its two files
        return False
    chosen = run.model_dump(mode="json", exclude={"compare"})
    return bool(facts["run"] == chosen and facts["site_inputs"] == input_hashes(run, prepared))


def input_hashes(run: Run, prepared: Path) -> dict[str, str]:
    """SHA-256 of each file of a prepared site that a run's weights and scores follow from, by name."""
    given = {"split.tif": file_hash(prepared_file(prepared, "split.tif"))} if run.split.kind == "given" else {}
    return site_hashes(prepared) | given


def site_hashes(prepared: Path) -> dict[str, str]:
    """SHA-256 of a prepared site's stack, valid pixels and label, by file name."""
    return {name: file_hash(prepared_file(prepared, name)) for name in ("stack.tif", "valid.tif", "label.tif")}


def survey(run: Run, prepared: Path) -> Ground:
    """Read a prepared site and lay out split and windows; everything follows from the run and its seed."""
    stack, label, valid = read_prepared(prepared)
    positions = choose_channels(stack.channels, run.channels, stack.path)
    if not ((label == LANDSLIDE) & valid).any():
        raise LabelError(f"{prepared / 'label.tif'} holds no landslide on valid ground, so there is nothing to learn.")
    channels = tuple(stack.channels[i] for i in positions)
    if run.training.augment:
        aspect_positions(channels)  # refuses aspect in degrees before any work
    require_window(run, len(channels))
    rng = np.random.default_rng(run.split.seed)
    windows = seeded_windows(label, valid, run.blocks, rng)
    if run.split.kind == "paper":
        split, windows = split_paper(windows, label.shape, rng)
    elif run.split.kind == "given":
        split = replace(read_split(prepared_file(prepared, "split.tif"), stack), kind="given")
        windows = split.inside(windows, TRAIN)
    else:
        split = split_apart(run.split, run.blocks.window, label, valid, rng)
        windows = split.inside(windows, TRAIN)
    if not windows:
        raise SplitError(
            f"no training window of {run.blocks.window} px fits into the training part. Use a smaller [blocks] window, "
            'a smaller [split] guard, or kind = "paper" (leaky).'
        )
    _require_both_classes(windows, label, valid, prepared)
    scored = (split.parts == VALIDATION) & valid
    if run.split.kind == "given" and not (scored & (label == LANDSLIDE)).any():
        raise SplitError(
            f"{prepared / 'split.tif'}: its validation part holds no landslide, so that neither an epoch nor a "
            "threshold can be chosen. Give ground with landslides to part 2."
        )
    size = run.blocks.window
    validation = [w for w in squares(label.shape, size) if scored[w.slices].any()]
    return Ground(stack, tuple(positions), channels, label, valid, split, windows, validation)


def read_prepared(prepared: Path) -> tuple[StackInfo, NDArray[np.uint8], NDArray[np.bool_]]:
    """A prepared site's stack header, its label (H, W) uint8 and its valid pixels (H, W) bool, all on one grid.

    Raises ModelError where a file is missing and GridError where they do not lie on one grid.
    """
    stack = read_stack_info(prepared_file(prepared, "stack.tif"))
    for name in ("label.tif", "valid.tif"):
        info = read_info(prepared_file(prepared, name))
        require_one_band(info, name.removesuffix(".tif"))
        require_same_grid(stack.grid, str(stack.path), info.grid, str(info.path))
    return stack, read_label(prepared / "label.tif"), read_stored(prepared / "valid.tif") == 1


def require_window(run: Run, channels: int) -> None:
    """Raise SplitError where the network cannot take the run's windows, RunError where it cannot be built."""
    with torch.device("meta"):
        multiple = int(build_model(run.network.name, channels, **run.network.options).multiple)  # type: ignore[arg-type]
    if run.blocks.window % multiple:
        raise SplitError(
            f"[blocks] window = {run.blocks.window} must be a multiple of {multiple} for {run.network.name}."
        )


def read_split(path: Path, stack: StackInfo) -> Split:
    """A split raster on a stack's grid. GridError where it lies on another, SplitError for what it cannot hold."""
    info = read_info(path)
    require_one_band(info, "split")
    require_same_grid(stack.grid, str(stack.path), info.grid, str(path))
    parts = read_stored(path)
    strange = sorted(set(np.unique(parts).tolist()) - {NONE, *PARTS.values()})
    if strange:
        raise SplitError(f"{path} holds {strange[0]}; a split holds 0 (none), 1 (train), 2 (validation) and 3 (test).")
    guard = info.tags.get("guard", "0")
    if not guard.isdecimal():
        raise SplitError(f"{path}: its guard is {guard!r} and not a whole number of pixels. Mend or remove that tag.")
    kind = info.tags.get("split", "given")
    return Split(kind, info.tags.get("leaky") == "yes", int(guard), parts.astype(np.uint8))


def _require_both_classes(
    windows: list[Window], label: NDArray[np.uint8], valid: NDArray[np.bool_], prepared: Path
) -> None:
    seen = np.unique(label[covered(windows, label.shape) & valid])
    for code, name in ((LANDSLIDE, "landslide"), (OTHER, "other ground")):
        if code not in seen:
            raise LabelError(
                f"{prepared / 'label.tif'}: the training windows hold no pixel of {name}, so there is nothing to tell "
                "apart. Use another [split] seed or region, or map more ground."
            )


def _start(run: Run, ground: Ground, begin: Model | None) -> State:
    network = build_model(run.network.name, len(ground.channels), **run.network.options)
    if begin is not None:
        network.load_state_dict(begin.network.state_dict())
    else:
        generator = torch.Generator().manual_seed(run.training.seed)
        (positive_unit_ball_ if run.training.initial == "positive-unit-ball" else he_)(network, generator)
        if run.training.prior_bias:
            prior_bias_(network, _landslide_share(ground))
    network = network.to(device(), memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(
        network.parameters(), run.training.learning_rate, weight_decay=run.training.weight_decay, fused=True
    )
    weights = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
    return State(
        network, weights, begin is not None, optimizer, {name: tensor.clone() for name, tensor in weights.items()}
    )


def _landslide_share(ground: Ground) -> float:
    """Share of landslide among the known pixels of the training windows, kept off 0 and 1."""
    landslide = known = 0
    for window in ground.windows:
        inside = window.clip(ground.label.shape).slices
        scored = ground.valid[inside] & (ground.label[inside] != UNKNOWN)
        known += int(scored.sum())
        landslide += int((scored & (ground.label[inside] == LANDSLIDE)).sum())
    return min(max(landslide / known, 1e-4), 1 - 1e-4)


def _epoch(run: Run, ground: Ground, blocks: Blocks, state: State, how: Precision) -> None:
    choice = run.training
    rng = np.random.default_rng((choice.seed, state.epoch))
    torch.manual_seed(int(rng.integers(2**62)))  # dropout
    order = rng.permutation(len(ground.windows))
    aspect = aspect_positions(ground.channels) if choice.augment else None
    batches = [order[i : i + choice.batch] for i in range(0, len(order), choice.batch)]
    total_steps = len(batches) * choice.epochs
    on = device()

    def read(batch: NDArray[np.int64]) -> Block:
        pairs = [blocks.cut(ground.windows[i]) for i in batch]
        if choice.augment:
            turns = [(int(rng.integers(4)), bool(rng.integers(2))) for _ in pairs]
            pairs = [turn(x, y, *given, aspect) for (x, y), given in zip(pairs, turns, strict=True)]
        return np.stack([x for x, _ in pairs]), np.stack([y for _, y in pairs])

    state.network.train()
    if state.fine:
        for module in state.network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eval()
    loss_sum, rate, began = 0.0, 0.0, time.monotonic()
    label = f"epoch {state.epoch + 1}/{choice.epochs}"
    for batch, (block, known) in track(ahead(read, batches), len(batches), label, "batches"):
        x, y = to_network(block, on), torch.from_numpy(known).to(on)
        rate = learning_rate(choice, state.step, total_steps)
        for group in state.optimizer.param_groups:
            group["lr"] = rate
        with autocast(how, on):
            logits = state.network(x)
        loss = masked_loss(logits[:, 0].float(), y, choice.loss)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise TrainingError(
                f"the loss is {value} in epoch {state.epoch + 1}: {_kept_weights(state.epoch)}. Lower "
                f"[training] learning_rate (now {choice.learning_rate:g}) and start again with --overwrite."
            )
        state.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        state.optimizer.step()
        state.step += 1
        _average(state, choice.average)
        loss_sum += value * len(batch)
    seconds = time.monotonic() - began
    state.epoch += 1
    row = {"epoch": state.epoch, "loss": loss_sum / len(order), "learning_rate": rate}
    row |= _validate(ground, blocks, state, choice, how)
    if not math.isfinite(row["validation_loss"]):  # the last step of an epoch is judged by no loss of its own
        raise TrainingError(
            f"the weights are no longer finite at the end of epoch {state.epoch}: "
            f"{_kept_weights(state.epoch - 1)}. Lower [training] learning_rate (now {choice.learning_rate:g}) and "
            "start again with --overwrite."
        )
    row |= {"seconds": seconds, "blocks_per_second": len(order) / seconds}
    state.history.append(row)


def _kept_weights(epoch: int) -> str:
    return f"the weights of epoch {epoch} are kept" if epoch else "no weights are kept before the first epoch"


def masked_loss(logits: torch.Tensor, label: torch.Tensor, kind: str) -> torch.Tensor:
    """Binary cross-entropy of (B, h, w) logits over the pixels whose label is known.

    `bce+dice` adds 1 - Dice of the batch; `focal` weights each pixel by (1 - p of its class)^2 (Lin et al. 2017).
    """
    known = label != UNKNOWN
    target = (label == LANDSLIDE).to(logits.dtype)
    each = torch.nn.functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    if kind == "focal":
        each = each * (1 - torch.exp(-each)) ** FOCUS  # exp(-cross-entropy) is the probability of the pixel's class
    count = known.sum().clamp(min=1)
    loss = (each * known).sum() / count
    if kind == "bce+dice":
        p = torch.sigmoid(logits) * known
        t = target * known
        loss = loss + 1 - (2 * (p * t).sum() + 1) / (p.sum() + t.sum() + 1)
    return loss


def learning_rate(choice: TrainingChoice, step: int, total: int) -> float:
    """The learning rate of a step: constant, or up for a tenth of the steps and down along a cosine (one-cycle)."""
    if choice.schedule == "constant":
        return choice.learning_rate
    done = (step + 1) / total
    if done < WARM_UP:
        return choice.learning_rate * max(done / WARM_UP, GENTLEST)
    fall = (1 + math.cos(math.pi * (done - WARM_UP) / (1 - WARM_UP))) / 2
    return choice.learning_rate * max(fall, GENTLEST)


def _average(state: State, decay: float) -> None:
    weights = state.network.state_dict()
    decay = min(decay, (1 + state.step) / (10 + state.step)) if decay else 0.0
    with torch.no_grad():
        for name, tensor in weights.items():
            if tensor.is_floating_point() and decay:
                state.averaged[name].lerp_(tensor, 1 - decay)
            else:
                state.averaged[name].copy_(tensor)


def _validate(ground: Ground, blocks: Blocks, state: State, choice: TrainingChoice, how: Precision) -> dict[str, float]:
    """Score the averaged weights on the validation part; keep them where they are the best so far."""
    own = {name: tensor.clone() for name, tensor in state.network.state_dict().items()}
    state.network.load_state_dict(state.averaged)
    state.network.eval()
    found, loss_sum, pixels = Histogram.empty(), 0.0, 0
    size = max(1, choice.batch)
    batches = [ground.validation[i : i + size] for i in range(0, len(ground.validation), size)]
    for windows, (x, y) in ahead(blocks.batch, batches):
        p = probabilities(state.network, x, how)
        part = np.stack([_part(ground.split, w) == VALIDATION for w in windows]) & (y != UNKNOWN)
        found += Histogram.from_arrays(p, y, part)
        right = np.where(y == LANDSLIDE, p, 1 - p)[part]
        loss_sum -= float(np.log(np.maximum(right, 1e-7), dtype=np.float64).sum())
        pixels += right.size
    state.network.load_state_dict(own)
    by = choice.threshold if isinstance(choice.threshold, str) else "f1"
    threshold = found.best_threshold(by) if isinstance(choice.threshold, str) else choice.threshold
    scores = (
        found.confusion(round(threshold, 3)).scores()
        if math.isfinite(threshold)
        else {"f1": math.nan, "kappa": math.nan}
    )
    score = scores[by]
    if choice.choose == "last" or not math.isfinite(score) or score > state.best_score:
        state.best = {name: tensor.clone() for name, tensor in state.averaged.items()}
        state.best_score = score if math.isfinite(score) else -math.inf
        state.best_epoch = state.epoch
        state.threshold = threshold if math.isfinite(threshold) else 0.5
    return {
        "validation_loss": loss_sum / max(pixels, 1),
        "validation_f1": scores["f1"],
        "validation_kappa": scores["kappa"],
        "threshold": threshold,
    }


def write_split(ground: Ground, folder: Path) -> None:
    """Write the ground's parts to split.tif in a folder."""
    tags = ground.split.tags() | {"window": str(ground.windows[0].height)}
    write_raster(folder / "split.tif", ground.split.parts[None], ground.stack.grid, ["part"], None, tags, True, True)


def _choose_threshold(run: Run, ground: Ground, blocks: Blocks, state: State, how: Precision) -> dict[str, float]:
    """Choose the threshold anew for the weights that were chosen, on validation ground mapped as `landslip map` does.

    With their surroundings, pixels get other probabilities than in windows of the training size. Returns the scores
    of the validation part so mapped.
    """
    by = run.training.threshold
    state.network.load_state_dict(state.best)
    state.network.eval()
    found = Histogram.empty()
    scored = (ground.split.parts == VALIDATION) & ground.valid
    for core, x, inside in mapped_cores(blocks, scored, int(state.network.multiple)):  # type: ignore[arg-type]
        p = probabilities(state.network, x, how)[0][inside]
        found += Histogram.from_arrays(p, ground.label[core.slices], scored[core.slices])
    threshold = found.best_threshold(by) if isinstance(by, str) else by
    if not math.isfinite(threshold):
        return {"validation_f1": math.nan, "validation_kappa": math.nan, "threshold": state.threshold}
    state.threshold = threshold
    scores = found.confusion(round(threshold, 3)).scores()
    return {"validation_f1": scores["f1"], "validation_kappa": scores["kappa"], "threshold": threshold}


def mapped_cores(
    blocks: Blocks, scored: NDArray[np.bool_], multiple: int
) -> Iterator[tuple[Window, NDArray[np.float32], tuple[slice, slice]]]:
    """The windows in which `landslip map` would map the (H, W) `scored` pixels, one after another.

    Yields the core, the (1, C, h, w) block that is read for it (sides are multiples of `multiple`), and where in that
    the core lies.
    """
    shape = scored.shape
    held = [tile for tile in tiles(shape, CORE) if scored[tile.slices].any()]
    cores = [trim(tile, blocks.valid[tile.slices]) for tile in held]

    def read(core: Window) -> Block:
        return blocks.cut(halo_window(core, shape).round_up(multiple))

    for core, (x, _) in ahead(read, cores):
        yield core, x[None], core.within(halo_window(core, shape))


def _part(split: Split, window: Window) -> NDArray[np.uint8]:
    inside = window.clip(split.parts.shape)
    out = np.zeros((window.height, window.width), np.uint8)
    out[inside.within(window)] = split.parts[inside.slices]
    return out


def _keep(state: State, path: Path, identity: str) -> None:
    tensors = {f"network.{k}": v for k, v in state.network.state_dict().items()}
    tensors |= {f"averaged.{k}": v for k, v in state.averaged.items()}
    tensors |= {f"best.{k}": v for k, v in state.best.items()}
    for index, slots in state.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": torch.as_tensor(value) for name, value in slots.items()}
    facts = {
        "identity": identity,
        "epoch": state.epoch,
        "step": state.step,
        "best_score": state.best_score if math.isfinite(state.best_score) else None,
        "best_epoch": state.best_epoch,
        "threshold": state.threshold,
        "history": state.history,
    }
    kept = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with writing(path, overwrite=True) as aside:
        aside.write_bytes(save_tensors(kept, {"landslip": json.dumps(facts)}))


def _kept_state(folder: Path, identity: str, overwrite: bool = False) -> dict[str, Any] | None:
    """What an interrupted run of this very kind left; with `overwrite` any other is as good as none."""
    path = folder / STATE
    if not path.exists():
        return None
    try:
        return _matching_state(path, identity)
    except ResumeError:
        if overwrite:
            return None
        raise


def _matching_state(path: Path, identity: str) -> dict[str, Any]:
    try:
        with safe_open(path, "pt") as file:
            facts: dict[str, Any] = json.loads(file.metadata()["landslip"])
            known = facts["identity"]
    except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
        raise ResumeError(f"{path} cannot be read: {str(error)[:200]}. Start anew with --overwrite.") from error
    if known != identity:
        raise ResumeError(
            f"{path} belongs to {difference(json.loads(known), json.loads(identity))}. Start anew with --overwrite, or "
            "undo that."
        )
    return facts


def difference(before: dict[str, Any], now: dict[str, Any]) -> str:
    """What tells two runs apart, in words; each is the choices of a `run` and the hashes of its `inputs`."""
    changed = [name for name in now["inputs"] if before["inputs"].get(name) != now["inputs"][name]]
    if changed and before["run"]["split"]["kind"] == now["run"]["split"]["kind"]:
        return f"other inputs: {', '.join(changed)} changed since"
    for table, choices in now["run"].items():
        for key, value in choices.items():
            old = before["run"].get(table, {}).get(key)
            if old != value:
                return f"another run: [{table}] {key} was {old!r} and is {value!r}"
    return "another run"


def _restore(state: State, path: Path, facts: dict[str, Any]) -> None:
    with safe_open(path, "pt", device=str(device())) as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict

    def part(prefix: str) -> dict[str, torch.Tensor]:
        return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

    state.network.load_state_dict(part("network."))
    state.averaged, state.best = part("averaged."), part("best.")
    slots: dict[int, dict[str, torch.Tensor]] = {}
    parameters = list(state.network.parameters())
    for name, tensor in part("optimizer.").items():
        index, slot = name.split(".", 1)
        if tensor.ndim:  # the fused optimizer walks memory as it lies, so moments must lie as their weights do
            tensor = torch.empty_like(parameters[int(index)]).copy_(tensor)
        slots.setdefault(int(index), {})[slot] = tensor
    whole = state.optimizer.state_dict()
    state.optimizer.load_state_dict({"state": slots, "param_groups": whole["param_groups"]})
    state.epoch, state.step = facts["epoch"], facts["step"]
    state.best_score = -math.inf if facts["best_score"] is None else facts["best_score"]
    state.best_epoch, state.threshold, state.history = facts["best_epoch"], facts["threshold"], facts["history"]


def _history(state: State) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(state.history[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: v if k == "epoch" else f"{v:.6g}" for k, v in row.items()} for row in state.history)
    return text.getvalue()


def _line(state: State, choice: TrainingChoice) -> str:
    row = state.history[-1]
    left = (choice.epochs - state.epoch) * (row["seconds"] + 1)
    return (
        f"epoch {state.epoch}/{choice.epochs}: loss {row['loss']:.4f}, validation loss {row['validation_loss']:.4f}, "
        f"kappa {row['validation_kappa']:.4f}, F1 {row['validation_f1']:.4f}; {row['blocks_per_second']:.1f} blocks/s, "
        f"about {left / 60:.1f} min left"
    )


def _finish(
    run: Run,
    ground: Ground,
    zscore: ZScore,
    pixels: TrainingPixels,
    state: State,
    scores: dict[str, float],
    how: Precision,
    folder: Path,
    hashes: dict[str, str],
    began: float,
    half: bool,
    origin: dict[str, str],
) -> dict[str, Any]:
    row = state.history[state.best_epoch - 1]
    facts = {
        "run": run.model_dump(mode="json", exclude={"compare"}),
        "site_inputs": hashes,
        "split": {"kind": ground.split.kind, "leaky": ground.split.leaky, "guard": ground.split.guard},
        **origin,
        "training_windows": len(ground.windows),
        "chosen_epoch": state.best_epoch,
        "validation": {"validation_loss": row["validation_loss"], **scores},
        "precision": how,
        "seed": run.training.seed,
        "training_seconds": sum(r["seconds"] for r in state.history),
        "peak_mib": peak_memory(),
        "peak_gpu_mib": torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else None,
        "machine": machine(),
        "software": software(),
    }
    write_split(ground, folder)
    write_text(folder / "history.csv", _history(state), overwrite=True)
    facts["training_pixels"] = write_training_pixels(pixels, folder)
    save_model(folder, state.best, ground.channels, zscore, state.threshold, facts, overwrite=True, half=half)
    (folder / STATE).unlink(missing_ok=True)
    say(f"chose epoch {state.best_epoch} of {state.epoch}; {(time.monotonic() - began) / 60:.1f} min")
    return facts
