"""What changes while a training goes on, kept after every epoch so that a killed one goes on with the same numbers."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from pathlib import Path
from typing import TypedDict

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as save_tensors

from landslip.errors import ResumeError
from landslip.models.forward import device
from landslip.runtime.atomic import atomic_write
from landslip.training.loop import State
from landslip.training.model_files import STATE


class Identity(TypedDict):
    """What a training follows from: the choices of its run, and the SHA-256 of its input files by name."""

    run: dict[str, dict[str, object]]
    inputs: dict[str, str]


class KeptState(TypedDict):
    """What a kept state says of itself beside its tensors; `identity` is an `Identity` as JSON."""

    identity: str
    epoch: int
    step: int
    best_score: float | None
    best_epoch: int
    threshold: float
    history: list[dict[str, float]]


def keep(state: State, path: Path, identity: str) -> None:
    """Write the state of a training, with what a later call must agree with to go on from it."""
    tensors = {f"network.{k}": v for k, v in state.network.state_dict().items()}
    tensors |= {f"averaged.{k}": v for k, v in state.averaged.items()}
    tensors |= {f"best.{k}": v for k, v in state.best.items()}
    for index, slots in state.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": torch.as_tensor(value) for name, value in slots.items()}
    facts: KeptState = {
        "identity": identity,
        "epoch": state.epoch,
        "step": state.step,
        "best_score": state.best_score if math.isfinite(state.best_score) else None,
        "best_epoch": state.best_epoch,
        "threshold": state.threshold,
        "history": state.history,
    }
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic_write(path, overwrite=True) as aside:
        aside.write_bytes(save_tensors(tensors, {"landslip": json.dumps(facts)}))


def kept_state(folder: Path, identity: str, overwrite: bool = False) -> KeptState | None:
    """What an interrupted training of these choices and inputs left in its folder; None where there is none.

    Raises ResumeError where it is another's or cannot be read; with `overwrite` that is as good as none.
    """
    path = folder / STATE
    if not path.exists():
        return None
    try:
        return _matching_state(path, identity)
    except ResumeError:
        if overwrite:
            return None
        raise


def difference(before: Identity, now: Identity) -> str:
    """What tells two runs apart, in words; each holds the choices of a `run` and the hashes of its `inputs`."""
    with suppress(KeyError, TypeError, AttributeError):  # the file that told of the earlier one is damaged
        changed = [name for name in now["inputs"] if before["inputs"].get(name) != now["inputs"][name]]
        if changed and before["run"]["split"]["kind"] == now["run"]["split"]["kind"]:
            return f"other inputs: {', '.join(changed)} changed since"
        for table, choices in now["run"].items():
            for key, value in choices.items():
                old = before["run"].get(table, {}).get(key)
                if old != value:
                    return f"another run: [{table}] {key} was {old!r} and is {value!r}"
    return "another run"


def restore(state: State, path: Path, facts: KeptState) -> None:
    """Bring a training to where its kept state left it; ResumeError where that is damaged."""
    try:
        _restore(state, path, facts)
    except (SafetensorError, LookupError, TypeError, ValueError, RuntimeError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ResumeError(f"{path} cannot be read: {reason}. Start anew with --overwrite.") from error


def _matching_state(path: Path, identity: str) -> KeptState:
    """What the kept state at a path says of itself; ResumeError where it is another's or cannot be read."""
    try:
        with safe_open(path, "pt") as file:
            facts: KeptState = json.loads(file.metadata()["landslip"])
            before = json.loads(facts["identity"])
    except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
        raise ResumeError(f"{path} cannot be read: {str(error)[:200]}. Start anew with --overwrite.") from error
    if before != (now := json.loads(identity)):
        raise ResumeError(f"{path} belongs to {difference(before, now)}. Start anew with --overwrite, or undo that.")
    return facts


def _restore(state: State, path: Path, facts: KeptState) -> None:
    """As `restore`; raises whatever a damaged file leads to."""
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
        # The fused optimizer walks memory as it lies, so that moments must lie as their weights do.
        if tensor.ndim:
            tensor = torch.empty_like(parameters[int(index)]).copy_(tensor)
        slots.setdefault(int(index), {})[slot] = tensor
    if len({frozenset(slot) for slot in slots.values()}) > 1:
        raise ValueError("what the optimizer keeps of each weight differs")
    groups = state.optimizer.state_dict()["param_groups"]
    state.optimizer.load_state_dict({"state": slots, "param_groups": groups})
    state.epoch, state.step = facts["epoch"], facts["step"]
    state.best_score = -math.inf if facts["best_score"] is None else facts["best_score"]
    state.best_epoch, state.threshold, state.history = facts["best_epoch"], facts["threshold"], facts["history"]
