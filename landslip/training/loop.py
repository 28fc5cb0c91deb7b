"""The training loop: batch, loss, step, validation, choice, in one function.

It knows arrays and PyTorch and nothing of files, sites or run folders: it needs torch, numpy and safetensors only. What
stands around it (reading blocks, keeping the state, writing the model) is in train.py and state.py.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from landslip.dataset.label import LANDSLIDE, UNKNOWN
from landslip.errors import TrainingError
from landslip.metrics.confusion import Histogram
from landslip.models.forward import Precision, autocast, device, probabilities, to_network
from landslip.runtime.prefetch import prefetch
from landslip.runtime.progress import track

if TYPE_CHECKING:
    from landslip.config.run import TrainingChoice

WARM_UP = 0.1  # share of a one-cycle schedule in which the learning rate rises
GENTLEST = 0.02  # of the learning rate, where a one-cycle schedule begins and ends
FOCUS = 2  # gamma of the focal loss
OUTLINE = 2  # pixels to each side of an outline that `boundary` counts more
OUTLINE_WEIGHT = 3.0  # how often it counts them
OUTLINE_DICE = 0.2  # weight of its Dice term

Batch = tuple[NDArray[np.float32], NDArray[np.uint8]]


class TrainingBlocks(Protocol):
    """The blocks that a network is trained and validated on."""

    @property
    def count(self) -> int:
        """How many training blocks there are."""

    def training(self, numbers: NDArray[np.int64], rng: np.random.Generator) -> Batch:
        """(B, C, h, w) z-scored channels and (B, h, w) label of some of the `count` blocks, turned by chance."""

    def validation(self, batch: int) -> Iterable[tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.bool_]]]:
        """Batches of the validation part: channels, label, and which pixels (B, h, w) are scored."""


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


def new_state(network: torch.nn.Module, choice: TrainingChoice, fine: bool = False) -> State:
    """The state of a training before its first epoch, of a network whose weights are set."""
    network = network.to(device(), memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(network.parameters(), choice.rate, weight_decay=choice.weight_decay, fused=True)
    weights = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
    return State(network, weights, fine, optimizer, {name: tensor.clone() for name, tensor in weights.items()})


def train_network(state: State, blocks: TrainingBlocks, choice: TrainingChoice, precision: Precision) -> Iterator[None]:
    """Train from the epoch that `state` has reached to the last; yields after each, when `state` can be kept.

    The last is `epochs`, `end`, or an earlier one after which validation no longer gains (`no_longer_gains`).

    All randomness of an epoch follows from (seed, epoch), so that a training gone on with ends with the same weights.
    Raises TrainingError where the loss or the weights are no longer finite.
    """
    where = device()
    while state.epoch < choice.last and not no_longer_gains(state.history, choice):
        rng = np.random.default_rng((choice.seed, state.epoch))
        torch.manual_seed(int(rng.integers(2**62)))  # dropout
        order = rng.permutation(blocks.count)
        batches = [order[i : i + choice.batch] for i in range(0, len(order), choice.batch)]
        set_training(state.network, keep_statistics=state.fine)
        loss_sum, rate, began = 0.0, 0.0, time.monotonic()

        # The next batch is read while the network learns from this one.
        coming = prefetch(partial(blocks.training, rng=rng), batches)
        for batch, (x, y) in track(coming, len(batches), f"epoch {state.epoch + 1}/{choice.last}", "batch"):
            rate = learning_rate(choice, state.step, len(batches) * choice.epochs)
            for group in state.optimizer.param_groups:
                group["lr"] = rate
            with autocast(precision, where):
                logits = state.network(to_network(x, where))
            loss = masked_loss(logits[:, 0].float(), torch.from_numpy(y).to(where), choice.loss)
            loss_sum += _require_finite(float(loss.detach()), state.epoch + 1, choice.rate) * len(batch)

            state.optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            state.optimizer.step()
            state.step += 1
            _average_weights(state, choice.average)

        seconds = time.monotonic() - began
        state.epoch += 1
        row = {"epoch": state.epoch, "loss": loss_sum / len(order), "learning_rate": rate}

        # The averaged weights are the model. They are scored on validation ground, and kept where they are the best.
        histogram, validation_loss = validate(state, blocks, choice, precision)
        threshold, scores = choose(state, histogram, choice)
        row |= {"validation_loss": validation_loss, "validation_f1": scores["f1"], "validation_kappa": scores["kappa"]}
        row |= {"threshold": threshold, "seconds": seconds, "blocks_per_second": len(order) / seconds}
        state.history.append(row)
        yield


def set_training(network: torch.nn.Module, keep_statistics: bool) -> None:
    """Put a network into training; with `keep_statistics` those of its batch normalisation stay as they are."""
    network.train()
    if keep_statistics:
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eval()


def learning_rate(choice: TrainingChoice, step: int, total: int) -> float:
    """The learning rate of a step: constant, or up for a tenth of the steps and down along a cosine (one-cycle)."""
    if choice.schedule == "constant":
        return choice.rate
    done = (step + 1) / total
    if done < WARM_UP:
        return choice.rate * max(done / WARM_UP, GENTLEST)
    fall = (1 + math.cos(math.pi * (done - WARM_UP) / (1 - WARM_UP))) / 2
    return choice.rate * max(fall, GENTLEST)


def masked_loss(logits: torch.Tensor, label: torch.Tensor, kind: str) -> torch.Tensor:
    """Binary cross-entropy of (B, h, w) logits over the pixels whose label is known.

    `bce+dice` adds 1 - Dice of the batch; `focal` weights each pixel by (1 - p of its class)^2 (Lin et al. 2017).
    `boundary` counts pixels within 2 of the other class three times, since outlines are where maps are wrong most, and
    adds 0.2 (1 - Dice).
    """
    known = label != UNKNOWN
    target = (label == LANDSLIDE).to(logits.dtype)
    weight = known.to(logits.dtype)
    each = torch.nn.functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    if kind == "focal":
        each = each * (1 - torch.exp(-each)) ** FOCUS  # exp(-cross-entropy) is the probability of the pixel's class
    if kind == "boundary":
        weight = weight * torch.where(_near_outlines(target, weight), OUTLINE_WEIGHT, 1.0)
    loss = (each * weight).sum() / weight.sum().clamp(min=1)
    if kind in ("bce+dice", "boundary"):
        p = torch.sigmoid(logits) * known
        t = target * known
        dice = (2 * (p * t).sum() + 1) / (p.sum() + t.sum() + 1)
        loss = loss + (OUTLINE_DICE if kind == "boundary" else 1) * (1 - dice)
    return loss


def _near_outlines(target: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Where (B, h, w) has known pixels of both classes within `OUTLINE` rows and columns."""
    near = [
        torch.nn.functional.max_pool2d((of_class * known)[:, None], 2 * OUTLINE + 1, stride=1, padding=OUTLINE)[:, 0]
        for of_class in (target, 1 - target)
    ]
    return (near[0] > 0) & (near[1] > 0)


def _require_finite(loss: float, epoch: int, rate: float) -> float:
    """The loss; TrainingError where it is NaN or infinite, since nothing is learnt from there on."""
    if not math.isfinite(loss):
        raise TrainingError(
            f"the loss is {loss} in epoch {epoch}. Lower [training] learning_rate (now {rate:g}) and start again with "
            "--overwrite."
        )
    return loss


def _average_weights(state: State, decay: float) -> None:
    """Bring the averaged weights nearer to the network's: an exponential mean, quicker over the first steps."""
    decay = min(decay, (1 + state.step) / (10 + state.step)) if decay else 0.0
    with torch.no_grad():
        for name, tensor in state.network.state_dict().items():
            if tensor.is_floating_point() and decay:
                state.averaged[name].lerp_(tensor, 1 - decay)
            else:
                state.averaged[name].copy_(tensor)


def validate(
    state: State, blocks: TrainingBlocks, choice: TrainingChoice, precision: Precision
) -> tuple[Histogram, float]:
    """Probabilities that the averaged weights give the validation part, by class, and their mean cross-entropy.

    Raises TrainingError where the weights are no longer finite: no loss of its own judges an epoch's last step.
    """
    own = {name: tensor.clone() for name, tensor in state.network.state_dict().items()}
    state.network.load_state_dict(state.averaged)
    state.network.eval()
    histogram, loss_sum, pixels = Histogram.empty(), 0.0, 0
    for x, y, scored in blocks.validation(max(1, choice.batch)):
        p = probabilities(state.network, x, precision)
        known = scored & (y != UNKNOWN)
        histogram += Histogram.from_arrays(p, y, known)
        of_class = np.where(y == LANDSLIDE, p, 1 - p)[known]
        loss_sum -= float(np.log(np.maximum(of_class, 1e-7), dtype=np.float64).sum())
        pixels += of_class.size
    state.network.load_state_dict(own)
    loss = loss_sum / pixels if pixels else math.nan  # a run on all ground has no validation part
    weights_are_sound = all(bool(tensor.isfinite().all()) for tensor in state.averaged.values())
    if (pixels and not math.isfinite(loss)) or not weights_are_sound:
        raise TrainingError(
            f"the weights are no longer finite at the end of epoch {state.epoch}. Lower [training] learning_rate (now "
            f"{choice.rate:g}) and start again with --overwrite."
        )
    return histogram, loss


def score_of(choice: TrainingChoice) -> str:
    """The score that epochs are compared by: that of the threshold, F1 where the threshold is given."""
    return choice.threshold if isinstance(choice.threshold, str) else "f1"


def no_longer_gains(history: Sequence[Mapping[str, float]], choice: TrainingChoice) -> bool:
    """Whether the mean validation score of the last `patience` epochs is no higher than of as many before.

    Means are compared, since one epoch's score may be high or low by chance. It follows from the history alone, so
    that a training gone on with ends where an undisturbed one does. A score that is not defined ends nothing.
    """
    if not choice.patience or len(history) < 2 * choice.patience:
        return False
    scores = [row[f"validation_{score_of(choice)}"] for row in history[-2 * choice.patience :]]
    return sum(scores[choice.patience :]) <= sum(scores[: choice.patience])


def choose(state: State, histogram: Histogram, choice: TrainingChoice) -> tuple[float, dict[str, float]]:
    """Keep the averaged weights where they are the best so far; returns their threshold, and F1 and kappa at it."""
    by = score_of(choice)
    threshold, scores = threshold_of(histogram, choice)
    score = scores[by]
    if choice.choose == "last" or not math.isfinite(score) or score > state.best_score:
        state.best = {name: tensor.clone() for name, tensor in state.averaged.items()}
        state.best_score = score if math.isfinite(score) else -math.inf
        state.best_epoch = state.epoch
        state.threshold = threshold if math.isfinite(threshold) else 0.5
    return threshold, scores


def threshold_of(histogram: Histogram, choice: TrainingChoice) -> tuple[float, dict[str, float]]:
    """The threshold that a run asks for, and F1 and kappa at it; all NaN where the histogram has no best one."""
    threshold = histogram.best_threshold(choice.threshold) if isinstance(choice.threshold, str) else choice.threshold
    if not math.isfinite(threshold):
        return threshold, {"f1": math.nan, "kappa": math.nan}
    return threshold, histogram.confusion(round(threshold, 3)).scores()
