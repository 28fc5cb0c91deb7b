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
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from landslip.config.run import Run, TrainingChoice, settled
from landslip.dataset.blocks import Block, Blocks, aspect_positions, turn
from landslip.dataset.label import LANDSLIDE, UNKNOWN
from landslip.dataset.split import VALIDATION
from landslip.dataset.training_data import Ground, carried_note, input_hashes, site_hashes, survey, write_split
from landslip.dataset.zscore import ZScore, fit
from landslip.errors import ModelError, TrainingError
from landslip.geo.grid import Window, metric_size
from landslip.geo.raster import opening
from landslip.geo.tiling import Task, cell_of, cells_of, make_plan
from landslip.metrics.confusion import Histogram
from landslip.models import build_model
from landslip.models.forward import (
    Precision,
    autocast,
    device,
    keep_memory,
    precision,
    probabilities,
    to_network,
)
from landslip.models.initialization import he_, positive_unit_ball_, prior_bias_
from landslip.runtime.atomic import alone, refuse_existing, remove_file, writing_together
from landslip.runtime.prefetch import ahead
from landslip.runtime.progress import duration, pace, plural, say, track
from landslip.runtime.provenance import machine, peak_memory, software
from landslip.runtime.text import write_text
from landslip.training.checkpoint import FACTS, STATE, WEIGHTS, Model, load_model, save_model, sites_of
from landslip.training.state import State, keep, kept_state, restore
from landslip.training.training_pixels import (
    PIXELS,
    TrainingPixels,
    draw_training_pixels,
    joined,
    read_training_pixels,
    training_ground,
    write_training_pixels,
)

AT_ONCE = 448 * 448  # pixels of validation ground in a window
WARM_UP = 0.1  # share of a one-cycle schedule in which the learning rate rises
TIMED = 3  # batches that a network's pace is taken from
FOCUS = 2  # gamma of the focal loss
STOPPED = "stopped"  # in a model folder: the best weights of a training whose loss was no longer finite
GENTLEST = 0.02  # of the learning rate, where a one-cycle schedule begins and ends


Drawing = Callable[[Path, Path], None]  # from history.csv to history.png


def train(
    run: Run,
    prepared: Path | str,
    folder: Path | str,
    overwrite: bool = False,
    half: bool = False,
    draw: Drawing | None = None,
) -> dict[str, Any]:
    """Train a network on a prepared site and write its model folder; returns the facts in model.json.

    Writes split.tif first and history.csv after each epoch (not beside an earlier model, which stays), and at the end
    all files of the model together: these, history.png where `draw` is given, training_pixels.safetensors,
    model.safetensors (weights in half precision if `half`), and last model.json, with which the model is whole.
    Raises OutputError where a finished model is there already, ResumeError where an unfinished one belongs to other
    inputs.
    """
    prepared, folder = Path(prepared), Path(folder)
    lay_out, hash_inputs = partial(survey, run, prepared), partial(input_hashes, run, prepared)
    with alone(folder, inside=True):
        if note := carried_note(run, prepared):
            say(note)
        return _train(settled(run), lay_out, hash_inputs, folder, overwrite, half, draw=draw)


def fine_tune(model: Model, run: Run, ground: Ground, folder: Path, overwrite: bool = False) -> dict[str, Any]:
    """Go on training a model's weights on the ground of another site and write a model folder of its own.

    `run` has the model's network; the model's z-score and the statistics of its batch normalisation are kept, since
    its weights were found with them and a few blocks have others than a site. Channels are the model's, found in the
    stack of `ground`. Returns and raises as `train`.
    """
    site, origin = ground.stack.path.parent, origin_of(model, ground)
    with alone(folder, inside=True):
        return _train(settled(run), lambda: ground, lambda: site_hashes(site), folder, overwrite, False, model, origin)


def origin_of(model: Model, ground: Ground) -> dict[str, str]:
    """What a fine-tuned model's facts say of the model it began as and of the parts it was tuned and chosen on."""
    parts = hashlib.sha256(ground.split.parts.data).hexdigest()
    return {"fine_tuned_from": str(model.facts["weights_sha256"]), "parts_sha256": parts}


def _train(
    run: Run,
    lay_out: Callable[[], Ground],
    hash_inputs: Callable[[], dict[str, str]],
    folder: Path,
    overwrite: bool,
    half: bool,
    begin: Model | None = None,
    origin: dict[str, Any] | None = None,
    draw: Drawing | None = None,
) -> dict[str, Any]:
    """The one training: from new weights, or from those of the model to `begin` with.

    `origin` is what model.json says of that beginning.
    """
    if not overwrite and (folder / STATE).exists() and is_trained(folder, run, hash_inputs()):
        remove_file(folder / STATE, folder / STATE)  # a kill came after the model was whole
        return load_model(folder).facts
    refuse_existing(folder / FACTS, overwrite)
    if not (folder / STATE).exists():
        for name in (WEIGHTS, PIXELS, "history.csv"):  # somebody else's
            refuse_existing(folder / name, overwrite)
    earlier_pixels = read_training_pixels(begin) if begin is not None and "training_pixels" in begin.facts else None
    began = time.monotonic()
    hashes = hash_inputs()
    how = precision(run.training.precision)
    origin = dict(origin or {})
    identity = identity_of(run, hashes | origin)
    kept = kept_state(folder, identity, overwrite)
    ground = lay_out()
    keep_memory()
    say(
        f"{run.network.name} on {plural(len(ground.channels), 'channel')}, split {ground.split.kind}: "
        f"{plural(len(ground.windows), 'training window')} of {run.blocks.window} px, {how} on {device().type}"
    )
    if kept is None:
        remove_file(folder / STATE, folder / STATE)
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
            restore(state, folder / STATE, kept)
            say(f"going on after epoch {state.epoch} of {run.training.epochs}")
        shutil.rmtree(folder / STOPPED, ignore_errors=True)
        stopped = None
        while state.epoch < run.training.epochs:
            try:
                _epoch(run, ground, blocks, state, how)
            except TrainingError as error:
                if not state.history:
                    raise
                stopped = TrainingError(
                    f"{error} The best weights until then, of epoch {state.best_epoch}, are kept as a model in "
                    f"{folder / STOPPED}."
                )
                break
            keep(state, folder / STATE, identity)
            if not replacing:
                write_text(folder / "history.csv", _history(state), overwrite=True)
            say(_line(state, run.training))
        scores = _choose_threshold(run, ground, blocks, state, how)
        trained_on = training_ground(ground.windows, ground.label, ground.valid)
        pixels = draw_training_pixels(dataset, ground.positions, zscore, trained_on, run.blocks.window, run.split.seed)
        if earlier_pixels is not None:
            pixels = joined(earlier_pixels, pixels)
    if begin is not None:
        origin |= {"earlier_site_inputs": sites_of(begin)}
    if stopped is not None:
        folder, origin = folder / STOPPED, origin | {"stopped": str(stopped)}
    facts = _finish(run, ground, zscore, pixels, state, scores, how, folder, hashes, began, half, origin, draw)
    if stopped is not None:
        raise stopped
    return facts


def identity_of(run: Run, hashes: dict[str, str]) -> str:
    """What a kept state must agree with to be gone on from: the run's choices and the hashes of its inputs."""
    choices = run.model_dump(mode="json", exclude={"compare"})
    choices["training"]["precision"] = precision(run.training.precision)  # another processor's gives other numbers
    return json.dumps({"run": choices, "inputs": hashes}, sort_keys=True)


def is_trained(folder: Path, run: Run, hashes: dict[str, str]) -> bool:
    """Whether the model folder holds this run's finished model, of inputs with these hashes (`input_hashes`)."""
    try:
        facts = load_model(folder).facts
    except ModelError:  # none, or stopped between its two files
        return False
    chosen = run.model_dump(mode="json", exclude={"compare"})
    return bool(facts["run"] == chosen and facts["site_inputs"] == hashes)


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
        network.parameters(), run.training.rate, weight_decay=run.training.weight_decay, fused=True
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
    for batch, (block, known) in track(ahead(read, batches), len(batches), label, "batch"):
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
                f"the loss is {value} in epoch {state.epoch + 1}. Lower [training] learning_rate (now {choice.rate:g}) "
                "and start again with --overwrite."
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
    row |= {"seconds": seconds, "blocks_per_second": len(order) / seconds}
    state.history.append(row)


@dataclass(frozen=True)
class Pace:
    """Seconds that a network takes to train on one window, in batches, and to look at one validation window."""

    step: float
    look: float


def measure_pace(run: Run, ground: Ground, blocks: Blocks, most: float) -> Pace:
    """Time a few batches of a run's network; nothing is kept. The first counts only where it alone takes `most` s."""
    keep_memory()
    how, batch = precision(run.training.precision), run.training.batch
    few = replace(ground, windows=ground.windows[:batch], validation=ground.validation[:batch])
    state, began = _start(run, ground, None), time.monotonic()
    taken: list[tuple[float, float]] = []
    while len(taken) < 1 + TIMED and (not taken or time.monotonic() - began < most):
        start = time.monotonic()
        _epoch(run, few, blocks, state, how)
        steps = state.history[-1]["seconds"]
        looks = time.monotonic() - start - steps
        taken.append((steps / len(few.windows), looks / max(len(few.validation), 1)))
    step, look = np.mean(taken[1:] or taken, axis=0)
    return Pace(float(step), float(look))


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
        return choice.rate
    done = (step + 1) / total
    if done < WARM_UP:
        return choice.rate * max(done / WARM_UP, GENTLEST)
    fall = (1 + math.cos(math.pi * (done - WARM_UP) / (1 - WARM_UP))) / 2
    return choice.rate * max(fall, GENTLEST)


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
    """Score the averaged weights on the validation part; keep them where they are the best so far.

    Raises TrainingError where they are no longer finite.
    """
    own = {name: tensor.clone() for name, tensor in state.network.state_dict().items()}
    state.network.load_state_dict(state.averaged)
    state.network.eval()
    found, loss_sum, pixels = Histogram.empty(), 0.0, 0
    size = max(1, choice.batch)
    batches = [ground.validation[i : i + size] for i in range(0, len(ground.validation), size)]
    for windows, (x, y) in ahead(blocks.batch, batches):
        p = probabilities(state.network, x, how)
        part = np.stack([ground.split.at(w) == VALIDATION for w in windows]) & (y != UNKNOWN)
        found += Histogram.from_arrays(p, y, part)
        right = np.where(y == LANDSLIDE, p, 1 - p)[part]
        loss_sum -= float(np.log(np.maximum(right, 1e-7), dtype=np.float64).sum())
        pixels += right.size
    state.network.load_state_dict(own)
    loss = loss_sum / max(pixels, 1)
    if not math.isfinite(loss):  # the last step of an epoch is judged by no loss of its own
        raise TrainingError(
            f"the weights are no longer finite at the end of epoch {state.epoch}. Lower [training] learning_rate (now "
            f"{choice.rate:g}) and start again with --overwrite."
        )
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
        "validation_loss": loss,
        "validation_f1": scores["f1"],
        "validation_kappa": scores["kappa"],
        "threshold": threshold,
    }


def _choose_threshold(run: Run, ground: Ground, blocks: Blocks, state: State, how: Precision) -> dict[str, float]:
    """Choose the threshold anew for the weights that were chosen, on validation ground mapped as `landslip map` does.

    With their surroundings, pixels get other probabilities than in windows of the training size. Returns the scores
    of the validation part so mapped.
    """
    by = run.training.threshold
    state.network.load_state_dict(state.best)
    state.network.eval()
    found = Histogram.empty()
    scored = ground.scored()
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
    """Cores that cover the (H, W) `scored` pixels, as `landslip map` would plan them, one after another.

    Yields the core, the (1, C, h, w) block that is read for it (sides are multiples of `multiple`), and where in that
    the core lies.
    """
    plan = make_plan(blocks.valid.shape, cells_of(scored, cell_of(multiple)), multiple, AT_ONCE)

    def read(task: Task) -> Block:
        return blocks.cut(task.read)

    for task, (x, _) in ahead(read, plan.tasks):
        yield task.core, x[None], task.core.within(task.read)


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
        f"kappa {row['validation_kappa']:.4f}, F1 {row['validation_f1']:.4f}; "
        f"{pace(row['blocks_per_second'], 1, 'block')}" + (f", about {duration(left)} left" if left else "")
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
    origin: dict[str, Any],
    draw: Drawing | None,
) -> dict[str, Any]:
    row = state.history[state.best_epoch - 1]
    facts = {
        "run": run.model_dump(mode="json", exclude={"compare"}),
        "site_inputs": hashes,
        "split": {
            "kind": ground.split.kind,
            "leaky": ground.split.leaky,
            "guard": ground.split.guard,
            **({"carried_from": ground.split.carried_from} if ground.split.carried_from else {}),
        },
        **origin,
        "pixel_size": metric_size(ground.stack.grid),
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
    # other weights than those that model.json names do not load
    with writing_together(folder, last=FACTS, first=WEIGHTS, replaces=["history.png"]) as aside:
        facts["split_sha256"] = write_split(ground, aside)
        write_text(aside / "history.csv", _history(state))
        if draw is not None:
            draw(aside / "history.csv", aside / "history.png")
        facts["training_pixels"] = write_training_pixels(pixels, aside)
        save_model(aside, state.best, ground.channels, zscore, state.threshold, facts, half=half)
    remove_file(folder / STATE, folder / STATE)
    say(f"chose epoch {state.best_epoch} of {state.epoch}; it took {duration(time.monotonic() - began)}")
    return facts
